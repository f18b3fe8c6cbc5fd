// Forms that ask the engine: posted with a key of their own, then the outcome is awaited and said.
// Only what the engine acknowledged is called done. Without this script the same forms work as plain posts.
import { noteOf, outcome, requestKey, say } from "./commands.js";
import { touch } from "./regions.js";

const PREVIEW_MS = 350;

function showErrors(form, error) {
  for (const place of form.querySelectorAll("[data-error]")) place.textContent = error?.errors?.[place.dataset.error] ?? "";
  const line = form.querySelector(".form-error");
  if (!line) return;
  line.textContent = error?.message ?? "";
  line.hidden = !error;
}

function busy(form, on) {
  form.setAttribute("aria-busy", String(on));
  for (const button of form.querySelectorAll("button")) button.classList.toggle("busy", on);
}

async function finish(form, what, answer) {
  const finished = await Promise.all(answer.commands.map(outcome));
  const failed = finished.filter((command) => command.state !== "done");
  if (failed.length) {
    const words = [...new Set(failed.map((command) => command.error || command.state))].join(" ");
    const part = finished.length > failed.length ? ` (${finished.length - failed.length} of ${finished.length} were done)` : "";
    showErrors(form, { message: words + part });
    say(`${what}: ${words}${part}`, "bad");
  } else {
    delete form.dataset.dirty;
    form.reset();
    form.querySelector("#preview")?.replaceChildren();
    say([`${what}: done.`, answer.note, ...finished.map(noteOf)].filter(Boolean).join(" "), "good");
  }
  document.activeElement?.blur();
  touch();
}

async function submit(form, submitter) {
  if (form.getAttribute("aria-busy") === "true") return;
  const what = form.dataset.action;
  const body = new FormData(form);
  if (submitter?.name) body.set(submitter.name, submitter.value);
  showErrors(form, null);
  busy(form, true);
  try {
    const reply = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json", "Idempotency-Key": requestKey(), "X-CSRFToken": document.querySelector('meta[name="csrf-token"]')?.content ?? "" } });
    const answer = await reply.json().catch(() => ({}));
    if (reply.status === 202) await finish(form, what, answer);
    else {
      const error = answer.error ?? { message: reply.status === 403 ? "Your role does not include it." : `The server answered ${reply.status}.` };
      showErrors(form, error);
      say(`${what}: ${error.message}`, "bad");
    }
  } catch {
    say(`${what}: the server cannot be reached; look whether it was done before you send it again.`, "bad");
  } finally {
    busy(form, false);
  }
}

let counter = 0;
async function preview(form) {
  const number = ++counter;
  const place = form.querySelector("#preview");
  const reply = await fetch(`${form.dataset.preview}?part=1`, { method: "POST", body: new FormData(form) }).catch(() => null);
  if (number !== counter || !place) return;
  if (!reply?.ok) { place.textContent = "The preview could not be made."; return; }
  const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
  place.replaceChildren(...[...fresh.body.children].map((child) => document.importNode(child, true)));
}

export function bindForms() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("form[data-action]")) return;
    event.preventDefault();
    if (event.submitter?.hasAttribute("data-preview-button")) preview(form);
    else submit(form, event.submitter);
  });
  let timer = null;
  document.addEventListener("input", (event) => {
    const form = event.target.closest("form[data-preview]:not([data-preview-by])");
    if (!form) return;
    clearTimeout(timer);
    timer = setTimeout(() => preview(form), PREVIEW_MS);
  });
  const filled = document.querySelector("form[data-preview]");
  if (filled && new URLSearchParams(location.search).has("amount")) preview(filled);
}
