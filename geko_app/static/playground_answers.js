// The two answers of the Playground page, drawn while they are written.

import { isAtEnd, setText, View } from './dom.js';

/**
 * @typedef {object} Side
 * @property {'base' | 'tuned'} side
 * @property {number} from how many characters come before `text`
 * @property {string} text
 * @property {boolean} writing
 * @property {string} status
 * @property {string} verdict
 * @property {string} error
 *
 * @typedef {object} Asked what a job was asked
 * @property {string} run_id
 * @property {string} which
 * @property {string} prompt
 * @property {string} answer
 * @property {string} example
 *
 * @typedef {object} AnswerJob
 * @property {boolean} running
 * @property {Side[]} sides
 * @property {string} error
 * @property {string} note
 * @property {string} read what both models were given
 * @property {number} read_tokens
 * @property {Asked} [asked]
 */

const SIDES = /** @type {const} */ (['base', 'tuned']);

export class Answers extends View {
  /** How many characters of each answer are drawn. */
  drawnCharacters() {
    return Object.fromEntries(SIDES.map((side) => [side, characters(this.textOf(side).textContent).length]));
  }

  clear() {
    for (const side of SIDES) {
      setText(this.textOf(side), '');
      this.textOf(side).classList.remove('t-failed');
      setText(this.q(`${card(side)} .t-status`), '');
      this.setVerdict(side, '');
    }
    this.q('.t-read').hidden = true;
  }

  /** @param {AnswerJob} job */
  draw(job) {
    job.sides.forEach((side) => this.drawSide(side));
    this.q('.t-read').hidden = !job.read;
    setText(this.q('.t-read pre'), job.read);
    setText(this.q('.t-read summary'), `Model input · ${job.read_tokens} tokens`);
    this.showError('.t-error', [job.error, job.note].filter(Boolean).join(' '));
  }

  /** @param {Side} side */
  drawSide(side) {
    const target = this.textOf(side.side);
    // An answer grows at its end; where it was drawn from another job, it is drawn anew.
    const drawn = characters(target.textContent);
    const atEnd = isAtEnd(target);
    if (side.text || side.from < drawn.length) target.textContent = drawn.slice(0, side.from).join('') + side.text;
    if (side.writing && atEnd) target.scrollTop = target.scrollHeight;
    target.setAttribute('aria-busy', String(side.writing));
    target.classList.toggle('t-writing', side.writing);
    target.classList.toggle('t-failed', Boolean(side.error));
    if (side.error) setText(target, side.error);
    setText(this.q(`${card(side.side)} .t-status`), side.status);
    this.setVerdict(side.side, side.verdict);
  }

  /**
   * @param {string} side
   * @param {string} verdict
   */
  setVerdict(side, verdict) {
    this.q(card(side)).dataset.verdict = verdict;
    setText(this.q(`${card(side)} .t-verdict`), verdict);
  }

  /** @param {string} side */
  textOf(side) {
    return this.q(`${card(side)} .t-text`);
  }
}

/** @param {string} side */
function card(side) {
  return `.t-card[data-side="${side}"]`;
}

/**
 * Characters as Python counts them, not UTF-16 halves.
 * @param {string | null} text
 */
function characters(text) {
  return [...(text ?? '')];
}
