// One sample, opened: its text, its path over the epochs, why it is in its bucket, the losses of its tokens.

import { button, descriptionRows, node, SERVER_UNREACHABLE, setText, View } from './dom.js';
import { pollJob } from './poll.js';
import { drawPath } from './sample_path.js';
import { DECISIONS, issueChip } from './samples_table.js';
import { drawTokenLosses } from './token_losses.js';

/**
 * @typedef {import('./samples_table.js').Issue & {sentence: string, other: number | null}} ExplainedIssue
 *
 * @typedef {import('./samples_table.js').Line & {
 *   sentence: string,
 *   pieces: [string, boolean][],
 *   replacement: [string, string][],
 *   why: string,
 *   explained: ExplainedIssue[],
 *   never_trained: string,
 *   notes: string[],
 *   size: string,
 *   path: import('./sample_path.js').PathPoint[],
 *   threshold: number | null,
 * }} OpenedSample
 *
 * @typedef {object} Host
 * @property {(sentence: string) => void} error
 * @property {(ids: number[]) => void} undo takes the decision on a sample back
 * @property {(id: number) => void} review
 */

export class SampleDetail extends View {
  /**
   * @param {import('./dom.js').Part} part
   * @param {Host} host
   */
  constructor(part, host) {
    super(part);
    this.onError = host.error;
    this.run = '';
    /** @type {number | null} */
    this.id = null;
    this.coloring = 0; // the last question; answers to earlier ones are not drawn
    this.q('.m-look').onclick = () => this.colorTokens();
    this.q('.m-close').onclick = () => this.closeAndReturn();
    this.q('.m-undo').onclick = () => this.id !== null && host.undo([this.id]);
    this.q('.m-mend').onclick = () => this.id !== null && host.review(this.id);
  }

  /**
   * @param {number} id
   * @param {{focus: boolean}} options focus: move there too
   */
  async open(id, { focus }) {
    /** @type {OpenedSample} */
    const sample = await this.server.sample({ run: this.run, id });
    this.onError(sample.sentence);
    if (sample.sentence) return;
    if (this.id !== id) this.clearLosses();
    this.id = id;
    this.markOpened();
    this.draw(sample);
    if (!focus) return;
    this.q('.m-title').focus({ preventScroll: true });
    this.q('.m-one').scrollIntoView({ block: 'nearest', behavior: 'smooth' });
  }

  /** @param {OpenedSample} sample */
  draw(sample) {
    this.q('.m-hint').hidden = true;
    this.q('.m-one').hidden = false;
    this.q('.m-title').replaceChildren(
      node('span', '', `Row ${sample.row.toLocaleString('en')}`),
      node('span', `m-bucket ${sample.bucket}`, sample.name),
    );
    this.q('.m-of-one').replaceChildren(...sample.explained.map((issue) => this.issueItem(issue)));
    this.q('.m-decided').hidden = !sample.decision;
    const mark = this.q('.m-decided .m-decision');
    mark.className = `m-decision ${sample.decision}`;
    setText(mark, DECISIONS[sample.decision] ?? '');
    this.q('.m-text').replaceChildren(...textBlocks(sample.pieces), ...newBlocks(sample.replacement));
    setText(this.q('.m-size'), sample.size);
    this.q('.m-never').hidden = !sample.never_trained;
    setText(this.q('.m-never'), sample.never_trained);
    setText(this.q('.m-why'), sample.why);
    this.q('.m-facts').replaceChildren(
      ...descriptionRows([
        ['First loss', sample.first],
        ['Last loss', sample.loss],
        ['Confidence', sample.confidence],
        ['Q-value', sample.q],
      ]),
    );
    this.q('.m-notes').replaceChildren(...sample.notes.map((note) => node('li', '', note)));
    drawPath(this.q('.m-path'), sample.path, sample.threshold);
  }

  /** @param {ExplainedIssue} issue */
  issueItem(issue) {
    const item = node('li');
    item.append(issueChip({ ...issue, note: '' }), node('span', 'sentence', issue.sentence));
    const { other } = issue;
    if (other !== null) {
      item.append(button('Show the other row', '', () => this.open(other, { focus: true })));
    }
    return item;
  }

  /** Marks the lines of the table that belong to the opened sample. */
  markOpened() {
    for (const row of this.element.querySelectorAll('tbody tr')) {
      const { id } = /** @type {HTMLElement} */ (row).dataset;
      row.classList.toggle('shown', Number(id) === this.id);
    }
  }

  close() {
    this.id = null;
    this.clearLosses();
    this.q('.m-one').hidden = true;
    this.q('.m-hint').hidden = false;
    this.markOpened();
  }

  /** Closes it, and goes back to the line that it was opened from. */
  closeAndReturn() {
    const opener = this.element.querySelector(`tr[data-id="${this.id}"] .m-open`);
    this.close();
    if (opener instanceof HTMLElement) opener.focus();
  }

  // ---------------------------------------------------------------- losses of its tokens

  /** @param {string} error */
  endColoring(error) {
    this.button('.m-look').disabled = false;
    setText(this.q('.m-unsure-status'), '');
    this.showError('.m-unsure-error', error);
  }

  clearLosses() {
    this.coloring += 1;
    this.endColoring('');
    this.q('.m-unsure').hidden = true;
    this.q('.m-losses').replaceChildren();
  }

  async colorTokens() {
    this.clearLosses();
    const question = this.coloring;
    this.button('.m-look').disabled = true;
    setText(this.q('.m-unsure-status'), 'Loading the models');
    let answer = { key: '', error: SERVER_UNREACHABLE };
    try {
      answer = (await this.server.token_losses({ run: this.run, id: this.id })) ?? answer;
    } catch {
      // The sentence is there already.
    }
    if (question !== this.coloring) return;
    if (answer.error) {
      this.endColoring(answer.error);
      return;
    }
    const ask = () => this.server.job({ key: answer.key, drawn: {} });
    await pollJob(this.element, ask, (/** @type {import('./token_losses.js').LossJob | null} */ job) => {
      if (question !== this.coloring) return false;
      if (job?.running) return true;
      this.endColoring(job?.error ?? '');
      if (job) drawTokenLosses(this.q('.m-unsure'), this.q('.m-losses'), job);
      return false;
    });
  }
}

/**
 * Prompt and answer apart: a block for each piece of the text.
 * @param {[string, boolean][]} pieces
 */
function textBlocks(pieces) {
  const shown = pieces.filter(([piece]) => piece.trim());
  return shown.map(([piece, learned]) => {
    const block = node('div', 'm-piece');
    const label = learned ? (shown.length > 1 ? 'Answer (learned)' : 'Text (learned)') : 'Prompt';
    block.append(node('span', 'm-label', label), node('span', learned ? 'learned' : 'context', piece));
    return block;
  });
}

/**
 * What an edited sample is in the cleaned dataset.
 * @param {[string, string][]} replacement label and text of what was replaced
 */
function newBlocks(replacement) {
  return replacement.map(([label, text]) => {
    const block = node('div', 'm-piece');
    block.append(node('span', 'm-label', label), node('span', 'context', text));
    return block;
  });
}
