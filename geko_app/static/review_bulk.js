// Decisions on all samples that are left in the review: first what they would do, then, once confirmed, done in one step.

import { rowsDone, rowsOf } from './decision_words.js';
import { button, SERVER_UNREACHABLE, setText, View } from './dom.js';

/**
 * @typedef {'keep' | 'delete' | 'accept'} Action
 * @typedef {{sentence: string, said: string, key: string, count: number}} Preview
 */

/** @type {Record<Action, (count: string) => string>} */
const LABELS = {
  keep: (count) => `Keep all ${count} rows`,
  delete: (count) => `Delete all ${count} rows`,
  accept: (count) => `Accept ${count} ${count === '1' ? 'suggestion' : 'suggestions'}`,
};

export class ReviewBulk extends View {
  /**
   * @param {import('./dom.js').Part} part
   * @param {() => object} query
   * @param {(done: string) => void} decided
   */
  constructor(part, query, decided) {
    super(part);
    this.query = query;
    this.decided = decided;
    this.shown = '';
    this.q('.v-no').onclick = () => {
      this.cancel();
      const first = this.q('.v-bulk-actions').querySelector('button');
      if (first) first.focus();
    };
    this.q('.v-confirm').onkeydown = (event) => {
      if (event.key === 'Escape') this.q('.v-no').click();
    };
  }

  /** @param {{left_rows: number, suggestions: number}} counts in rows: a decision holds for a whole one */
  show({ left_rows: rows, suggestions }) {
    this.q('.v-bulk').hidden = rows < 2;
    const shown = `${rows} ${suggestions}`;
    if (shown === this.shown) return;
    this.shown = shown;
    const counts = /** @type {[Action, number][]} */ ([
      ['accept', suggestions],
      ['keep', rows],
      ['delete', rows],
    ]);
    this.cancel();
    this.q('.v-bulk-actions').replaceChildren(
      ...counts
        .filter(([, count]) => count > 0)
        .map(([action, count]) => button(LABELS[action](count.toLocaleString('en')), '', () => this.ask(action))),
    );
  }

  cancel() {
    this.q('.v-confirm').hidden = true;
  }

  /**
   * Says what it would do.
   * @param {Action} action
   */
  async ask(action) {
    /** @type {Preview} */
    let found = { sentence: SERVER_UNREACHABLE, said: '', key: '', count: 0 };
    try {
      found = (await this.server.preview_all({ ...this.query(), action })) ?? found;
    } catch {
      // The sentence is there already.
    }
    const rows = rowsOf(found.count);
    const done = action === 'accept' ? rowsDone(found.count, 'replace', 'suggested') : rowsDone(found.count, action);
    setText(this.q('.v-would'), found.sentence || found.said);
    const yes = this.button('.v-yes');
    yes.hidden = Boolean(found.sentence) || !found.count;
    setText(yes, { keep: `Keep ${rows}`, delete: `Delete ${rows}`, accept: `Change ${rows}` }[action]);
    yes.onclick = () => this.confirm(action, found.key, done);
    this.q('.v-confirm').hidden = false;
    this.q('.v-no').focus();
  }

  /**
   * @param {Action} action
   * @param {string} key
   * @param {string} done
   */
  async confirm(action, key, done) {
    const yes = this.button('.v-yes');
    yes.disabled = true;
    let found = { sentence: SERVER_UNREACHABLE };
    try {
      found = (await this.server.decide_all({ ...this.query(), action, key })) ?? found;
    } catch {
      // The sentence is there already.
    }
    yes.disabled = false;
    if (found.sentence) {
      setText(this.q('.v-would'), found.sentence);
      yes.hidden = true;
      return;
    }
    this.cancel();
    this.decided(done);
  }
}
