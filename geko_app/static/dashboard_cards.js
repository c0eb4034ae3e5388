// What the dashboard draws besides its charts: figures, buckets, the card at the end, the log.

import { button, codeWithCopy, copyLine, descriptionRows, isAtEnd, node, openPage, setText } from './dom.js';

const LINES_HELD = 200;

/**
 * @typedef {{name: string, value: string, note: string}} Stat
 * @typedef {{bucket: string, name: string, share: number, count: string}} BucketRow
 * @typedef {{name: string, label: string, why: string}} Variant a run that one may want to start next
 *
 * @typedef {object} Summary
 * @property {string} end
 * @property {string} title
 * @property {string} reason
 * @property {[string, string][]} rows
 * @property {string} folder
 * @property {string} model
 * @property {string} code
 * @property {Variant[]} variants
 * @property {boolean} room whether the disk is full
 */

/**
 * @param {HTMLElement} list
 * @param {Stat[]} stats
 */
export function drawStats(list, stats) {
  if (list.children.length !== stats.length) {
    list.replaceChildren(
      ...stats.map((stat) => {
        const box = node('div');
        box.append(node('dt', '', stat.name), node('dd', 'value'), node('dd', 'note'));
        return box;
      }),
    );
  }
  stats.forEach((stat, i) => {
    setText(list.children[i].querySelector('.value'), stat.value);
    setText(list.children[i].querySelector('.note'), stat.note);
  });
}

/**
 * @param {HTMLElement} bars
 * @param {BucketRow[]} buckets
 */
export function drawBars(bars, buckets) {
  if (bars.children.length !== buckets.length) {
    bars.replaceChildren(
      ...buckets.map((bucket) => {
        const row = node('div', `bar ${bucket.bucket}`);
        const track = node('div', 'track');
        track.append(node('span'));
        row.append(node('span', 'name', bucket.name), track, node('span', 'share'), node('span', 'count'));
        return row;
      }),
    );
  }
  buckets.forEach((bucket, i) => {
    const row = bars.children[i];
    const percent = 100 * bucket.share;
    /** @type {HTMLElement} */ (row.querySelector('.track span')).style.width = `${percent}%`;
    setText(row.querySelector('.share'), `${percent.toFixed(1)} %`);
    setText(row.querySelector('.count'), bucket.count);
  });
}

/**
 * The card of a run that has ended.
 * @param {HTMLElement} card
 * @param {Summary | null} summary
 * @param {(name: string) => Promise<void>} onVariant
 */
export function drawSummary(card, summary, onVariant) {
  const key = JSON.stringify(summary);
  if (card.dataset.key === key) return;
  card.dataset.key = key;
  card.hidden = !summary;
  if (!summary) return;
  card.dataset.end = summary.end;
  card.replaceChildren(node('h3', '', summary.title), node('p', 'geko-hint', summary.reason));
  if (summary.rows.length) {
    const rows = node('dl');
    rows.append(...descriptionRows(summary.rows));
    card.append(rows);
  }
  card.append(copyLine(summary.model ? 'Model' : 'Run folder', summary.model || summary.folder));
  if (summary.room) card.append(fullDisk());
  if (summary.variants.length) card.append(variantButtons(summary.variants, onVariant));
  if (summary.code) {
    const code = node('div', 'geko-code');
    code.append(...codeWithCopy(summary.code));
    card.append(code);
  }
}

/**
 * @param {Variant[]} variants
 * @param {(name: string) => Promise<void>} onVariant
 */
function variantButtons(variants, onVariant) {
  const row = node('div', 'geko-variants');
  for (const { name, label, why } of variants) {
    const made = button(label, '', async () => {
      made.disabled = true;
      await onVariant(name);
    });
    made.title = why;
    row.append(made);
  }
  row.append(node('p', 'geko-hint', variants.length === 1 ? variants[0].why : ''));
  return row;
}

/** On a full disk: where something can be deleted. */
function fullDisk() {
  const row = node('div', 'geko-variants');
  row.append(
    button('See the size of each run', '', () => openPage('Runs')),
    node('p', 'geko-hint', 'Delete old runs there, then press Resume.'),
  );
  return row;
}

/**
 * Appends `lines` (time, level, text) to the log, or puts them in its place.
 * @param {HTMLElement} list
 * @param {[string, string, string][]} lines
 * @param {boolean} anew
 */
export function drawLog(list, lines, anew) {
  if (anew) list.replaceChildren();
  if (!lines.length) return;
  const atEnd = isAtEnd(list);
  for (const [time, level, text] of lines) {
    const line = node('li', level);
    line.append(node('time', '', time), node('span', '', text));
    list.append(line);
  }
  while (list.children.length > LINES_HELD) list.firstChild?.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}
