// The changes of a run's dataset as a diff: what was decided, with the words before and after, and an undo for each.

import { button, node, setText, View } from './dom.js';
import { language } from './language.js';
import { relativeTime } from './relative_time.js';

/**
 * @typedef {[string, boolean]} Piece a text, and whether it changed
 *
 * @typedef {object} Change
 * @property {number | null} id of the sample; null when the run has it no more
 * @property {number} row
 * @property {string} action keep, replace or delete
 * @property {string} label
 * @property {string} origin
 * @property {string} at
 * @property {{label: string, before: Piece[], after: Piece[]}[]} texts
 *
 * @typedef {object} ChangesPage
 * @property {string} sentence
 * @property {Change[]} lines
 * @property {number} total
 * @property {number} page
 * @property {number} pages
 */

const NONE = 'No row has a decision yet. What you decide in Review is listed here, word by word.';
const MARKS = { keep: 'kept', replace: 'edited', delete: 'deleted' };

export class SampleChanges extends View {
  /**
   * @param {import('./dom.js').Part} part
   * @param {() => string} run
   * @param {(ids: number[]) => Promise<void>} undo
   */
  constructor(part, run, undo) {
    super(part);
    this.run = run;
    this.undo = undo;
    this.page = 0;
    this.q('.c-before').onclick = () => this.turn(this.page - 1);
    this.q('.c-after').onclick = () => this.turn(this.page + 1);
  }

  /** @param {number} page */
  turn(page) {
    this.page = page;
    this.load().catch(() => {}); // the next poll says that the page does not answer
  }

  /** Draws them as they are now, if they are shown. */
  async load() {
    if (this.q('.m-changes-view').hidden || !this.run()) return;
    /** @type {ChangesPage} */
    const found = await this.server.corrections({ run: this.run(), page: this.page });
    setText(this.q('.c-note'), found.sentence || (found.total ? noteOf(found) : NONE));
    if (found.sentence) return;
    this.page = found.page;
    this.q('.c-list').replaceChildren(...found.lines.map((line) => this.item(line)));
    setText(this.q('.c-number'), `${found.page + 1} of ${found.pages}`);
    this.button('.c-before').disabled = !found.page;
    this.button('.c-after').disabled = found.page + 1 >= found.pages;
    this.q('.m-changes-view .m-turn').hidden = found.pages < 2;
  }

  /** @param {Change} change */
  item({ id, row, action, label, origin, at, texts }) {
    const item = node('li', `c-change ${action}`);
    const head = node('div', 'c-head');
    const mark = MARKS[/** @type {keyof typeof MARKS} */ (action)];
    const time = node('time', '', relativeTime(Date.parse(at) / 1000));
    time.dateTime = at;
    time.title = new Date(at).toLocaleString(language);
    head.append(node('strong', '', `Row ${row.toLocaleString('en')}`), node('span', `m-decision ${mark}`, label));
    head.append(node('span', 'c-origin', origin), time);
    if (id !== null) {
      const undo = button('Undo', '', () => this.undo([id]));
      undo.setAttribute('aria-label', `Undo the decision on row ${row}`);
      head.append(undo);
    }
    item.append(head, ...texts.map((text) => diff(text, action)));
    return item;
  }
}

/** @param {ChangesPage} found */
function noteOf({ total }) {
  const rows = total === 1 ? '1 decision' : `${total.toLocaleString('en')} decisions`;
  return `${rows}, the newest first. The source file stays as it is; an undo takes a decision back.`;
}

/**
 * @param {Change['texts'][number]} text
 * @param {string} action
 */
function diff({ label, before, after }, action) {
  const block = node('div', 'c-text');
  block.append(node('span', 'm-label', label));
  if (before.length) {
    block.append(side(before, action === 'keep' ? 'same' : 'before', action === 'replace' ? 'Before' : ''));
  }
  if (after.length || action === 'replace') block.append(side(after, 'after', 'After'));
  return block;
}

/**
 * @param {Piece[]} pieces
 * @param {string} className
 * @param {string} name for a reader who does not see the colors
 */
function side(pieces, className, name) {
  const line = node('p', `c-side ${className}`);
  if (name) line.append(node('span', 'c-name', `${name}: `));
  const changed = className === 'before' ? 'del' : 'ins';
  line.append(...pieces.map(([text, isChanged]) => node(isChanged ? changed : 'span', '', text)));
  if (!pieces.length) line.append(node('em', '', '(empty)'));
  return line;
}
