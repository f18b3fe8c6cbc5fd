// A list of rows kept by key: newest where it belongs, each fact once, never more than a cap.
export const $ = (selector, root = document) => root.querySelector(selector);

export function put(root, field, text, className) {
  const cell = root.querySelector(`[data-f="${field}"]`);
  if (!cell) return null;
  if (cell.textContent !== text) cell.textContent = text;
  if (className !== undefined) { cell.classList.remove("gain", "loss"); if (className) cell.classList.add(className); }
  return cell;
}

export class Feed {
  // options: body, template id, fill(row, data), cap, newestFirst, empty (element shown when there are none), key(id)
  constructor(options) {
    Object.assign(this, { cap: 200, newestFirst: true, empty: null, key: String }, options);
    this.template = document.getElementById(options.template).content.firstElementChild;
    this.rows = new Map([...this.body.children].map((row) => [this.key(row.dataset.key), row]));
    this.pending = new Map();
  }

  // ``partial`` data only changes a row that is there; it never makes one.
  set(id, data) {
    const key = this.key(id);
    const known = this.pending.get(key);
    this.pending.set(key, { ...known, ...data, partial: (known ? known.partial : true) && data.partial === true });
  }

  remove(id) {
    const key = this.key(id);
    this.pending.delete(key);
    this.rows.get(key)?.remove();
    this.rows.delete(key);
    this.#showEmpty();
  }

  clear() { this.body.replaceChildren(); this.rows.clear(); this.pending.clear(); this.#showEmpty(); }

  flush() {
    if (!this.pending.size) return;
    // In a burst most rows would be pushed out again at once: only the last ones are drawn.
    let skip = this.pending.size - this.cap;
    const fresh = document.createDocumentFragment();
    for (const [key, data] of this.pending) {
      const known = this.rows.get(key);
      if (known) { this.fill(known, data); continue; }
      if (data.partial || skip-- > 0) continue;
      const row = this.template.cloneNode(true);
      row.dataset.key = key;
      row.classList.add("fresh");
      this.fill(row, data);
      this.rows.set(key, row);
      if (this.newestFirst) fresh.prepend(row); else fresh.append(row);
    }
    this.pending.clear();
    if (this.newestFirst) this.body.prepend(fresh); else this.body.append(fresh);
    while (this.body.children.length > this.cap) {
      const oldest = this.newestFirst ? this.body.lastElementChild : this.body.firstElementChild;
      this.rows.delete(oldest.dataset.key);
      oldest.remove();
    }
    this.#showEmpty();
  }

  #showEmpty() { if (this.empty) this.empty.hidden = this.body.children.length > 0; }
}
