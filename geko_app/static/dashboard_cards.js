// What the dashboard draws besides its charts: figures, buckets, the log.

import { isAtEnd, node, setText } from './dom.js';

const LINES_HELD = 200;

/**
 * @typedef {{name: string, value: string, note: string}} Stat
 * @typedef {{bucket: string, name: string, share: number, count: string}} BucketRow
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
    setText(list.children[i].querySelector('dt'), stat.name); // the time left becomes the time that it took
    const value = /** @type {HTMLElement} */ (list.children[i].querySelector('.value'));
    setText(value, stat.value);
    value.style.setProperty('--letters', String(Math.max(7, stat.value.length)));
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
