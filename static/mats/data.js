// One series: its closes as a line; the rest is drawn by the server.
import { PriceChart } from "./charts.js";
import { $ } from "./feed.js";
import { startShell, state } from "./shell.js";

const { live } = startShell("");
const host = $("#series-chart");
if (host) {
  const [at, closes] = state.closes;
  const bars = at.map((moment, place) => ({ start: new Date(moment * 1000).toISOString(), close: closes[place] }));
  new PriceChart(host, $("#series-empty")).show(bars, []);
}
live.start();
