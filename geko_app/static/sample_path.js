// Two small curves over the epochs of one sample: its loss and its confidence.

import { node } from './dom.js';

/**
 * @typedef {object} PathPoint where the sample stood at the end of an epoch; null where it was not visited
 * @property {number} epoch
 * @property {number | null} loss
 * @property {number | null} confidence
 * @property {boolean} correct
 * @property {string} bucket
 *
 * @typedef {object} Curve
 * @property {'loss' | 'confidence'} key
 * @property {string} label
 * @property {number} most the value at the top
 * @property {string} top its label
 * @property {number | null} threshold
 */

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 380;
const HEIGHT = 112;
const LEFT = 40;
const RIGHT = 14;
const ABOVE = 26;
const BELOW = 22;
const MOST_LABELS = 12;

/**
 * @param {HTMLElement} target
 * @param {PathPoint[]} path
 * @param {number | null} threshold confidence from which on a sample may be frozen
 */
export function drawPath(target, path, threshold) {
  if (path.every((point) => point.loss === null)) {
    const sentence = path.length ? 'Not visited so far.' : 'Available after the first epoch.';
    target.replaceChildren(node('p', 'geko-hint', sentence));
    return;
  }
  const most = Math.max(0.01, ...path.map((point) => point.loss ?? 0));
  target.replaceChildren(
    drawCurve(path, { key: 'loss', label: 'Loss', most, top: most.toFixed(2), threshold: null }),
    drawCurve(path, { key: 'confidence', label: 'Confidence', most: 1, top: '1', threshold }),
  );
}

/**
 * @param {PathPoint[]} path
 * @param {Curve} curve
 */
function drawCurve(path, { key, label, most, top, threshold }) {
  const first = path[0].epoch;
  const last = path[path.length - 1].epoch;
  const x = (/** @type {number} */ epoch) =>
    LEFT + (last === first ? 0.5 : (epoch - first) / (last - first)) * (WIDTH - LEFT - RIGHT);
  const y = (/** @type {number} */ value) => HEIGHT - BELOW - (value / most) * (HEIGHT - BELOW - ABOVE);
  const visited = path.flatMap((point) => (point[key] === null ? [] : [{ ...point, value: point[key] }]));

  const drawing = shape('svg', {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: 'img',
    'aria-label': inWords(path, key, label),
  });
  drawing.append(horizontal(y(0), 'axis'));
  if (threshold !== null) drawing.append(horizontal(y(threshold), 'threshold'));
  drawing.append(shape('text', { x: LEFT - 6, y: y(most) + 4, class: 'label end' }, top));
  drawing.append(shape('text', { x: LEFT - 6, y: y(0) + 4, class: 'label end' }, '0'));
  drawing.append(shape('text', { x: LEFT - 2, y: 12, class: 'label name' }, label));
  const points = visited.map((point) => `${x(point.epoch)},${y(point.value)}`).join(' ');
  drawing.append(shape('polyline', { points, class: 'curve' }));
  for (const { epoch, value, correct, bucket } of visited) {
    const dot = shape('circle', { cx: x(epoch), cy: y(value), r: 4.5, class: `dot ${bucket}` });
    const answer = correct ? 'correct' : 'wrong';
    dot.append(shape('title', {}, `Epoch ${epoch}: ${value.toFixed(3)}, ${answer}, ${bucket.toUpperCase()}`));
    drawing.append(dot);
  }
  const every = Math.ceil(path.length / MOST_LABELS);
  const labelled = path.filter((_, i) => i % every === 0);
  const labels = labelled.map(({ epoch }) =>
    shape('text', { x: x(epoch), y: HEIGHT - 6, class: 'label middle' }, epoch),
  );
  drawing.append(...labels);
  return drawing;
}

/**
 * @param {PathPoint[]} path
 * @param {'loss' | 'confidence'} key
 * @param {string} label
 */
function inWords(path, key, label) {
  const values = path.map(
    (p) => `epoch ${p.epoch}: ${p[key] === null ? 'not visited' : p[key].toFixed(3)}, ${p.bucket}`,
  );
  return `${label} by epoch. ${values.join('; ')}`;
}

/**
 * @param {number} y
 * @param {string} className
 */
function horizontal(y, className) {
  return shape('line', { x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y, class: className });
}

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {string | number} [content]
 */
function shape(tag, attributes, content) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  if (content !== undefined) made.textContent = String(content);
  return made;
}
