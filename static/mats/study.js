// One sweep or walk-forward: its equity, and the objective over one parameter; the rest is drawn by the server.
import { EquityChart, ParameterChart } from "./charts.js";
import { $ } from "./feed.js";
import { startShell, state } from "./shell.js";

const { live } = startShell("");
if ($("#equity-chart")) {
  const { at, names, equity } = state.curves;
  const accent = getComputedStyle(document.documentElement).getPropertyValue("--accent").trim();
  const owners = Object.fromEntries(names.map((name, place) => [name, equity[place]]));
  const colors = Object.fromEntries(names.map((name) => [name, accent]));
  new EquityChart($("#equity-chart"), $("#equity-empty"), { at, owners }, colors, "value");
}
if ($("#line-chart")) new ParameterChart($("#line-chart"), $("#line-empty"), state.line, state.objective);
live.start();
