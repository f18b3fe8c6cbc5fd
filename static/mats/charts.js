// Equity and price on uPlot (global, vendored); colours come from the stylesheet, so that dark and light both fit.
import { group, percent, price as writePrice, whole } from "./format.js";

const POINTS = 1500;
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 2 });

const digitsOf = (step) => Math.min(6, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)));
// Written short while two neighbours on the axis still differ then; a million that moves by ten is written out.
const amount = (value, step, most) => {
  const unit = 1000 ** Math.max(0, Math.floor(Math.log10(Math.max(1, most)) / 3));
  return step >= unit / 100 ? short.format(value) : group(value, digitsOf(step), digitsOf(step));
};
const share = (value, step) => `${group(value * 100, digitsOf(step * 100), digitsOf(step * 100))} %`;

const clockOf = (seconds) => new Date(seconds * 1000).toISOString();
// Beyond two days the day counts, not the minute.
const stamp = (seconds, step) => { const text = clockOf(seconds); return step >= 86400 ? text.slice(0, 10) : step >= 3600 * 6 ? text.slice(5, 16).replace("T", " ") : text.slice(11, step < 60 ? 19 : 16); };
const isLong = (plot) => plot.data[0].at(-1) - plot.data[0][0] > 2 * 86400;
// Without the cursor on the chart the legend shows the latest figures, and with it those under the cursor.
const latest = (plot, series) => plot.data[series].findLast((value) => value != null);
const time = { label: "UTC", value: (plot, value) => isLong(plot) ? clockOf(value ?? plot.data[0].at(-1)).slice(0, 16).replace("T", " ") : clockOf(value ?? plot.data[0].at(-1)).slice(11, 19) };

function axes(format, size) {
  const line = { stroke: css("--dim"), grid: { stroke: css("--line"), width: 1 }, ticks: { show: false }, font: '11px "Inter Variable", system-ui' };
  return [{ ...line, size: 26, space: 80, values: (_, splits, axis, room, step) => splits.map((at) => stamp(at, step)) }, { ...line, side: 1, size, values: (_, splits, axis, room, step) => { const most = Math.max(...splits.map(Math.abs)); return splits.map((value) => format(value, step, most)); } }];
}

class Chart {
  constructor(host, empty) {
    this.host = host;
    this.empty = empty;
    this.plot = null;
    this.scheduled = false;
    new ResizeObserver(() => this.resize()).observe(host);
    document.addEventListener("mats:theme", () => this.rebuild());
  }

  // Room for the plot itself: the host less its padding and the legend's line.
  room() {
    const legend = this.host.querySelector(".u-legend")?.offsetHeight ?? 22;
    return { width: Math.max(120, this.host.clientWidth - 12), height: Math.max(80, this.host.clientHeight - legend - 8) };
  }

  resize() { this.plot?.setSize(this.room()); }

  rebuild() { this.plot?.destroy(); this.plot = null; this.draw(); }

