// One line of the list of runs: its cells, its checkbox, its name that can be edited. Knows no other line.

import { button, emit, node, setText } from './dom.js';
import { translate } from './language.js';
import { relativeTime } from './relative_time.js';
import { nameForm } from './runs_label.js';
import { compareRuns } from './runs_selection.js';

/**
 * @typedef {{text: string, second: string, full?: string, order: string | number | null}} Cell
 *
 * @typedef {object} Run
 * @property {string} id
 * @property {string} name what the page calls it
 * @property {string} own_name that the user gave it, or ""
 * @property {string[]} tags
 * @property {string} baseline_of the run that this one is the plain baseline of, or ""
 * @property {string} phase
 * @property {boolean} going
 * @property {Record<string, Cell>} cells by column
 *
 * @typedef {object} Row
 * @property {Run} data
 * @property {string} words that the filter looks in
 * @property {HTMLTableRowElement} line
 * @property {Record<string, HTMLElement>} cells
 * @property {HTMLInputElement} box
 * @property {HTMLElement} opener
 * @property {HTMLElement} tags
 * @property {[string, number] | null} size as text and in bytes
 * @property {string} sizedIn phase of the run when its size was asked for
 * @property {(id: string) => void} setBaseline offers the comparison with this run
 * @property {() => void} drawTime
 * @property {(tag: string) => void} filterBy
 *
 * What a line asks of the list.
 * @typedef {object} List
 * @property {(id: string, wanted: boolean) => void} choose
 * @property {(text: string) => void} setFilter
 * @property {(data: Run, name: string) => Promise<string>} rename
 */

/**
 * A line without its texts.
 * @param {Run} data
 * @param {{columns: [string, string][], name_limit: number}} layout
 * @param {List} list
 * @returns {Row}
 */
export function newRow(data, layout, list) {
  const line = node('tr');
  const box = node('input');
  box.type = 'checkbox';
  box.onchange = () => list.choose(data.id, box.checked);
  const tick = node('td', 'r-tick');
  tick.append(box);
  line.append(tick);
  /** @type {Record<string, HTMLElement>} */
  const cells = {};
  for (const [key, label] of layout.columns) {
    const cell = node('td', `r-${key}`);
    cell.dataset.label = translate(label); // shown by the stylesheet, where nothing else translates it
    cells[key] = key === 'name' ? opener(data.id) : cell;
    if (cells[key] !== cell) cell.append(cells[key]);
    cells[key].append(node('span', 'first'), node('span', 'second'));
    line.append(cell);
  }
  const tags = node('span', 'r-tags');
  const versus = button('Compare with baseline', 'r-versus', () => {});
  versus.hidden = true;
  const nameCell = /** @type {HTMLElement} */ (cells.name.parentElement);
  nameCell.append(tags, versus);
  /** @type {Row} */
  const row = {
    data,
    words: '',
    line,
    cells,
    box,
    opener: cells.name,
    tags,
    size: null,
    sizedIn: '',
    filterBy: (tag) => list.setFilter(tag),
    setBaseline: (id) => {
      versus.hidden = !id;
      versus.onclick = () => compareRuns([data.id, id]);
    },
    drawTime: () => setText(cells.when.children[0], relativeTime(Number(row.data.cells.when.order))),
  };
  nameCell.insertBefore(renameButton(row, layout.name_limit, list), tags);
  line.onclick = (event) => {
    const isOther = event.target instanceof Element && event.target.closest('.r-tick, button, form');
    if (!isOther && !String(getSelection())) emit('geko-open', data.id);
  };
  return row;
}

/** @param {string} id */
function opener(id) {
  return button('', 'r-open', () => emit('geko-open', id));
}

/**
 * @param {Row} row
 * @param {number} limit
 * @param {List} list
 */
function renameButton(row, limit, list) {
  const rename = button('✎', 'r-rename', () => {
    const { form, focus } = nameForm({
      value: row.data.own_name,
      placeholder: row.data.name,
      limit,
      save: (name) => list.rename(row.data, name),
      done: () => {
        form.remove();
        row.opener.hidden = rename.hidden = false;
        rename.focus();
      },
    });
    row.opener.hidden = rename.hidden = true;
    rename.after(form);
    focus();
  });
  rename.title = 'Rename';
  return rename;
}

/**
 * Writes the texts of a line.
 * @param {Row} row
 * @param {Run} data
 */
export function drawRow(row, data) {
  row.data = data;
  row.line.dataset.phase = data.phase;
  row.line.classList.toggle('going', data.going);
  row.box.setAttribute('aria-label', `Select ${data.name}`);
  row.line.querySelector('.r-rename')?.setAttribute('aria-label', `Rename ${data.name}`);
  for (const [key, cell] of Object.entries(row.cells)) {
    if (key === 'size') continue;
    const { text, second, full } = data.cells[key];
    if (key !== 'when') setText(cell.children[0], text);
    setText(cell.children[1], second);
    cell.title = key === 'when' ? text : (full ?? '');
  }
  const chips = data.tags.map((tag) => {
    const chip = button(tag, 'r-tag', () => row.filterBy(tag));
    chip.setAttribute('aria-label', `Filter by the tag ${tag}`);
    return chip;
  });
  const baseline = data.baseline_of ? [node('span', 'r-baseline', 'Plain baseline')] : [];
  row.tags.replaceChildren(...baseline, ...chips);
}

/**
 * All that the filter looks in, in small letters.
 * @param {Run} data
 */
export function wordsOf(data) {
  const { name, status, model } = data.cells;
  const texts = [data.name, ...data.tags, data.id, name.full, model.full, model.text, model.second, status.text];
  const baseline = data.baseline_of ? 'plain baseline' : '';
  const shown = [translate(status.text), translate(baseline)];
  return [...texts, name.second, baseline, ...shown].filter(Boolean).join('\n').toLowerCase();
}
