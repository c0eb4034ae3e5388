// The card of a run that has ended: what comes next, its figures, where its model is.

import { button, codeWithCopy, copyLine, descriptionRows, node, openPage } from './dom.js';
import { compareRuns, tryRun } from './runs_selection.js';

/**
 * @typedef {{name: string, label: string, why: string}} Variant a run that one may want to start next
 * @typedef {{run: string, end: string}} Partner the run with GEKO off, or on, that this one is compared with; "" for none
 *
 * @typedef {object} Summary
 * @property {string} end
 * @property {string} title
 * @property {string} reason
 * @property {[string, string][]} rows
 * @property {string} exact a sentence, where exact match says little
 * @property {boolean} can_try whether there is a model or a checkpoint to ask
 * @property {boolean} can_export
 * @property {string} folder
 * @property {string} model
 * @property {string} code
 * @property {Variant[]} variants
 * @property {string} worth what the corrections were worth that the run was started with
 * @property {boolean} room whether the disk is full
 *
 * @typedef {object} Options
 * @property {string} run
 * @property {Partner} partner
 * @property {(name: string) => Promise<void>} start starts a variant
 * @property {() => void} showExport
 * @property {() => void} showPush
 */

const BASELINE = 'control'; // the variant that is the plain baseline

/**
 * @param {HTMLElement} card
 * @param {Summary | null} summary
 * @param {Options} options
 */
export function drawSummary(card, summary, options) {
  const key = JSON.stringify([summary, options.run, options.partner]);
  if (card.dataset.key === key) return;
  card.dataset.key = key;
  card.hidden = !summary;
  if (!summary) return;
  card.dataset.end = summary.end;
  card.replaceChildren(node('h3', '', summary.title), node('p', 'geko-hint', summary.reason), next(summary, options));
  if (summary.worth) card.append(node('p', 'geko-worth', summary.worth));
  if (summary.rows.length) {
    const rows = node('dl');
    rows.append(...descriptionRows(summary.rows));
    card.append(rows);
  }
  if (summary.exact) card.append(node('p', 'geko-hint', summary.exact));
  card.append(copyLine(summary.model ? 'Model' : 'Run folder', summary.model || summary.folder));
  if (summary.room) card.append(fullDisk());
  const variants = summary.variants.filter(({ name }) => name !== BASELINE);
  if (variants.length) card.append(variantButtons(variants, options.start));
  if (summary.code) card.append(loadingCode(summary.code));
}

/**
 * What one does with the result, the first thing first.
 * @param {Summary} summary
 * @param {Options} options
 */
function next(summary, { run, partner, start, showExport, showPush }) {
  const row = node('div', 'geko-next');
  if (summary.can_try) row.append(button('Try it', 'n-first', () => tryRun(run)));
  if (summary.can_export) row.append(button('Export', '', showExport), button('Push', '', showPush));
  const baseline = summary.variants.find(({ name }) => name === BASELINE);
  if (partner.end === 'complete') {
    row.append(button('Compare with baseline', '', () => compareRuns([run, partner.run])));
  } else if (partner.run && !partner.end) {
    const waiting = button('Compare with baseline', '', () => {});
    waiting.disabled = true;
    waiting.title = 'The baseline has not come to its end yet.';
    row.append(waiting);
  } else if (baseline) {
    row.append(variantButton(baseline, start));
  }
  return row;
}

/**
 * @param {Variant} variant
 * @param {Options['start']} start
 */
function variantButton({ name, label, why }, start) {
  const made = button(label, '', async () => {
    made.disabled = true;
    await start(name);
  });
  made.title = why;
  return made;
}

/**
 * @param {Variant[]} variants
 * @param {Options['start']} start
 */
function variantButtons(variants, start) {
  const row = node('div', 'geko-variants');
  row.append(...variants.map((variant) => variantButton(variant, start)));
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

/** @param {string} text */
function loadingCode(text) {
  const details = node('details');
  const code = node('div', 'geko-code');
  code.append(...codeWithCopy(text));
  details.append(node('summary', '', 'Load it in Python'), code);
  return details;
}