  later() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => { this.scheduled = false; this.draw(); });
  }

  draw() {
    const data = this.data();
    const has = data[0].length > 0;
    this.empty.hidden = has;
    this.host.style.visibility = has ? "visible" : "hidden";
    if (!has) return;
    if (this.plot && this.plot.series.length === data.length) { this.plot.setData(data); return; }
    this.plot?.destroy();
    this.plot = new uPlot({ ...this.room(), tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"), legend: { live: true }, cursor: { drag: { x: true, y: false }, points: { size: 5 } }, padding: [8, 4, 0, 8], ...this.options() }, data, this.host);
    this.resize();
  }
}

export class EquityChart extends Chart {
  constructor(host, empty, series, colors, mode) {
    super(host, empty);
    this.at = series.at;
    this.owners = new Map(Object.entries(series.owners));
    this.colors = colors;
    this.mode = mode;
    this.draw();
  }

  setMode(mode) { this.mode = mode; this.rebuild(); }

  add(at, rows) {
    const moment = Date.parse(at) / 1000;
    if (this.at.length && moment <= this.at.at(-1)) return;
    const told = new Map(rows.map((row) => [row.owner, Number(row.equity)]));
    for (const owner of told.keys()) if (!this.owners.has(owner)) this.owners.set(owner, this.at.map(() => null));
    this.at.push(moment);
    for (const [owner, values] of this.owners) values.push(told.get(owner) ?? null);
    if (this.at.length > POINTS) { this.at.shift(); for (const values of this.owners.values()) values.shift(); }
    this.later();
  }

  // The account first, what nobody's strategy traded last.
  names() {
    const rank = (owner) => (owner === "" ? 0 : owner === "Discretionary" ? 2 : 1);
    return [...this.owners.keys()].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
  }

  data() {
    const lines = this.names().map((owner) => {
      const values = this.owners.get(owner);
      if (this.mode === "value") return values;
      const first = values.find((value) => value !== null);
      return values.map((value) => (value === null ? null : value - first));
    });
    return [this.at, ...lines];
  }

  options() {
    const lines = this.names().map((owner) => ({
      label: owner || "Account", width: owner ? 1.4 : 2, spanGaps: true, points: { show: false },
      stroke: owner ? this.colors[owner] ?? css("--dim") : css("--text"),
      value: (plot, value, series) => whole(value ?? latest(plot, series)),
    }));
    return { series: [time, ...lines], axes: axes(amount, 78) };
  }
}

// Fractions over time, written as per cent: returns, drawdown, exposure.
export class FractionChart extends Chart {
  constructor(host, empty, columns, lines) {
    super(host, empty);
    this.columns = columns[0].length > 1 ? columns : columns.map(() => []);  // one day is no line
    this.lines = lines;
    this.draw();
  }

  data() { return this.columns; }

  options() {
    const lines = this.lines.map(({ label, color, filled }) => ({
      label, stroke: css(color), width: 1.5, points: { show: false }, fill: filled ? `${css(color)}26` : undefined,
      value: (plot, value, series) => percent(value ?? latest(plot, series)),
    }));
    // A line that lies still has no height of its own.
    const span = (plot, low, high) => (low === high ? [low - 0.01, high + 0.01] : uPlot.rangeNum(low, high, 0.1, true));
    return { series: [time, ...lines], axes: axes(share, 66), scales: { y: { range: span } } };
  }
}

// A figure over the values of a parameter: a point for each value that was tried.
export class ParameterChart extends Chart {
  constructor(host, empty, columns, label) {
    super(host, empty);
    this.columns = columns;
    this.label = label;
    this.draw();
  }

  data() { return this.columns; }

  options() {
    const written = (value) => (value == null ? "–" : group(value, 0, 4));
    const [across, up] = axes((value, step) => group(value, digitsOf(step), digitsOf(step)), 66);
    return {
      series: [{ label: "Value", value: (plot, value) => written(value) }, { label: this.label, stroke: css("--accent"), width: 1.5, points: { show: true, size: 6 }, value: (plot, value) => written(value) }],
      axes: [{ ...across, values: (_, splits) => splits.map(written) }, up],
      scales: { x: { time: false } },
    };
  }
}

export class PriceChart extends Chart {
  constructor(host, empty) {
    super(host, empty);
    this.bars = new Map();
    this.fills = [];
    this.draw();
  }

  show(bars, fills) {
    this.bars = new Map(bars.map((bar) => [Date.parse(bar.start) / 1000, Number(bar.close)]));
    this.fills = fills;
    this.later();
  }

  add(bar) { this.bars.set(Date.parse(bar.start) / 1000, Number(bar.close)); this.later(); }

  data() {
    const at = [...this.bars.keys()].sort((a, b) => a - b).slice(-POINTS);
    return [at, at.map((moment) => this.bars.get(moment))];
  }

  options() {
    return {
      series: [time, { label: "Close", stroke: css("--accent"), width: 1.5, points: { show: false }, fill: `${css("--accent")}14`, value: (plot, value, series) => writePrice(value ?? latest(plot, series)) }],
      axes: axes((value) => writePrice(value), 62),
      scales: { y: { range: (plot, low, high) => this.span(plot, low, high) } },
      hooks: { draw: [(plot) => this.drawFills(plot)] },
    };
  }

  // The scale holds the fills in view too, else a fill away from the closes would be drawn outside.
  span(plot, low, high) {
    const { min, max } = plot.series[0];  // what is in view; the x scale itself still has its old ends here
    const seen = this.fills.filter((fill) => { const at = Date.parse(fill.executed_at) / 1000; return at >= min && at <= max; });
    const prices = seen.map((fill) => Number(fill.price));
    const least = Math.min(low, ...prices), most = Math.max(high, ...prices);
    const margin = (most - least) * 0.12 || Math.abs(most) * 0.001 || 1;
    return [least - margin, most + margin];
  }

  drawFills(plot) {
    const { ctx, bbox } = plot;
    const unit = devicePixelRatio || 1;
    ctx.save();
    for (const fill of this.fills) {
      const x = plot.valToPos(Date.parse(fill.executed_at) / 1000, "x", true);
      const y = plot.valToPos(Number(fill.price), "y", true);
      if (x < bbox.left || x > bbox.left + bbox.width || y < bbox.top - 9 || y > bbox.top + bbox.height + 9) continue;
      const up = fill.side.startsWith("B") ? 1 : -1;
      ctx.beginPath();
      ctx.moveTo(x, y + 3 * unit * up);
      ctx.lineTo(x - 5 * unit, y + 12 * unit * up);
      ctx.lineTo(x + 5 * unit, y + 12 * unit * up);
      ctx.closePath();
      ctx.fillStyle = css(up > 0 ? "--gain" : "--loss");
      ctx.fill();
      ctx.lineWidth = unit;
      ctx.strokeStyle = css("--panel");
      ctx.stroke();
    }
    ctx.restore();
  }
}
