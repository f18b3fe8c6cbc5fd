// One backtest, or several beside each other: their curves; the rest is drawn by the server.
import { EquityChart, FractionChart } from "./charts.js";
import { $ } from "./feed.js";
import { startShell, state } from "./shell.js";

const { live } = startShell("");
const LINES = ["--accent", "--loss", "--gain", "--warn", "--text", "--dim"];
const color = (place) => getComputedStyle(document.documentElement).getPropertyValue(LINES[place % LINES.length]).trim();
const lineOf = (label, place) => ({ label, color: LINES[place % LINES.length] });

if (state.curves) {
  const { at = [], names = [], equity = [], drawdown = [] } = state.curves;
  const owners = Object.fromEntries(names.map((name, place) => [name, equity[place]]));
  const colors = Object.fromEntries(names.map((name, place) => [name, color(place)]));
  new EquityChart($("#equity-chart"), $("#equity-empty"), { at, owners }, colors, "value");
  new FractionChart($("#drawdown-chart"), $("#drawdown-empty"), [at, ...drawdown], names.map(lineOf));
}
if (state.compared && $("#compared-chart")) {
  const { at, lines } = state.compared;
  new FractionChart($("#compared-chart"), $("#compared-empty"), [at, ...Object.values(lines)], Object.keys(lines).map(lineOf));
}
live.start();
