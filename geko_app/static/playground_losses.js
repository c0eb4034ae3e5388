// The losses of the expected answer of the last turn, token by token, by both models.

import { setText } from './dom.js';
import { drawTokenLosses } from './token_losses.js';

/**
 * @typedef {import('./playground_turn.js').Asked} Asked
 * @typedef {import('./token_losses.js').LossJob} LossJob
 */

export class ExpectedLosses {
  /**
   * @param {import('./dom.js').View} view
   * @param {import('./playground_conversation.js').Conversation} conversation
   */
  constructor(view, conversation) {
    this.view = view;
    this.conversation = conversation;
    this.key = '';
  }

  /** @param {Asked} asked */
  async show({ run_id: run, ...asked }) {
    const { view } = this;
    view.showError('.t-unsure-error', '');
    setText(view.q('.t-unsure-status'), 'Loading the models');
    view.button('.t-look').disabled = true;
    const { key, error } = await this.conversation.start('token_losses', { ...asked, run });
    this.key = key;
    if (error) {
      this.end(error);
      return;
    }
    const draw = (/** @type {LossJob | null} */ job) => {
      if (job?.running) return;
      this.end(job?.error ?? '');
      if (job) drawTokenLosses(view.q('.t-legend'), view.q('.t-losses'), job);
    };
    this.conversation.follow(key, () => this.key === key, draw);
  }

  /** @param {string} error */
  end(error) {
    this.view.button('.t-look').disabled = false;
    setText(this.view.q('.t-unsure-status'), '');
    this.view.showError('.t-unsure-error', error);
  }

  clear() {
    this.key = '';
    this.view.q('.t-legend').hidden = true;
    this.view.q('.t-losses').replaceChildren();
    this.end('');
  }
}
