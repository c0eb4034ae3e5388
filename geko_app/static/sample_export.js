// The card "Cleaned dataset": what it contains, taking it along, and training again with it.

import { download, emit, openPage, setText, View } from './dom.js';
import { variantRow } from './sample_variants.js';

const TAKEN_ALONG = ['flagged', 'reviewed']; // filters: without a sample in any of them, the next run would be the same

/**
 * @typedef {object} Contents
 * @property {string} run
 * @property {Record<string, number>} counts
 * @property {Record<string, unknown>} next_run
 * @property {string} export
 * @property {import('./sample_variants.js').Variant[]} retraining
 */

export class SampleExport extends View {
  /** @param {import('./dom.js').Part} part */
  constructor(part) {
    super(part);
    this.run = '';
    /** @type {Record<string, unknown>} */
    this.fields = {};
    this.q('.m-dataset').onclick = () => this.trigger('download', { run: this.run, kind: 'dataset' });
    this.q('.m-list').onclick = () => this.trigger('download', { run: this.run, kind: 'list' });
    this.q('.m-use').onclick = () => {
      emit('geko-use', { fields: this.fields });
      openPage('Train');
    };
    window.addEventListener('geko-download', ({ detail }) => {
      if (detail?.url) download(detail.orig_name ?? 'samples', detail.url);
    });
  }

  /** @param {Contents} contents */
  show({ run, counts, next_run: fields, export: sentence, retraining }) {
    this.run = run;
    this.fields = fields;
    setText(this.q('.m-export-note'), sentence);
    this.button('.m-use').disabled = !TAKEN_ALONG.some((filter) => counts[filter]);
    const shown = JSON.stringify(retraining);
    const target = this.q('.m-retrain');
    if (target.dataset.shown === shown) return;
    target.dataset.shown = shown;
    const start = (/** @type {string} */ name) => this.server.retrain({ run: this.run, name });
    const showError = (/** @type {string} */ text) => this.showError('.m-retrain-error', text);
    target.replaceChildren(...retraining.map((variant) => variantRow(variant, start, showError)));
  }
}
