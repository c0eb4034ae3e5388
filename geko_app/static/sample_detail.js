// One sample, opened: its text, its path over the epochs, why it is in its bucket, the losses of its tokens.

import { button, node, SERVER_UNREACHABLE, setText, View } from './dom.js';
import { pollJob } from './poll.js';
import { drawPath } from './sample_path.js';
import { drawTokenLosses } from './token_losses.js';

/**
 * @typedef {import('./samples_table.js').Line & {
 *   sentence: string,
 *   pieces: [string, boolean][],
 *   why: string,
 *   other: number | null,
 *   notes: string[],
 *   size: string,
 *   path: import('./sample_path.js').PathPoint[],
 *   threshold: number | null,
 * }} OpenedSample
 */

export class SampleDetail extends View {
  /**
   * @param {import('./dom.js').Part} part
   * @param {(sentence: string) => void} onError
   */
  constructor(part, onError) {
    super(part);
    this.onError = onError;
    this.run = '';
    /** @type {number | null} */
    this.id = null;
    this.coloring = 0; // the last question; answers to earlier ones are not drawn
    this.q('.m-look').onclick = () => this.colorTokens();
    this.q('.m-close').onclick = () => this.closeAndReturn();
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
    this.q('.m-one').hidden = false;
    this.q('.m-title').replaceChildren(
      node('span', '', `Row ${sample.row.toLocaleString('en')}`),
      node('span', `m-bucket ${sample.bucket}`, sample.name),
    );
    setText(this.q('.m-why'), sample.why);
    this.q('.m-reasons').replaceChildren(
      ...[...sample.reasons, ...sample.notes].map((reason) => node('li', '', reason)),
    );
    const { other } = sample;
    if (other !== null) {
      const item = node('li', 'other');
      item.append(button('Show the other answer', '', () => this.open(other, { focus: true })));
      this.q('.m-reasons').append(item);
    }
    this.q('.m-text').replaceChildren(
      ...sample.pieces.map(([piece, learned]) => node('span', learned ? 'learned' : '', piece)),
    );
    setText(this.q('.m-size'), sample.size);
    drawPath(this.q('.m-path'), sample.path, sample.threshold);
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
      answer = await this.server.token_losses({ run: this.run, id: this.id });
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
