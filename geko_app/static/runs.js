// The list of runs: asks for the lines that have changed, filters and sorts them here, and sends the other parts what was chosen.

import { button, emit, node, openPage, SERVER_UNREACHABLE, sessionSetting, setText, View } from './dom.js';
import { pollWhileVisible } from './poll.js';
import { drawRow, newRow, wordsOf } from './runs_row.js';
import { chosenRuns, isComparing, keepChosen, showComparison } from './runs_selection.js';

/**
 * @typedef {import('./runs_row.js').Run} Run
 * @typedef {import('./runs_row.js').Row} Row
 *
 * @typedef {object} News
 * @property {string} generation
 * @property {number} number
 * @property {Run[]} rows that have changed
 * @property {string[] | null} ids of all runs, when these have changed
 *
 * @typedef {{columns: [string, string][], name_limit: number}} Layout key and label of each column
 */

const MOST_CHOSEN = 6; // as many runs as a chart shows
const SIZES_AT_ONCE = 20;
const HINT = 'Open a run for its details. Select up to six to compare their curves, figures and settings.';
const FULL = 'Six runs are selected, the most that can be compared. Clear one to select another.';
const TEXT_COLUMNS = ['name', 'status', 'model'];
const LOW_FIRST = ['loss'];
const NEWEST = 'when-';
const FILTER_KEY = 'geko-runs-filter';
const ORDER_KEY = 'geko-runs-order';

class Runs extends View {
  /** @param {import('./dom.js').Part} part */
  constructor(part) {
    super(part);
    /** @type {Map<string, Row>} */
    this.rows = new Map();
    /** @type {Layout | null} */
    this.layout = null;
    /** @type {string[]} */
    this.ids = [];
    this.generation = '';
    this.number = 0;
    this.chosen = chosenRuns();
    this.opened = sessionSetting('geko-opened');
    const kept = sessionSetting(ORDER_KEY) || NEWEST;
    this.order = { key: kept.slice(0, -1), up: kept.endsWith('+') };
    this.find('.r-find', HTMLInputElement).value = sessionSetting(FILTER_KEY);
    this.wire();
    this.showList(!isComparing());
    this.schedulePoll = pollWhileVisible(
      this.element,
      () => this.poll(),
      () => this.showConnectionLost('.r-count'),
    );
  }

  wire() {
    this.input('.r-find').oninput = () => this.setFilter(this.input('.r-find').value);
    this.q('.r-unfilter').onclick = () => this.setFilter('');
    this.q('.r-first').onclick = () => openPage('Train');
    this.q('.r-clear').onclick = () => this.setChosen([]);
    this.q('.r-compare').onclick = () => {
      emit('geko-open', '');
      showComparison(true);
    };
    this.q('tbody').onkeydown = (event) => this.moveFocus(event);
    window.addEventListener('geko-choose', ({ detail }) => this.setChosen(detail));
    window.addEventListener('geko-compare', ({ detail }) => this.showList(!detail));
    window.addEventListener('geko-open', ({ detail }) => this.mark(detail));
    window.addEventListener('geko-runs-changed', () => this.schedulePoll());
  }

  async poll() {
    if (!this.layout) {
      /** @type {Layout} */
      const layout = await this.server.layout({});
      this.layout = layout;
      if (!layout.columns.some(([key]) => key === this.order.key)) this.order = { key: 'when', up: false };
      this.drawHead(layout.columns);
    }
    const before = this.chosen.length;
    const active = this.take(
      await this.server.changes({ generation: this.generation, number: this.number }),
      this.layout,
    );
    if (this.chosen.length !== before) this.setChosen(this.chosen);
    if (await this.askSizes()) return 50;
    return active ? 1500 : 3000;
  }

  // ---------------------------------------------------------------- filter and order

  /** @param {string} text */
  setFilter(text) {
    const field = this.input('.r-find');
    if (field.value !== text) field.value = text;
    sessionSetting(FILTER_KEY, text);
    this.arrange();
    this.drawCount();
  }

  /** The runs that have every word of the filter. */
  matching() {
    const words = this.input('.r-find').value.toLowerCase().split(/\s+/).filter(Boolean);
    return this.ids.filter((id) => {
      const row = this.rows.get(id);
      return row && words.every((word) => row.words.includes(word));
    });
  }

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

  /** Puts the lines into their order, each plain baseline right below its run, and hides those that do not match. */
  arrange() {
    const shown = this.matching();
    const parentOf = (/** @type {string} */ id) => this.rows.get(id)?.data.baseline_of ?? '';
    const tops = shown.filter((id) => !shown.includes(parentOf(id)));
    const sorted = tops
      .sort((a, b) => this.compare(a, b) || this.ids.indexOf(a) - this.ids.indexOf(b))
      .flatMap((id) => [id, ...shown.filter((other) => parentOf(other) === id)]);
    const body = this.q('tbody');
    sorted.forEach((id, i) => {
      const line = this.rows.get(id)?.line;
      if (line && body.children[i] !== line) body.insertBefore(line, body.children[i] ?? null);
    });
    for (const [id, row] of this.rows) {
      const isChild = shown.includes(id) && shown.includes(row.data.baseline_of);
      const baseline = shown.find((other) => parentOf(other) === id && shown.includes(id));
      row.line.hidden = !shown.includes(id);
      row.line.classList.toggle('r-child', isChild);
      row.line.classList.toggle('r-parent', Boolean(baseline));
      row.setBaseline(baseline ?? '');
    }
    this.q('.r-nothing').hidden = shown.length > 0 || !this.ids.length;
    this.q('.r-scroll').hidden = !shown.length;
    this.markOrder();
  }

