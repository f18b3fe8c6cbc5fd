// A strategy's page: its money, positions, open orders, price with its fills, equity.
import { Book } from "./book.js";
import { EquityChart, PriceChart } from "./charts.js";
import { $, Feed, put } from "./feed.js";
import { clock, given, minus, money, price, quantity, signed, tone } from "./format.js";
import { showRun, sideOf, startShell, state } from "./shell.js";

const FINAL = new Set(["denied", "filled", "cancelled", "rejected"]);
const symbol = state.strategy.symbol;
const tiles = $("#tiles");
const book = new Book(state.positions);
const bars = new Map(Object.entries(state.bars));
const fills = new Map(state.fills.map((fill) => [fill.exec_id, fill]));
let start = state.strategy.day_start_equity;
let shown = state.instruments[0]?.con_id ?? null;

const equity = new EquityChart($("#equity-chart"), $("#equity-empty"), state.equity, state.colors, "value");
const prices = new PriceChart($("#price-chart"), $("#price-empty"));
const positions = new Feed({ body: $("#positions tbody"), template: "position-row", fill: positionFields, newestFirst: false, empty: $("#positions-empty") });
const orders = new Feed({ body: $("#orders tbody"), template: "order-row", fill: orderFields, empty: $("#orders-empty") });

function positionFields(row, position) {
  const unrealized = book.unrealized(position);
  put(row, "symbol", position.symbol);
  put(row, "quantity", quantity(position.quantity));
  put(row, "cost", price(position.average_cost));
  put(row, "mark", price(book.marks.get(position.con_id)));
  put(row, "value", money(book.value(position)));
  put(row, "unrealized", signed(unrealized), tone(unrealized));
}

function orderFields(row, order) {
  put(row, "time", clock(order.created_at ?? order.updated_at));
  put(row, "side", sideOf(order.side)).dataset.side = sideOf(order.side);
  put(row, "quantity", `${quantity(order.filled)}/${quantity(order.quantity)}`);
  put(row, "symbol", order.symbol);
  put(row, "type", order.order_type);
  put(row, "price", price(order.limit_price ?? order.stop_price));
  put(row, "state", order.state).dataset.state = order.state;
  const cancel = row.querySelector("[data-cancel]");
  if (cancel) { cancel.dataset.cancel = order.order_ref; cancel.setAttribute("aria-label", `Cancel ${order.order_ref}`); }
}

const drawPrices = () => prices.show(bars.get(String(shown)) ?? [], [...fills.values()].filter((fill) => fill.con_id === shown));

async function choose(conId) {
  shown = conId;
  for (const button of document.querySelectorAll("#instruments button")) button.setAttribute("aria-pressed", String(Number(button.dataset.conId) === conId));
  if (!bars.has(String(conId))) {
    const reply = await fetch(`/api/market/bars?con_id=${conId}`, { headers: { Accept: "application/json" } }).catch(() => null);
    bars.set(String(conId), reply?.ok ? (await reply.json()).items : []);
  }
  drawPrices();
}

function addInstrument(row) {
  if (document.querySelector(`#instruments [data-con-id="${Number(row.con_id)}"]`)) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "btn-small";
  button.dataset.conId = row.con_id;
  button.textContent = row.symbol;
  button.setAttribute("aria-pressed", "false");
  $("#instruments").append(button);
  if (shown === null) choose(row.con_id);
}

function showPosition(position) {
  if (position.strategy !== symbol) return;
  book.position(position);
  if (Number(position.quantity) === 0) positions.remove(position.con_id);
  else positions.set(position.con_id, position);
}

function showMarks({ marks }) {
  book.mark(marks);
  for (const row of book.rows.values()) if (marks[row.con_id] !== undefined) positions.set(row.con_id, row);
}

function showOrder(order) {
  if (FINAL.has(order.state)) orders.remove(order.order_ref);
  else orders.set(order.order_ref, order);
}

function showEquity({ at, rows }) {
  const own = rows.filter((row) => row.owner === symbol);
  if (!own.length) return;
  equity.add(at, own);
  start ??= given(own[0]);
  const day = minus(own[0].equity, start);
  put(tiles, "equity", money(own[0].equity));
  put(tiles, "day_pnl", signed(day), tone(day));
  for (const name of ["unrealized_pnl", "realized_pnl"]) put(tiles, name, signed(own[0][name]), tone(own[0][name]));
}

function showCash(cash) {
  if (cash.strategy !== symbol) return;
  const rows = new Map(state.cash.map((row) => [row.currency, row.amount]));
  rows.set(cash.currency, cash.amount);
  state.cash = [...rows].map(([currency, amount]) => ({ currency, amount }));
  put(tiles, "cash", state.cash.map((row) => money(row.amount)).join(" · "));
}

// What its code made of its bars; nothing is known of one that does not run.
function showReactive(told) {
  const panel = $("#reactive");
  if (!panel) return;
  const { metrics, signals, followed } = told ?? {};
  const say = (name, value) => put(panel, name, told ? String(value()) : "–");
  say("handled", () => metrics.notifications_processed);
  say("errors", () => metrics.errors);
  for (const name of ["received", "traded", "refused"]) say(name, () => signals[name]);
  say("idle", () => `${signals.idle}, ${signals.hold}`);
  say("taken", () => `${metrics.avg_processing_time_ms.toFixed(2)}, ${metrics.max_processing_time_ms.toFixed(1)}`);
  say("waits", () => `${metrics.overruns}, ${metrics.queue_size}`);
  say("followed", () => followed.map((one) => `${one.symbol} ${one.interval} (${one.bars}, ${Math.round(one.quality)} %)`).join(" · ") || "–");
  say("refusal", () => signals.last_refusal || "–");
}

const { live, feeds } = startShell(symbol);
feeds.push(positions, orders);
const keepFill = live.handlers.get("fill");
live.on("fill", (fill) => {
  keepFill(fill);
  fills.set(fill.exec_id, { ...fill, side: sideOf(fill.side) });
  addInstrument(fill);
  if (fill.con_id === shown) drawPrices();
});
live.on("bar", (bar) => {
  const known = bars.get(String(bar.con_id));
  if (known) known.push(bar);
  if (bar.con_id === shown) prices.add(bar);
});
live.on("position", showPosition);
live.on("marks", showMarks);
const beat = live.onHeartbeat;
live.onHeartbeat = (engine, now) => {
  beat(engine, now);
  showReactive(engine.running ? engine.status?.reactive?.[symbol] : undefined);
};
live.on("order", showOrder);
live.on("cash", showCash);
live.on("equity", showEquity);
live.on("strategy", (run) => { if (run.symbol === symbol) showRun($("#head"), run); });
$("#instruments").addEventListener("click", (event) => {
  const button = event.target.closest("[data-con-id]");
  if (button) choose(Number(button.dataset.conId));
});
if (shown !== null) choose(shown);
live.start();
