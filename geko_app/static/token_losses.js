// The tokens of a text, each colored by the loss that both models give it.

import { node } from './dom.js';

/**
 * @typedef {object} LossSide
 * @property {string} title
 * @property {string} mean
 * @property {string} error
 * @property {[string, number | null, string][]} tokens text, level of its color (null: not learned), and what it means
 *
 * @typedef {object} LossJob
 * @property {boolean} running
 * @property {string} error
 * @property {string[]} legend
 * @property {LossSide[]} sides
 */

/**
 * @param {HTMLElement} legend
 * @param {HTMLElement} target
 * @param {LossJob} job
 */
export function drawTokenLosses(legend, target, job) {
  const known = job.sides.filter((side) => side.tokens.length || side.error);
  legend.hidden = !known.some((side) => side.tokens.length);
  legend.replaceChildren(...job.legend.map((label, level) => node('li', `t-level-${level}`, label)));
  target.replaceChildren(...known.map(lossSide));
}

/** @param {LossSide} side */
function lossSide(side) {
  const part = node('div', 't-loss');
  const head = node('div', 't-loss-head');
  head.append(node('h4', '', side.title), node('span', '', side.mean ? `mean loss ${side.mean}` : ''));
  const line = node('p', 't-tokens');
  line.append(...side.tokens.map(lossToken));
  part.append(head, side.error ? node('p', 'geko-error', side.error) : line);
  return part;
}

/** @param {LossSide['tokens'][number]} token */
function lossToken([text, level, meaning]) {
  const token = node('span', level === null ? 't-given' : `t-level-${level}`, text.replaceAll('\n', '↵\n') || '·');
  token.title = meaning;
  return token;
}
