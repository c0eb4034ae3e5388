// The list of runs: asks for the lines that have changed, sorts them here, and sends the other parts what was chosen.

import { button, emit, node, sessionList, sessionSetting, setText, View } from './dom.js';
import { pollWhileVisible } from './poll.js';

/**
 * @typedef {{text: string, second: string, full?: string, order: string | number | null}} Cell
 *
 * @typedef {object} Run
 * @property {string} id
 * @property {string} name
 * @property {string} phase
 * @property {boolean} going
 * @property {Record<string, Cell>} cells by column
 *
 * @typedef {object} Row
 * @property {Run} data
 * @property {HTMLTableRowElement} line
 * @property {Record<string, HTMLElement>} cells
 * @property {HTMLInputElement} box
 * @property {[string, number] | null} size as text and in bytes
 * @property {string} sizedIn phase of the run when its size was asked for
 *
 * @typedef {object} News
 * @property {string} generation
 * @property {number} number
 * @property {Run[]} rows that have changed
 * @property {string[] | null} ids of all runs, when these have changed
 */

const MOST_CHOSEN = 6; // as many runs as a chart shows
const SIZES_AT_ONCE = 20;
const HINT = 'Click a run to open it. Select up to six to compare their curves.';
const FULL = 'Six runs are selected, the most that can be compared. Clear one to select another.';
const TEXT_COLUMNS = ['model', 'data', 'status', 'note'];
const LOW_FIRST = ['loss'];

class Runs extends View {
  /** @param {import('./dom.js').Part} part */
  constructor(part) {
    super(part);
    /** @type {Map<string, Row>} */
    this.rows = new Map();
    /** @type {[string, string][] | null} key and label of each */
    this.columns = null;
    /** @type {string[]} */
    this.ids = [];
    this.generation = '';
    this.number = 0;
    this.chosen = sessionList('geko-chosen');
    this.opened = sessionSetting('geko-opened');
    this.order = { key: 'when', up: false };
    window.addEventListener('geko-choose-none', () => this.setChosen([]));
    window.addEventListener('geko-open', ({ detail }) => {
      this.opened = detail;
      sessionSetting('geko-opened', detail);
      this.drawMarks();
    });
    const schedulePoll = pollWhileVisible(
      this.element,
      () => this.poll(),
      () => this.showConnectionLost('.r-count'),
    );
    window.addEventListener('geko-runs-changed', () => schedulePoll());
  }

  async poll() {
    if (!this.columns) {
      /** @type {[string, string][]} */
      const columns = await this.server.columns({});
      this.columns = columns;
      this.drawHead(columns);
    }
    const before = this.chosen.length;
    const active = this.take(
      await this.server.changes({ generation: this.generation, number: this.number }),
      this.columns,
    );
    if (this.chosen.length !== before) this.setChosen(this.chosen);
    if (await this.askSizes()) return 50;
    return active ? 1500 : 3000;
  }

  // ---------------------------------------------------------------- order

  /** @param {string} id */
  sortValue(id) {
    const row = this.rows.get(id);
    return this.order.key === 'size' ? row?.size?.[1] : row?.data.cells[this.order.key].order;
  }

  /**
   * @param {string} a
   * @param {string} b
   */
  compare(a, b) {
    const x = this.sortValue(a);
    const y = this.sortValue(b);
    if (isUnknown(x) || isUnknown(y)) return Number(isUnknown(x)) - Number(isUnknown(y)); // unknown ones last
    const difference = typeof x === 'string' ? x.localeCompare(String(y)) : Number(x) - Number(y);
    return this.order.up ? difference : -difference;
  }

  sortRows() {
    const body = this.q('tbody');
    const sorted = [...this.ids].sort((a, b) => this.compare(a, b) || this.ids.indexOf(a) - this.ids.indexOf(b));
    sorted.forEach((id, i) => {
      const line = this.rows.get(id)?.line;
      if (line && body.children[i] !== line) body.insertBefore(line, body.children[i] ?? null);
    });
    const heads = /** @type {NodeListOf<HTMLElement>} */ (this.element.querySelectorAll('th[data-key]'));
    for (const head of heads) {
      const direction = this.order.up ? 'ascending' : 'descending';
      head.setAttribute('aria-sort', head.dataset.key === this.order.key ? direction : 'none');
    }
    this.select('.r-order select').value = this.order.key + (this.order.up ? '+' : '-');
  }

  /**
   * @param {string} key
   * @param {boolean} up
   */
  sortBy(key, up) {
    this.order = { key, up };
    this.sortRows();
  }

  /** @param {[string, string][]} columns */
  drawHead(columns) {
    const picker = this.select('.r-order select');
    for (const [key, label] of columns) {
      const isText = TEXT_COLUMNS.includes(key);
      const upFirst = isText || LOW_FIRST.includes(key);
      const cell = node('th', `r-${key}`);
      cell.dataset.key = key;
      cell.append(button(label, '', () => this.sortBy(key, this.order.key === key ? !this.order.up : upFirst)));
      this.q('thead tr').append(cell);
      const [first, second] = isText ? ['A to Z', 'Z to A'] : ['highest first', 'lowest first'];
      picker.append(new Option(`${label}, ${first}`, key + (isText ? '+' : '-')));
      picker.append(new Option(`${label}, ${second}`, key + (isText ? '-' : '+')));
    }
    picker.options[0].text = 'Newest first';
    picker.options[1].text = 'Oldest first';
    picker.onchange = () => this.sortBy(picker.value.slice(0, -1), picker.value.endsWith('+'));
  }