  markOrder() {
    const heads = /** @type {NodeListOf<HTMLElement>} */ (this.element.querySelectorAll('th[data-key]'));
    for (const head of heads) {
      const direction = this.order.up ? 'ascending' : 'descending';
      head.setAttribute('aria-sort', head.dataset.key === this.order.key ? direction : 'none');
    }
    this.select('.r-order').value = this.order.key + (this.order.up ? '+' : '-');
  }

  /**
   * @param {string} key
   * @param {boolean} up
   */
  sortBy(key, up) {
    this.order = { key, up };
    sessionSetting(ORDER_KEY, key + (up ? '+' : '-'));
    this.arrange();
  }

  /** @param {[string, string][]} columns */
  drawHead(columns) {
    const picker = this.select('.r-order');
    for (const [key, label] of columns) {
      const isText = TEXT_COLUMNS.includes(key);
      const upFirst = isText || LOW_FIRST.includes(key);
      const cell = node('th', `r-${key}`);
      cell.dataset.key = key;
      cell.append(button(label, '', () => this.sortBy(key, this.order.key === key ? !this.order.up : upFirst)));
      this.q('thead tr').append(cell);
      const ways = isText ? ['A to Z', 'Z to A'] : ['highest first', 'lowest first'];
      const [first, second] = key === 'when' ? ['newest first', 'oldest first'] : ways;
      picker.append(new Option(`${label}, ${first}`, key + (isText ? '+' : '-')));
      picker.append(new Option(`${label}, ${second}`, key + (isText ? '-' : '+')));
    }
    picker.onchange = () => this.sortBy(picker.value.slice(0, -1), picker.value.endsWith('+'));
  }

  // ---------------------------------------------------------------- lines

  /**
   * Draws what has changed; answers how many runs are not at their end.
   * @param {News} news
   * @param {Layout} layout
   */
  take(news, layout) {
    this.generation = news.generation;
    this.number = news.number;
    for (const data of news.rows) {
      const row = this.rows.get(data.id) ?? newRow(data, layout, this);
      this.rows.set(data.id, row);
      drawRow(row, data);
      row.words = wordsOf(data);
    }
    if (news.ids) this.keepOnly(news.ids);
    if (news.ids || news.rows.length) {
      this.arrange();
      this.drawMarks();
    }
    for (const row of this.rows.values()) row.drawTime();
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
    const shown = all.filter((row) => !row.line.hidden).length;
    const running = all.filter((row) => row.data.going).length;
    const queued = all.filter((row) => row.data.phase === 'queued').length;
    const total = shown === all.length ? `${all.length} in total` : `${shown} of ${all.length}`;
    const parts = [total, running && `${running} running`, queued && `${queued} queued`];
    setText(this.q('.r-count'), parts.filter(Boolean).join(' · '));
    this.q('.r-none').hidden = all.length > 0;
    this.q('.r-hint').hidden = !shown;
    this.q('.r-tools').hidden = all.length === 0;
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
    if (this.order.key === 'size') this.arrange();
    return true;
  }

  /**
   * Saves name and tags of a run; answers with an error, or "".
   * @param {Run} data
   * @param {string} name
   */
  async rename(data, name) {
    try {
      const { error } = await this.server.keep_label({ run: data.id, name, tags: data.tags });
      this.schedulePoll();
      emit('geko-runs-changed');
      return error;
    } catch {
      return SERVER_UNREACHABLE;
    }
  }

  // ---------------------------------------------------------------- what was chosen

  /** @param {boolean} isShown */
  showList(isShown) {
    this.q('.r-list').hidden = !isShown;
  }

  /** @param {string} id of the run that is open, "" for none */
  mark(id) {
    const closed = this.opened;
    this.opened = id;
    sessionSetting('geko-opened', id);
    this.drawMarks();
    if (!id && closed) this.rows.get(closed)?.opener.focus();
  }

  /**
   * The arrow keys go from run to run.
   * @param {KeyboardEvent} event
   */
  moveFocus(event) {
    const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
    const openers = /** @type {HTMLElement[]} */ ([...this.element.querySelectorAll('tr:not([hidden]) .r-open')]);
    const at = openers.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    if (!step || at < 0) return;
    event.preventDefault();
    openers[at + step]?.focus();
  }

  drawMarks() {
    const isFull = this.chosen.length >= MOST_CHOSEN;
    for (const [id, row] of this.rows) {
      row.box.checked = this.chosen.includes(id);
      row.box.disabled = isFull && !row.box.checked;
      row.line.classList.toggle('opened', id === this.opened);
      row.line.classList.toggle('chosen', row.box.checked);
    }
    setText(this.q('.r-hint'), isFull ? FULL : HINT);
    setText(this.q('.r-compare'), `Compare (${this.chosen.length})`);
    this.button('.r-compare').disabled = this.chosen.length < 1;
    this.q('.r-clear').hidden = !this.chosen.length;
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
    keepChosen(chosen);
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
