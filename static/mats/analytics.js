// Charts of the analytics page.
import { EquityChart } from "./charts.js";
import { $ } from "./feed.js";
import { startShell, state } from "./shell.js";

const { live } = startShell("");
const chart = new EquityChart($("#equity-chart"), $("#equity-empty"), state.equity, state.colors, "value");
live.on("equity", ({ at, rows }) => {
  const own = rows.filter((row) => row.owner === state.owner);
  if (own.length) chart.add(at, own);
});
live.start();
