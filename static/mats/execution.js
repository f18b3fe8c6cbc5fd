// The order ticket: only the fields that the chosen type needs, and instruments found while one types.
// The server checks everything again; without this script all fields are there and symbols are written out.
import { startShell } from "./shell.js";

const SEARCH_MS = 350;
const ticket = document.getElementById("ticket");

const field = (name) => ticket.elements[name];
const takes = (list, value) => list.split("|").includes(value);

function show(part, on) {
  part.hidden = !on;
  for (const input of part.querySelectorAll("input, select")) input.disabled = !on;
}

function arrange() {
  const type = field("order_type").value;
  for (const part of ticket.querySelectorAll(".field[data-for]")) show(part, takes(part.dataset.for, type));
  for (const part of ticket.querySelectorAll("[data-for-kind]")) show(part, takes(part.dataset.forKind, field("sec_type").value));
  const tif = field("tif");
  for (const option of tif.options) option.hidden = option.disabled = !takes(option.dataset.for, type);
  if (tif.selectedOptions[0]?.disabled) tif.value = "DAY";
  for (const part of ticket.querySelectorAll("[data-for-tif]")) show(part, takes(part.dataset.forTif, tif.value));
}

let timer = null;
let counter = 0;

async function search() {
  const number = ++counter;
  const place = document.getElementById("found");
  if (!field("symbol").value.trim()) { place.replaceChildren(); return; }
  place.setAttribute("aria-busy", "true");
  const reply = await fetch(ticket.dataset.search, { method: "POST", body: new FormData(ticket) }).catch(() => null);
  if (number !== counter) return;
  place.removeAttribute("aria-busy");
  if (!reply?.ok) { place.textContent = "The search could not be made."; return; }
  const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
  place.replaceChildren(...[...fresh.body.children].map((child) => document.importNode(child, true)));
}

function pick(button) {
  counter += 1;
  clearTimeout(timer);
  field("con_id").value = button.dataset.pick;
  field("symbol").value = button.dataset.symbolOf;
  if ([...field("sec_type").options].some((option) => option.value === button.dataset.secType)) field("sec_type").value = button.dataset.secType;
  field("currency").value = button.dataset.currency;
  document.getElementById("found").replaceChildren();
  arrange();
  field("quantity").focus();
}

function bindTicket() {
  ticket.addEventListener("change", arrange);
  ticket.addEventListener("reset", () => setTimeout(() => { field("con_id").value = ""; document.getElementById("found").replaceChildren(); arrange(); }));
  for (const name of ["symbol", "sec_type", "currency", "exchange", "expiry"]) field(name).addEventListener("input", () => { field("con_id").value = ""; });
  field("symbol").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(search, SEARCH_MS); });
  ticket.addEventListener("click", (event) => { const button = event.target.closest("[data-pick]"); if (button) pick(button); });
  arrange();
}

if (ticket) bindTicket();
startShell("").live.start();
