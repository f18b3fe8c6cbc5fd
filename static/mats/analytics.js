// Charts of the analytics page: the equity follows the events, the rest is of the days before.
import { EquityChart, FractionChart } from "./charts.js";
import { $ } from "./feed.js";
import { startShell, state } from "./shell.js";

const { live } = startShell("");
const { returns, drawdown, exposure } = state.record;
const chart = new EquityChart($("#owner-equity"), $("#owner-equity-empty"), state.equity, state.colors, "value");
new FractionChart($("#returns-chart"), $("#returns-empty"), returns, [{ label: "Return", color: "--accent", filled: true }]);
new FractionChart($("#drawdown-chart"), $("#drawdown-empty"), drawdown, [{ label: "Drawdown", color: "--loss", filled: true }]);
new FractionChart($("#exposure-chart"), $("#exposure-empty"), exposure, [{ label: "Gross", color: "--accent" }, { label: "Net", color: "--warn" }]);
live.on("equity", ({ at, rows }) => {
  const own = rows.filter((row) => row.owner === state.owner);
  if (own.length) chart.add(at, own);
});
live.start();
