// The first rows of the training data, with the role of each column over it; choosing one fills in the fields.

import { node, setText, View } from './dom.js';

/**
 * @typedef {object} Table
 * @property {[string, string][]} columns name and role of each
 * @property {string[][]} rows
 * @property {number} count
 * @property {boolean} is_cut
 * @property {string} reading which columns are read as what
 * @property {boolean} is_guess
 * @property {string} error
 * @property {string[]} findings
 */

const ROLES = new Map([
  ['', 'Not used'],
  ['prompt', 'Prompt'],
  ['completion', 'Completion'],
  ['text', 'Text'],
  ['messages', 'Messages'],
  ['context', 'Context'],
  ['system', 'System'],
  ['label', 'Label'],
  ['weight', 'Weight'],
]);
/** Roles of columns that are read because of their names alone. */
const FIXED = new Map([
  ['history', 'Earlier turns'],
  ['tools', 'Tools'],
]);
/** What a role cannot stand beside. */
const EXCLUDES = /** @type {Record<string, string[]>} */ ({
  prompt: ['text', 'messages'],
  completion: ['text', 'messages', 'label'],
  context: ['text', 'messages'],
  label: ['text', 'completion'],
  text: ['prompt', 'completion', 'messages', 'context', 'label', 'system'],
  messages: ['prompt', 'completion', 'text', 'context'],
});
const CHOOSE = 'If that is wrong, choose above.';
const PAUSE = 600; // milliseconds without a key press, before what is typed is read
const HUB_PAUSE = 1200;

class DataTable extends View {
  /** @param {import('./dom.js').Part} part */
  constructor(part) {
    super(part);
    this.keys = /** @type {string[]} */ (part.props.keys);
    this.sent = /** @type {string[]} */ (part.props.sent);
    this.values = /** @type {Record<string, unknown>} */ (part.props.initial);
    this.asked = 0;
    this.timer = 0;
    /** @type {Table | null} */
    this.table = null;
    window.addEventListener('geko-form', ({ detail }) => this.follow(detail));
    acceptDrops(document.getElementById('geko-step-data'), (sentence) => {
      this.q('.geko-data').hidden = false;
      this.showError('.d-error', sentence);
    });
    this.schedule(PAUSE);
  }

  /** @param {unknown[]} now the values of all fields */
  follow(now) {
    const values = Object.fromEntries(this.sent.map((key) => [key, now[this.keys.indexOf(key)]]));
    const changed = this.sent.filter((key) => String(values[key] ?? '') !== String(this.values[key] ?? ''));
    if (!changed.length) return;
    this.values = values;
    const isChoice = changed.every((key) => key.endsWith('_column'));
    this.schedule(isChoice ? 0 : isLocal(String(values['data.train'] ?? '')) ? PAUSE : HUB_PAUSE);
  }

  /** @param {number} wait milliseconds */
  schedule(wait) {
    clearTimeout(this.timer);
    this.asked += 1;
    this.timer = window.setTimeout(() => this.ask(this.asked), wait);
  }

  /** @param {number} number of this question; an answer to an earlier one is not drawn */
  async ask(number) {
    const name = String(this.values['data.train'] ?? '').trim();
    this.q('.geko-data').hidden = !name;
    if (!name) return;
    setText(this.q('.d-state'), 'Reading …');
    const table = await this.server.first_rows({ values: this.values }).catch(() => null);
    if (number !== this.asked) return;
    setText(this.q('.d-state'), table ? '' : 'The page does not answer.');
    if (table) this.draw(name, table);
  }

  // ---------------------------------------------------------------- drawing

  /**
   * @param {string} name of the data
   * @param {Table} table
   */
  draw(name, table) {
    this.table = table;
    showEnd('data.train');
    setText(this.q('.d-name'), name === 'demo' ? 'Built-in demo data' : (name.split(/[\\/]/).pop() ?? name));
    const count = table.count.toLocaleString('en');
    setText(this.q('.d-count'), table.count ? `${table.is_cut ? 'first ' : ''}${count} rows` : '');
    this.showError('.d-error', table.error);
    this.q('.d-scroll').hidden = !table.rows.length;
    const head = node('tr');
    head.append(...table.columns.map(([column, role]) => this.headCell(column, role)));
    this.q('thead').replaceChildren(head);
    this.q('tbody').replaceChildren(...table.rows.map((cells) => row(cells, table.columns)));
    this.showError('.d-reading', table.is_guess ? `${table.reading} ${CHOOSE}` : '');
    this.q('.d-findings').hidden = !table.findings.length;
    this.q('.d-findings').replaceChildren(...table.findings.map((sentence) => node('li', '', sentence)));
  }

