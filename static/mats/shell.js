// What all pages share: state of page and engine in the header, banners, the log strip, fills.
import { allow, bindButtons, settle } from "./commands.js";
import { $, Feed, put } from "./feed.js";
import { bindForms } from "./forms.js";
import { clock, money, price, quantity, whole } from "./format.js";
import { Live } from "./live.js";
import { bindRegions, kinds, touch } from "./regions.js";

const NO_ENGINE = "No engine is running: nothing trades and buttons have no effect. Start it with make run or manage.py run_engine.";

export const state = JSON.parse(document.getElementById("state").textContent);

export function paint(row, owner) {
  row.querySelector(".dot circle")?.setAttribute("fill", state.colors[owner] ?? "#8a94a6");
}

export const sideOf = (side) => (String(side).toUpperCase().startsWith("B") ? "BUY" : "SELL");

function chip(id, tone, text, title) {
  const badge = document.getElementById(id);
  if (!badge) return;
  badge.dataset.tone = tone;
  put(badge, "text", text);
  if (title) badge.title = title;
}

function showStatus(status, seconds) {
  if (status === "stale") chip("live-badge", "bad", `stale ${seconds} s`, "Nothing heard from the server; figures may be old.");
  else if (status === "live") chip("live-badge", "good", "live", "This page follows every event.");
  else chip("live-badge", "warn", "connecting", "Connecting to the server.");
  document.body.dataset.live = status;
}

const engineWords = (engine) => (engine.running ? (engine.status.state ?? "running").replaceAll("_", " ") : "not running");

export function showEngine(engine) {
  state.engine = engine;
  const word = engineWords(engine);
  const status = engine.status ?? {};
  const age = engine.age_s === null ? "never" : `${engine.age_s.toFixed(1)} s ago`;
  const tone = word === "running" ? "good" : engine.running ? "warn" : "bad";
  const figures = `Heartbeat ${age}, epoch ${engine.epoch}, queue ${status.queue?.size ?? "–"}, memory ${whole(status.memory_mb)} MB`;
  chip("engine-badge", tone, `Engine ${word}`, figures);
  const facts = $("#engine-facts");
  if (facts) {
    put(facts, "age", age);
    put(facts, "epoch", String(engine.epoch));
    put(facts, "queue", `${status.queue?.size ?? "–"} / ${status.queue?.high_water ?? "–"}`);
    put(facts, "memory", `${whole(status.memory_mb)} MB`);
  }
  const banner = $("#engine-banner");
  banner.hidden = word === "running";
  if (!banner.hidden) {
    put(banner, "text", engine.running ? `Engine: ${word}${status.message ? ` – ${status.message}` : ""}` : NO_ENGINE);
  }
}

export function showBreak(row) {
  const same = (known) => (row.kind === "cash" ? known.kind === "cash" && known.currency === row.currency : known.con_id === row.con_id);
  const rest = state.breaks.filter((known) => !same(known));
  state.breaks = row.state === "open" ? [...rest, row] : rest;
  const banner = $("#breaks-banner");
  banner.hidden = !state.breaks.length;
  const words = ({ kind, currency, symbol, ib_quantity, ledger_quantity }) =>
    `${kind === "cash" ? `cash in ${currency}` : `${symbol}, locked`} (IB ${quantity(ib_quantity)}, books ${quantity(ledger_quantity)})`;
  put(banner, "list", state.breaks.map(words).join(", "));
}

function fillFields(row, fill) {
  if (fill.symbol !== undefined) {
    paint(row, fill.strategy);
    put(row, "time", clock(fill.executed_at));
    put(row, "owner", fill.strategy);
    put(row, "side", sideOf(fill.side)).dataset.side = sideOf(fill.side);
    put(row, "quantity", quantity(Math.abs(Number(fill.quantity))));
    put(row, "symbol", fill.symbol);
    put(row, "price", price(fill.price));
  }
  if (fill.commission !== undefined) put(row, "commission", money(fill.commission));
}

function logFields(row, line) {
  row.dataset.level = line.level;
  put(row, "time", clock(line.at));
  put(row, "level", line.level);
  put(row, "strategy", line.strategy || "engine");
  put(row, "text", line.text);
}

// IB corrects an execution by sending it again with a higher last segment: one row for all its revisions.
const family = (execId) => String(execId).replace(/^(.+\..+\..+)\.\d+$/, "$1");

class Log extends Feed {
  constructor() {
    super({ body: $("#log"), template: "log-row", fill: logFields, cap: 400, newestFirst: false, empty: $("#log-empty") });
    this.paused = false;
    const pause = $("#log-pause");
    pause.addEventListener("click", () => {
      this.paused = !this.paused;
      pause.setAttribute("aria-pressed", String(this.paused));
      pause.lastElementChild.textContent = this.paused ? "Resume" : "Pause";
      this.flush();
    });
    $("#log-level").addEventListener("change", (event) => { this.body.dataset.min = event.target.value; this.toEnd(); });
    $("#log-clear").addEventListener("click", () => this.clear());
    this.toEnd();
  }

  toEnd() { this.body.scrollTop = this.body.scrollHeight; }

  flush() {
    if (this.paused) return;
    const atEnd = this.body.scrollHeight - this.body.scrollTop - this.body.clientHeight < 40;
    super.flush();
    if (atEnd) this.toEnd();
  }
}

// Fills and log are followed where the page has them.
function startFeeds(live, strategy) {
  const feeds = [];
  if ($("#fills")) {
    const fills = new Feed({ body: $("#fills tbody"), template: "fill-row", fill: fillFields, key: family, cap: 200, empty: $("#fills-empty") });
    live.on("fill", (fill) => fills.set(fill.exec_id, fill));
    live.on("commission", (fee) => fills.set(fee.exec_id, { commission: fee.commission, partial: true }));
    feeds.push(fills);
  }
  if ($("#log")) {
    const log = new Log();
    live.on("log", (line, event) => { if (!strategy || line.strategy === strategy) log.set(event.id, { ...line, at: event.at }); });
    feeds.push(log);
  }
  return feeds;
}

export function startShell(strategy) {
  const live = new Live(state.last, strategy);
  const feeds = startFeeds(live, strategy);
  live.onStatus = showStatus;
  live.onHeartbeat = showEngine;
  live.onBatch = () => feeds.forEach((feed) => feed.flush());
  live.on("command", settle);
  live.on("break", showBreak);
  live.on("engine", (engine) => {
    showEngine({ ...state.engine, running: engine.state !== "stopped", epoch: engine.epoch, status: { ...state.engine.status, state: engine.state, message: engine.message } });
  });
  live.onEvent = (kind) => { if (kinds().has(kind)) touch(kind); };
  bindButtons();
  bindForms();
  bindRegions();
  document.querySelectorAll("[data-state]:has(.run-buttons)").forEach((row) => allow(row, row.dataset.state));
  showEngine(state.engine);
  return { live, feeds };
}

export function showRun(root, run) {
  root.dataset.state = run.state;
  const badge = put(root, "state", run.state);
  if (badge) badge.dataset.state = run.state;
  const message = put(root, "message", run.message);
  if (message) { message.hidden = !run.message; message.title = run.message; }
  put(root, "client", run.client_id === null ? "–" : String(run.client_id));
  allow(root, run.state);
}
