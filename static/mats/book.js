// Positions and marks of the page: what an event changes, and the sums that follow from it.
export class Book {
  constructor(rows) {
    this.rows = new Map(rows.map((row) => [Book.key(row), row]));
    this.multipliers = new Map(rows.map((row) => [row.con_id, Number(row.multiplier ?? 1)]));
    this.marks = new Map(rows.filter((row) => row.mark !== null).map((row) => [row.con_id, Number(row.mark)]));
  }

  static key(row) { return `${row.strategy}|${row.con_id}`; }

  position(row) {
    const known = this.rows.get(Book.key(row)) ?? {};
    if (Number(row.quantity) === 0) this.rows.delete(Book.key(row));
    else this.rows.set(Book.key(row), { ...known, ...row });
  }

  mark(marks) { for (const [conId, price] of Object.entries(marks)) this.marks.set(Number(conId), Number(price)); }

  // The multiplier of an instrument first seen in an event is unknown here; only stocks and FX have 1 for certain,
  // so the server's next page has the exact figure.
  value(row) {
    const mark = this.marks.get(row.con_id);
    return mark === undefined ? null : Number(row.quantity) * mark * (this.multipliers.get(row.con_id) ?? 1);
  }

  unrealized(row) {
    const value = this.value(row);
    return value === null ? null : value - Number(row.quantity) * Number(row.average_cost) * (this.multipliers.get(row.con_id) ?? 1);
  }

  count(strategy) { return [...this.rows.values()].filter((row) => row.strategy === strategy).length; }

  gross(currency) {
    const net = new Map();
    const uncounted = new Set();
    for (const row of this.rows.values()) {
      const value = this.value(row);
      if (value === null || row.currency !== currency) uncounted.add(row.symbol);
      else net.set(row.con_id, (net.get(row.con_id) ?? 0) + value);
    }
    const total = [...net.values()].reduce((sum, value) => sum + Math.abs(value), 0);
    const unknown = !currency || (uncounted.size && !net.size);
    return { gross: unknown ? null : total, uncounted: [...uncounted].sort() };
  }
}
