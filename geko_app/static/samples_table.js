// The table of samples: its head and its lines.

import { button, node } from './dom.js';

/**
 * @typedef {object} Line one sample, as texts
 * @property {number} id
 * @property {number} row
 * @property {boolean} flagged
 * @property {string} bucket
 * @property {string} name of the bucket
 * @property {string} first
 * @property {string} loss
 * @property {string} confidence
 * @property {string} correct
 * @property {string} q
 * @property {number} seen
 * @property {string} step
 * @property {string} text
 * @property {string[]} reasons
 *
 * @typedef {{sort: string, down: boolean}} Order
 *
 * @typedef {object} Handlers
 * @property {(id: number) => void} open
 * @property {(id: number, flagged: boolean) => void} flag
 */

/** @type {{key: string, label: string, title?: string, downFirst?: boolean}[]} */
const COLUMNS = [
  { key: 'row', label: 'Row', title: 'Row number in the dataset' },
  { key: 'bucket', label: 'Bucket', title: 'FREEZE, LIGHT, FOCUS or HARD' },
  { key: 'text', label: 'Text' },
  { key: 'first', label: 'First loss', title: 'Loss at the first visit, in nats per target token', downFirst: true },
  { key: 'loss', label: 'Loss', title: 'Loss at the last visit, in nats per target token', downFirst: true },
  { key: 'confidence', label: 'Confid.', title: 'Confidence at the last visit' },
  { key: 'correct', label: 'Correct', title: 'Whether every target token was the most likely one' },
  { key: 'q', label: 'Q', title: 'Q-value: moving average of the reward' },
  { key: 'seen', label: 'Seen', title: 'Number of visits that were trained on', downFirst: true },
  { key: 'step', label: 'Step', title: 'Optimizer step of the last visit', downFirst: true },
];
const FIGURES = /** @type {const} */ (['first', 'loss', 'confidence', 'correct', 'q', 'seen', 'step']);

/**
 * @param {Element} row
 * @param {Order} order
 * @param {(order: Order) => void} onSort
 */
export function drawHead(row, order, onSort) {
  const cells = COLUMNS.map(({ key, label, title, downFirst = false }) => {
    const cell = node('th', label.toLowerCase().replace(' ', '-'));
    cell.scope = 'col';
    if (key === 'text') {
      cell.textContent = label;
      return cell;
    }
    const isSorted = order.sort === key;
    const sort = button(label, '', () => onSort({ sort: key, down: isSorted ? !order.down : downFirst }));
    sort.title = title ?? '';
    if (isSorted) {
      cell.setAttribute('aria-sort', order.down ? 'descending' : 'ascending');
      sort.append(node('span', 'arrow', order.down ? ' ↓' : ' ↑'));
    }
    cell.append(sort);
    return cell;
  });
  row.replaceChildren(node('th', 'flag'), ...cells);
}

/**
 * One or two table rows for a sample: the second says, over the whole width, what is suspicious.
 * @param {Line} line
 * @param {boolean} isOpen
 * @param {Handlers} handlers
 */
export function tableRows(line, isOpen, handlers) {
  const row = node('tr', isOpen ? 'shown' : '');
  row.dataset.id = String(line.id);
  const bucket = node('td');
  bucket.append(node('span', `m-bucket ${line.bucket}`, line.name));
  row.append(
    flagCell(line, handlers),
    node('td', 'number', line.row.toLocaleString('en')),
    bucket,
    textCell(line),
    ...FIGURES.map((key) => node('td', 'number', line[key])),
  );
  row.onclick = (event) => {
    if (event.target instanceof Element && !event.target.closest('.flag')) handlers.open(line.id);
  };
  return line.reasons.length ? [row, reasonRow(line, row)] : [row];
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

/** @param {Line} line */
function textCell(line) {
  const cell = node('td', 'text');
  const opener = node('button', 'm-open', line.text || '(empty)');
  opener.type = 'button';
  opener.setAttribute('aria-label', `Open row ${line.row}: ${line.text}`);
  cell.append(opener);
  return cell;
}

/**
 * @param {Line} line
 * @param {HTMLTableRowElement} row
 */
function reasonRow(line, row) {
  row.classList.add('odd');
  const below = node('tr', `why ${row.className}`);
  below.dataset.id = row.dataset.id;
  const reason = node('td', 'reason');
  reason.append(node('div', '', line.reasons.join(' ')));
  reason.colSpan = COLUMNS.length - 1;
  below.append(node('td'), node('td'), reason);
  below.onclick = row.onclick;
  return below;
}