  /**
   * @param {string} column
   * @param {string} role
   */
  headCell(column, role) {
    const cell = node('th');
    cell.scope = 'col';
    cell.dataset.role = role;
    const select = node('select');
    select.setAttribute('aria-label', `Role of the column ${column}`);
    const fixed = FIXED.get(role);
    const choices = fixed ? [[role, fixed]] : [...ROLES];
    select.append(...choices.map(([value, label]) => new Option(label, value)));
    select.value = role;
    select.disabled = Boolean(fixed);
    select.onchange = () => this.choose(column, select.value);
    const name = node('span', 'name', column);
    name.title = column;
    cell.append(select, name);
    return cell;
  }

  /**
   * Fills in the fields of the columns as the table shows them after a choice.
   * @param {string} column
   * @param {string} role
   */
  choose(column, role) {
    const excluded = [role, ...(EXCLUDES[role] ?? [])];
    const others = (this.table?.columns ?? []).filter(
      ([name, its]) => name !== column && its && !FIXED.has(its) && !excluded.includes(its),
    );
    const chosen = role ? [...others, [column, role]] : others;
    this.props.value = Object.fromEntries(chosen.map(([name, its]) => [`data.${its}_column`, name]));
    this.trigger('change');
  }
}

/**
 * @param {string[]} cells
 * @param {[string, string][]} columns
 */
function row(cells, columns) {
  const made = node('tr');
  made.append(
    ...cells.map((text, i) => {
      const cell = node('td', columns[i][1] ? '' : 'unread');
      cell.append(node('div', '', text));
      cell.title = text;
      return cell;
    }),
  );
  return made;
}

/**
 * The end of a long path says more than its beginning.
 * @param {string} key
 */
function showEnd(key) {
  const input = document.querySelector(`#field-${key.replace('.', '-')} input`);
  if (input && input !== document.activeElement) input.scrollLeft = input.scrollWidth;
}

/** @param {string} name */
function isLocal(name) {
  return name === 'demo' || /^[./~]|\\|\.\w+$/.test(name) || name.split('/').length > 2;
}

/**
 * A file that is dropped on the step is uploaded as with the button of its field, the training data unless it is over the
 * evaluation data. One that is dropped beside it does nothing: the browser would leave the page to show it.
 * @param {HTMLElement | null} step
 * @param {(sentence: string) => void} onError
 */
function acceptDrops(step, onError) {
  const isFile = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes('Files');
  window.addEventListener('dragover', (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    step?.classList.toggle('is-dropping', step.contains(/** @type {Node} */ (event.target)));
  });
  window.addEventListener('dragleave', () => step?.classList.remove('is-dropping'));
  window.addEventListener('drop', (event) => {
    if (!isFile(event) || event.defaultPrevented) return;
    event.preventDefault();
    step?.classList.remove('is-dropping');
    const { target, dataTransfer } = event;
    if (!(target instanceof Element) || !step?.contains(target) || !dataTransfer) return;
    const field = target.closest('.geko-with-upload') ?? step.querySelector('.geko-with-upload');
    const input = field?.querySelector('input[type=file]');
    if (dataTransfer.files.length > 1) {
      onError(
        `${dataTransfer.files.length} files were dropped: drop one, or give the path of a folder that holds them.`,
      );
    } else if (input instanceof HTMLInputElement) {
      input.files = dataTransfer.files;
      input.dispatchEvent(new Event('change', { bubbles: true }));
    }
  });
}

/**
 * For an event of the form: the values of the fields `keys` for the columns that were chosen.
 * @param {string[]} keys
 */
export function columnValues(keys) {
  return (/** @type {Record<string, string> | null} */ chosen, /** @type {unknown[]} */ ...now) =>
    chosen && typeof chosen === 'object' ? keys.map((key) => chosen[key] ?? '') : now;
}

/** @param {import('./dom.js').Part} part */
export function mount(part) {
  new DataTable(part);
}