  // ---------------------------------------------------------------- lines

  /**
   * A line without its texts.
   * @param {Run} data
   * @param {[string, string][]} columns
   * @returns {Row}
   */
  newRow(data, columns) {
    const line = node('tr');
    const tick = node('td', 'r-tick');
    const box = node('input');
    box.type = 'checkbox';
    box.setAttribute('aria-label', `Compare ${data.name}`);
    box.onchange = () => this.choose(data.id, box.checked);
    tick.append(box);
    line.append(tick);
    /** @type {Record<string, HTMLElement>} */
    const cells = {};
    for (const [key, label] of columns) {
      const cell = node('td', `r-${key}`);
      cell.dataset.label = label;
      cells[key] = key === 'when' ? this.opener(data.id) : cell;
      if (cells[key] !== cell) cell.append(cells[key]);
      cells[key].append(node('span', 'first'), node('span', 'second'));
      line.append(cell);
    }
    line.onclick = (event) => {
      const isTick = event.target instanceof Element && event.target.closest('.r-tick');
      if (!isTick && !String(getSelection())) emit('geko-open', data.id);
    };
    return { data, line, cells, box, size: null, sizedIn: '' };
  }

  /** @param {string} id */
  opener(id) {
    return button('', 'r-open', (event) => {
      event.stopPropagation();
      emit('geko-open', id);
    });
  }

  /**
   * @param {Row} row
   * @param {Run} data
   */
  fillRow(row, data) {
    row.data = data;
    row.line.dataset.phase = data.phase;
    row.line.classList.toggle('going', data.going);
    for (const [key, cell] of Object.entries(row.cells)) {
      if (key === 'size') continue;
      const { text, second, full } = data.cells[key];
      setText(cell.children[0], text);
      setText(cell.children[1], second);
      cell.title = full ?? '';
    }
  }

  /**
   * Draws what has changed; answers how many runs are not at their end.
   * @param {News} news
   * @param {[string, string][]} columns
   */
  take(news, columns) {
    this.generation = news.generation;
    this.number = news.number;
    for (const data of news.rows) {
      const row = this.rows.get(data.id) ?? this.newRow(data, columns);
      this.rows.set(data.id, row);
      this.fillRow(row, data);
    }
    if (news.ids) this.keepOnly(news.ids);
    if (news.ids || news.rows.length) {
      this.sortRows();
      this.drawMarks();
    }
    return this.drawCount();
  }

  /** @param {string[]} ids */
  keepOnly(ids) {
    this.ids = ids;
    for (const [id, row] of this.rows) {
      if (ids.includes(id)) continue;
      row.line.remove();
      this.rows.delete(id);
    }
    this.chosen = this.chosen.filter((id) => this.rows.has(id));
  }

  drawCount() {
    const all = [...this.rows.values()];
    const running = all.filter((row) => row.data.going).length;
    const queued = all.filter((row) => row.data.phase === 'queued').length;
    const parts = [`${all.length} in total`, running && `${running} running`, queued && `${queued} queued`];
    setText(this.q('.r-count'), parts.filter(Boolean).join(' · '));
    this.q('.r-none').hidden = all.length > 0;
    for (const part of ['.r-scroll', '.r-hint', '.r-order']) this.q(part).hidden = all.length === 0;
    return running + queued;
  }

  /** Sizes are counted file by file on the server: a few runs at a time, and again when a run has ended. */
  async askSizes() {
    const unsized = [...this.rows.values()].filter((row) => row.sizedIn !== row.data.phase).slice(0, SIZES_AT_ONCE);
    if (!unsized.length) return false;
    /** @type {Record<string, [string, number]>} */
    const sizes = await this.server.sizes({ runs: unsized.map((row) => row.data.id) });
    for (const row of unsized) {
      row.sizedIn = row.data.phase;
      row.size = sizes[row.data.id] ?? null;
      setText(row.cells.size.children[0], row.size?.[0] ?? '–');
    }
    if (this.order.key === 'size') this.sortRows();
    return true;
  }

  // ---------------------------------------------------------------- what was chosen

  drawMarks() {
    const isFull = this.chosen.length >= MOST_CHOSEN;
    for (const [id, row] of this.rows) {
      row.box.checked = this.chosen.includes(id);
      row.box.disabled = isFull && !row.box.checked;
      row.line.classList.toggle('opened', id === this.opened);
    }
    setText(this.q('.r-hint'), isFull ? FULL : HINT);
  }

  /**
   * @param {string} id
   * @param {boolean} wanted
   */
  choose(id, wanted) {
    this.setChosen(wanted ? [...this.chosen, id].slice(0, MOST_CHOSEN) : this.chosen.filter((other) => other !== id));
  }

  /** @param {string[]} chosen */
  setChosen(chosen) {
    this.chosen = chosen;
    sessionSetting('geko-chosen', JSON.stringify(chosen));
    this.drawMarks();
    emit('geko-chosen', chosen);
  }
}

/** @param {string | number | null | undefined} value */
function isUnknown(value) {
  return value == null || value === '';
}

/** @param {import('./dom.js').Part} part */
export function mount(part) {
  new Runs(part);
}
