// Parts of a page that the server draws: an event that concerns one has it drawn again and put in place.
// What a person has open or is typing in is left alone; it is brought up to date when he has finished.
const WAIT_MS = 500;
const EASE = 4; // a page that is slow to draw is drawn less often

const dirty = new Set();
let timer = null;
let running = false;
let took = 0;

const regions = () => [...document.querySelectorAll("[data-live]")];
const isBusy = (region) => region.querySelector("form[data-dirty]") !== null
  || (region.contains(document.activeElement) && document.activeElement.matches("input, select, textarea"));

// Opened details, opened forms and explained contracts survive the replacement.
function remember(region) {
  return {
    details: [...region.querySelectorAll("details[open][data-keep]")].map((one) => one.dataset.keep),
    forms: [...region.querySelectorAll("tr.form-row:not([hidden])")].map((one) => one.id),
    rows: [...region.querySelectorAll("tr.explained")].map((part) => [part.previousElementSibling?.dataset.contract, part]),
    scroll: region.scrollTop,
  };
}

function recall(region, kept) {
  for (const one of region.querySelectorAll("details[data-keep]")) one.open = kept.details.includes(one.dataset.keep);
  for (const id of kept.forms) toggleForm(document.getElementById(id), true);
  for (const [conId, part] of kept.rows) expand(region.querySelector(`tr[data-contract="${CSS.escape(conId ?? "")}"] [data-expand]`), part);
  region.scrollTop = kept.scroll;
}

async function draw(source, wanted) {
  const reply = await fetch(source, { headers: { "X-Requested-With": "fetch" } });
  if (!reply.ok || reply.redirected) return;
  const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
  for (const region of wanted) {
    const drawn = fresh.getElementById(region.id);
    if (!drawn || !region.isConnected) continue;
    if (isBusy(region)) { dirty.add(region.id); continue; }
    const kept = remember(region);
    const place = document.importNode(drawn, true);
    region.replaceWith(place);
    recall(place, kept);
  }
}

async function refresh() {
  timer = null;
  if (running) { later(); return; }
  running = true;
  const began = performance.now();
  const bySource = new Map();
  for (const region of regions().filter((one) => dirty.delete(one.id))) {
    const source = region.dataset.source ?? location.pathname + location.search;
    bySource.set(source, [...(bySource.get(source) ?? []), region]);
  }
  try {
    for (const [source, wanted] of bySource) await draw(source, wanted);
  } catch { /* the page says by itself that it is stale; the next event tries again */ }
  took = performance.now() - began;
  running = false;
}

function later() { timer ??= setTimeout(refresh, Math.max(WAIT_MS, EASE * took)); }

// Events of a kind concern the regions that name it; "" means all of them.
export function touch(kind = "") {
  const concerned = regions().filter((region) => region.id && (!kind || region.dataset.live.split(" ").includes(kind)));
  for (const region of concerned) dirty.add(region.id);
  if (concerned.length) later();
}

export function kinds() { return new Set(regions().flatMap((region) => region.dataset.live.split(" "))); }

// ``known`` is the part as it was drawn before: it stays until the new one is there.
async function expand(button, known = null) {
  if (!button) return;
  const row = button.closest("tr");
  const part = known ?? document.createElement("tr");
  if (!known) {
    part.className = "explained";
    const cell = part.insertCell();
    cell.colSpan = row.children.length;
    cell.textContent = "Reading…";
  }
  row.after(part);
  button.setAttribute("aria-expanded", "true");
  const reply = await fetch(`${button.dataset.expand}?part=1`).catch(() => null);
  const cell = part.cells[0];
  if (!reply?.ok) { if (!known) cell.textContent = "This could not be read; close it and try again."; return; }
  const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
  if (isBusy(part)) return;
  const kept = remember(part);
  cell.replaceChildren(...[...fresh.body.children].map((child) => document.importNode(child, true)));
  recall(part, kept);
}

function collapse(button) {
  const part = button.closest("tr").nextElementSibling;
  if (part?.classList.contains("explained")) part.remove();
  button.setAttribute("aria-expanded", "false");
}

function toggleForm(form, open) {
  if (!form) return;
  form.hidden = !open;
  for (const button of document.querySelectorAll(`[data-toggle="${CSS.escape(form.id)}"]`)) button.setAttribute("aria-expanded", String(open));
}

export function bindRegions() {
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-expand]");
    if (opener) { if (opener.getAttribute("aria-expanded") === "true") collapse(opener); else expand(opener); return; }
    const toggle = event.target.closest("[data-toggle]");
    if (!toggle) return;
    const form = document.getElementById(toggle.dataset.toggle);
    toggleForm(form, form?.hidden);
    if (form && !form.hidden) form.querySelector("select, input:not([type=hidden])")?.focus();
  });
  document.addEventListener("input", (event) => { const form = event.target.closest("form[data-action]"); if (form) form.dataset.dirty = "yes"; });
  document.addEventListener("focusout", () => { if (dirty.size) later(); });
}
