// Numbers and times as trading/templatetags/console.py writes them: unknown is a dash, never zero.
export const UNKNOWN = "–";
const MINUS = "−";

function toNumber(value) {
  if (value === null || value === undefined || value === "") return null;
  const number = Number(value);
  return Number.isFinite(number) ? number : null;
}

export function group(number, least, most) {
  const text = Math.abs(number).toLocaleString("en-US", { minimumFractionDigits: least, maximumFractionDigits: most });
  return number < 0 && /[1-9]/.test(text) ? MINUS + text : text;
}

const written = (least, most) => (value) => {
  const number = toNumber(value);
  return number === null ? UNKNOWN : group(number, least, most);
};

export const money = written(2, 2);
export const whole = written(0, 0);
export const quantity = written(0, 6);
export const price = written(2, 5);

export function signed(value) {
  const number = toNumber(value);
  if (number === null) return UNKNOWN;
  const text = group(number, 2, 2);
  return number > 0 && text !== "0.00" ? `+${text}` : text;
}

export function tone(value) {
  const number = toNumber(value);
  if (number === null || Math.abs(number) < 0.005) return "";
  return number > 0 ? "gain" : "loss";
}

export function percent(value) {
  const number = toNumber(value);
  return number === null ? UNKNOWN : `${group(number * 100, 2, 2)} %`;
}

export function clock(value) {
  const moment = new Date(value ?? NaN);
  return Number.isNaN(moment.getTime()) ? UNKNOWN : moment.toISOString().slice(11, 19);
}

export const minus = (a, b) => {
  const left = toNumber(a), right = toNumber(b);
  return left === null || right === null ? null : left - right;
};

// What a strategy began with: its day is measured against that when it began today, as the server does.
export const given = ({ equity, realized_pnl: realized, unrealized_pnl: open }) => Number(equity) - Number(realized ?? 0) - Number(open ?? 0);
