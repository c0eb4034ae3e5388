// The table of samples: its head and its lines.

import { button, node } from './dom.js';
import { translate } from './language.js';

/**
 * @typedef {object} Issue
 * @property {string} kind
 * @property {string} label
 * @property {'high' | 'medium' | 'low'} severity
 * @property {string} note
 *
 * @typedef {object} Line one sample, as texts
 * @property {number} id
 * @property {number} row
 * @property {boolean} flagged
 * @property {string} bucket
 * @property {string} name of the bucket
 * @property {string} prompt
 * @property {string} answer
 * @property {Issue[]} issues
 * @property {string} decision kept, edited, deleted or ""
 * @property {string} first
 * @property {string} loss
 * @property {string} confidence
 * @property {string} correct
 * @property {string} q
 * @property {number} seen
 * @property {string} step
 *
 * @typedef {{sort: string, down: boolean}} Order
 *
 * @typedef {object} Handlers
 * @property {(id: number) => void} open
 * @property {(id: number, flagged: boolean) => void} flag
 *
 * @typedef {{key: string, label: string, className?: string, title?: string, downFirst?: boolean}} Column
 */

/** @type {Record<string, string>} */
export const DECISIONS = { kept: 'Kept', edited: 'Edited', deleted: 'Deleted' };
const CHIPS = 1; // issues shown in a line, the most severe; the others are counted

/** @type {Column[]} */
const BEFORE = [
  { key: 'row', label: 'Row', title: 'Row number in the dataset' },
  { key: 'bucket', label: 'Bucket', className: 'left', title: 'FREEZE, LIGHT, FOCUS or HARD' },
];
/** @type {Column[]} */
const AFTER = [
  { key: 'severity', label: 'Issues', className: 'left', title: 'The most severe issue first', downFirst: true },
  { key: 'loss', label: 'Loss', title: 'Loss at the last visit, in nats per target token', downFirst: true },
  { key: 'confidence', label: 'Confid.', title: 'Confidence at the last visit' },
  { key: 'correct', label: 'Correct', title: 'Whether every target token was the most likely one' },
  { key: 'seen', label: 'Seen', title: 'Number of visits that were trained on', downFirst: true },
];
const FIGURES = /** @type {const} */ (['loss', 'confidence', 'correct', 'seen']);

/**
 * @param {Element} row
 * @param {Order} order
 * @param {boolean} hasPrompts
 * @param {(order: Order) => void} onSort
 */
export function drawHead(row, order, hasPrompts, onSort) {
  const texts = hasPrompts ? ['Prompt', 'Answer'] : ['Text'];
  row.replaceChildren(
    node('th', 'flag'),
    ...BEFORE.map((column) => sortableHead(column, order, onSort)),
    ...texts.map((label) => {
      const cell = node('th', 'text', label);
      cell.scope = 'col';
      return cell;
    }),
    ...AFTER.map((column) => sortableHead(column, order, onSort)),
  );
}

/**
 * @param {Column} column
 * @param {Order} order
 * @param {(order: Order) => void} onSort
 */
function sortableHead({ key, label, className = '', title = '', downFirst = false }, order, onSort) {
  const cell = node('th', className);
  cell.scope = 'col';
  const isSorted = order.sort === key;
  const sort = button(label, '', () => onSort({ sort: key, down: isSorted ? !order.down : downFirst }));
  sort.title = title;
  if (isSorted) {
    cell.setAttribute('aria-sort', order.down ? 'descending' : 'ascending');
    sort.append(node('span', 'arrow', order.down ? ' ↓' : ' ↑'));
  }
  cell.append(sort);
  return cell;
}

/**
 * @param {Line} line
 * @param {{isOpen: boolean, hasPrompts: boolean}} options
 * @param {Handlers} handlers
 */
export function tableRow(line, { isOpen, hasPrompts }, handlers) {
  const row = node('tr', [isOpen ? 'shown' : '', line.decision].join(' ').trim());
  row.dataset.id = String(line.id);
  const bucket = node('td', 'left');
  bucket.append(node('span', `m-bucket ${line.bucket}`, line.name));
  const answer = node('td', 'text answer');
  answer.append(node('span', '', line.answer || translate('(empty)')));
  const issues = node('td', 'left issues');
  if (line.decision) issues.append(node('span', `m-decision ${line.decision}`, DECISIONS[line.decision]));
  issues.append(...issueChips(line.issues, line.decision ? 0 : CHIPS));
  row.append(
    flagCell(line, handlers),
    node('td', 'number', line.row.toLocaleString('en')),
    bucket,
    openerCell(line, hasPrompts),
    ...(hasPrompts ? [answer] : []),
    issues,
    ...FIGURES.map((key) => node('td', 'number', line[key])),
  );
  row.onclick = (event) => {
    if (event.target instanceof Element && !event.target.closest('.flag')) handlers.open(line.id);
  };
  return row;
}

/** @param {Issue} issue */
export function issueChip({ label, severity, note }) {
  const chip = node('span', `m-issue ${severity}`, label);
  chip.title = note;
  return chip;
}

/**
 * @param {Issue[]} issues the most severe first
 * @param {number} shown as chips; the others are counted
 */
function issueChips(issues, shown) {
  const chips = issues.slice(0, shown).map(issueChip);
  const more = issues.slice(shown);
  if (more.length) {
    const count = node('span', 'm-more', `+${more.length}`);
    count.title = more.map(({ label }) => translate(label)).join(', ');
    chips.push(count);
  }
  return chips;
}

/**
 * @param {Line} line
 * @param {Handlers} handlers
 */
function flagCell(line, handlers) {
  const cell = node('td', 'flag');
  const box = node('input');
  box.type = 'checkbox';
  box.checked = line.flagged;
  box.setAttribute('aria-label', `Flag row ${line.row}`);
  box.onchange = () => handlers.flag(line.id, box.checked);
  cell.append(box);
  return cell;
}

/**
 * @param {Line} line
 * @param {boolean} hasPrompts
 */
function openerCell(line, hasPrompts) {
  const cell = node('td', 'text');
  const text = (hasPrompts ? line.prompt : line.answer) || translate('(empty)');
  const opener = node('button', 'm-open', text);
  opener.type = 'button';
  opener.setAttribute('aria-label', `Open row ${line.row}: ${text}`);
  cell.append(opener);
  return cell;
}
