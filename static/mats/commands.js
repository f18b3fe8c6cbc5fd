// Buttons: post to the API with the CSRF token, then wait for the command's outcome and say it.
const POLL_MS = 1500;
const FINAL = new Set(["done", "failed", "expired"]);
const pending = new Map();

const token = () => document.querySelector('meta[name="csrf-token"]')?.content ?? "";

export function requestKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function say(text, tone = "") {
  const line = document.createElement("div");
  line.className = "toast-line";
  line.dataset.tone = tone;
  const words = document.createElement("span");
  words.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "×";
  close.setAttribute("aria-label", "Dismiss");
  close.addEventListener("click", () => line.remove());
  line.append(words, close);
  document.getElementById("toasts").append(line);
  setTimeout(() => line.remove(), tone === "bad" ? 30000 : 5000);
}

export async function outcome(answer) {
  return new Promise((resolve) => {
    const timer = setInterval(async () => {
      const reply = await fetch(answer.status_url, { headers: { Accept: "application/json" } }).catch(() => null);
      if (reply?.ok) settle(await reply.json());
    }, POLL_MS);
    pending.set(answer.command_id, (command) => { clearInterval(timer); pending.delete(answer.command_id); resolve(command); });
  });
}

// Called with command events from the socket and with polled answers; whichever comes first wins.
export function settle(command) {
  const id = command.id ?? command.command_id;
  if (FINAL.has(command.state)) pending.get(id)?.(command);
}

// What the engine has to say beside «done»: in the command's event, or in the result of the polled answer.
export const noteOf = (command) => command.note || command.result?.note || "";

export async function send(button, address, what) {
  if (button.classList.contains("busy")) return;
  button.classList.add("busy");
  button.setAttribute("aria-busy", "true");
  try {
    const reply = await fetch(address, {
      method: "POST",
      headers: { "X-CSRFToken": token(), "Idempotency-Key": requestKey(), Accept: "application/json" },
    });
    const body = await reply.json().catch(() => ({}));
    if (!reply.ok) {
      say(`${what}: ${body.error?.message ?? `the server answered ${reply.status}.`}`, "bad");
    } else if (reply.status === 202) {
      const command = await outcome(body);
      if (command.state === "done") say([`${what}: done.`, noteOf(command)].filter(Boolean).join(" "), "good");
      else say(`${what}: ${command.error || command.state}`, "bad");
    } else {
      say(`${what}: done.`, "good");
    }
  } catch {
    say(`${what}: the server cannot be reached; nothing was sent.`, "bad");
  } finally {
    button.classList.remove("busy");
    button.removeAttribute("aria-busy");
  }
}

// What a button may do in a state; the engine decides in the end, this only spares a useless click.
export function allow(root, state) {
  const start = root.querySelector('[data-command="start"]'), stop = root.querySelector('[data-command="stop"]');
  if (start) start.disabled = !["stopped", "failed"].includes(state);
  if (stop) stop.disabled = !["starting", "running"].includes(state);
}

export function bindButtons() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-command], button[data-cancel]");
    if (!button || button.disabled) return;
    if (button.dataset.cancel !== undefined) {
      const reference = button.dataset.cancel;
      const path = reference.split("/").map(encodeURIComponent).join("/");
      send(button, `/api/trade/orders/${path}/cancel`, `Cancel ${reference}`);
      return;
    }
    const command = button.dataset.command;
    const symbol = button.closest("[data-symbol]")?.dataset.symbol;
    const title = command[0].toUpperCase() + command.slice(1).replace("-", " ");
    if (symbol) send(button, `/api/strategies/${encodeURIComponent(symbol)}/${command}`, `${title} ${symbol}`);
    else send(button, `/api/strategies/${command}`, title);
  });
}
