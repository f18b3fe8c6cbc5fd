// The list of backtests: while one is under way the page's tables are fetched anew every second.
import { $ } from "./feed.js";
import { startShell } from "./shell.js";

const EVERY_MS = 1000;
const { live } = startShell("");

async function refresh() {
  const before = $("#under-way");
  if (!before || !before.hasAttribute("data-busy")) return;
  try {
    const answer = await fetch(location.pathname, { headers: { Accept: "text/html" } });
    if (answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const after = page.querySelector("#under-way");
      // What is over has a row among the runs: those ticked are kept by not touching the table before.
      if (after && !after.hasAttribute("data-busy")) { location.reload(); return; }
      if (after && !before.contains(document.activeElement)) before.replaceWith(after);
    }
  } catch { /* the header says that the server does not answer */ }
  setTimeout(refresh, EVERY_MS);
}

setTimeout(refresh, EVERY_MS);
live.start();
