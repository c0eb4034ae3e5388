// The card "Core set": how large it is, what runs on it have shown, downloading it and training on it.

import { SERVER_UNREACHABLE, setText, View } from './dom.js';
import { variantRow } from './sample_variants.js';

/**
 * @typedef {object} CoreSet
 * @property {string} sentence why there is none; "" otherwise
 * @property {string} size
 * @property {string} verdict what a run on it has shown, or that none has
 * @property {boolean} checked
 * @property {number} percent of the rows
 * @property {import('./sample_variants.js').Variant[]} runs
 */

export class SampleCoreSet extends View {
  /** @param {import('./dom.js').Part} part */
  constructor(part) {
    super(part);
    this.run = '';
    /** @type {number | null} */
    this.percent = null; // null: by the record
    this.questions = 0; // so that a late answer replaces no later one
    this.card = this.find('.core-card', HTMLDetailsElement);
    this.card.ontoggle = () => this.load();
    const given = this.input('.core-percent');
    given.onchange = () => this.choose(given.value ? given.valueAsNumber : null);
    this.q('.core-default').onclick = () => this.choose(null);
    this.q('.core-download').onclick = () => this.trigger('download', { kind: 'core_set', ...this.query() });
  }

  query() {
    return { run: this.run, percent: this.percent };
  }

  /** @param {number | null} percent */
  choose(percent) {
    this.percent = percent;
    this.load();
  }

  /** @param {string} run */
  show(run) {
    if (run !== this.run) this.percent = null;
    this.run = run;
    this.load();
  }

  /** Nothing is asked while the card is closed. */
  async load() {
    if (!this.card.open || !this.run) return;
    this.questions += 1;
    const question = this.questions;
    try {
      const data = await this.server.core_set(this.query());
      if (question === this.questions) this.draw(data);
    } catch {
      this.showError('.core-error', SERVER_UNREACHABLE);
    }
  }

  /** @param {CoreSet} data */
  draw({ sentence, size, verdict, checked, percent, runs }) {
    this.showError('.core-error', sentence);
    this.q('.core-about').hidden = this.q('.core-verdict').hidden = Boolean(sentence);
    this.button('.core-download').disabled = Boolean(sentence);
    this.q('.core-runs').hidden = Boolean(sentence);
    if (sentence) return;
    if (document.activeElement !== this.input('.core-percent')) this.input('.core-percent').value = String(percent);
    setText(this.q('.core-about'), size);
    setText(this.q('.core-verdict'), verdict);
    this.q('.core-verdict').classList.toggle('checked', checked);
    const start = (/** @type {string} */ name) => this.server.train_on_set({ ...this.query(), name });
    const showError = (/** @type {string} */ text) => this.showError('.core-error', text);
    this.q('.core-runs').replaceChildren(...runs.map((variant) => variantRow(variant, start, showError)));
  }
}
