// The dashboard: account tiles, strategies, connections and the equity chart follow the events.
import { Book } from "./book.js";
import { EquityChart } from "./charts.js";
import { $, Feed, put } from "./feed.js";
import { clock, given, minus, money, percent, signed, tone } from "./format.js";
import { showRun, startShell, state } from "./shell.js";

const tiles = $("#tiles");
const book = new Book(state.positions);
const starts = new Map(state.strategies.map((row) => [row.symbol, row.day_start_equity]));
const chart = new EquityChart($("#equity-chart"), $("#equity-empty"), state.equity, state.colors, "change");
const connections = new Feed({ body: $("#connections"), template: "connection-row", fill: connectionFields, cap: 120, newestFirst: false });
const rowOf = (symbol) => document.querySelector(`tr[data-strategy="${CSS.escape(symbol)}"]`);

function connectionFields(row, connection) {
  row.dataset.up = connection.connected ? "yes" : "no";
  row.title = connection.message ?? "";
  put(row, "id", String(connection.client_id));
  put(row, "name", connection.name);
  put(row, "word", connection.connected ? "connected" : "down");
}

function showAccount(account) {
  Object.assign(state.account, account);
  const { net_liquidation: value, day_start: start, currency } = state.account;
  const day = minus(value, start);
  put(tiles, "net_liquidation", money(value));
  put(tiles, "currency", currency ? `${currency}, as IB said at ${clock(state.account.at)}` : "waiting for the account");
  put(tiles, "cash", money(state.account.cash));
  put(tiles, "day_pnl", signed(day), tone(day));
  if (day !== null && Number(start)) put(tiles, "day_percent", `${day > 0 ? "+" : ""}${percent(day / Number(start))} since 00:00 UTC`);
  for (const name of ["unrealized_pnl", "realized_pnl"]) put(tiles, name, signed(state.account[name]), tone(state.account[name]));
}

function showExposure() {
  const { gross, uncounted } = book.gross(state.account.currency);
  put(tiles, "gross", money(gross));
  put(tiles, "gross_note", uncounted.length ? `without ${uncounted.join(", ")}` : "Σ |position × mark|");
}

function showEquity({ at, rows }) {
  chart.add(at, rows);
  for (const figures of rows) {
    if (figures.owner === "" && state.account.day_start === null) state.account.day_start = figures.equity;
    const row = figures.owner && rowOf(figures.owner);
    if (!row) continue;
    if (starts.get(figures.owner) == null) starts.set(figures.owner, given(figures));
    const day = minus(figures.equity, starts.get(figures.owner));
    put(row, "equity", money(figures.equity));
    put(row, "day_pnl", signed(day), tone(day));
    for (const name of ["unrealized_pnl", "realized_pnl"]) put(row, name, signed(figures[name]), tone(figures[name]));
  }
}

function showPosition(position) {
  book.position(position);
  const row = rowOf(position.strategy);
  if (row) put(row, "positions", String(book.count(position.strategy)));
}

const { live, feeds } = startShell("");
feeds.push(connections);
live.on("account", showAccount);
live.on("equity", showEquity);
live.on("position", (position) => { showPosition(position); showExposure(); });
live.on("marks", ({ marks }) => { book.mark(marks); showExposure(); });
live.on("strategy", (run) => { const row = rowOf(run.symbol); if (row) showRun(row, run); });
live.on("connection", (connection) => {
  if (connection.role === "strategy" && !connection.connected && connection.message === "") connections.remove(connection.client_id);
  else connections.set(connection.client_id, connection);
});
const beat = live.onHeartbeat;
live.onHeartbeat = (engine) => {
  beat(engine);
  showConnections(engine);
};

// The heartbeat carries the whole list, so that a client id given back disappears here too.
function showConnections(engine) {
  const told = engine.status?.connections;
  if (!told) return;
  const ids = new Set(["0", "99", ...told.map((row) => String(row.client_id))]);
  for (const key of [...connections.rows.keys()]) if (!ids.has(key)) connections.remove(key);
  for (const row of told) connections.set(row.client_id, { ...row, connected: engine.running && row.connected });
  connections.flush();
}

for (const button of document.querySelectorAll("[data-equity-mode]")) {
  button.addEventListener("click", () => {
    for (const other of document.querySelectorAll("[data-equity-mode]")) other.setAttribute("aria-pressed", String(other === button));
    chart.setMode(button.dataset.equityMode);
  });
}
showAccount({});
live.start();
