// What the review shows: the sample to decide, its answers side by side, how far the review is. Decides nothing.

import { button, node, setText, View } from './dom.js';
import { translate } from './language.js';
import { DECISIONS, issueChip } from './samples_table.js';

/**
 * @typedef {import('./sample_review.js').Card} Card
 * @typedef {import('./sample_review.js').Queue} Queue
 */

const KEYS = [
  ['K', 'Keep the sample as it is. It is not asked about again.'],
  ['D', 'Delete it from the dataset.'],
  ['E', 'Edit prompt and answer. Ctrl Enter saves, Esc cancels.'],
  ['1', 'Accept the answer that the label check suggests.'],
  ['2', 'Accept the answer of the similar sample.'],
  ['M', 'Ask the newest model of the run. You confirm its answer.'],
  ['J  →', 'Skip: the next one, without a decision.'],
  ['←', 'Back to the last skipped one.'],
  ['U', 'Undo the newest decision.'],
];

export class ReviewPage extends View {
  /**
   * @param {import('./dom.js').Part} part
   * @param {(id: number) => void} onOpen called for another sample that an issue names
   */
  constructor(part, onOpen) {
    super(part);
    this.onOpen = onOpen;
    this.q('.v-keys').replaceChildren(
      ...KEYS.map(([keys, meaning]) => {
        const line = node('div');
        const term = node('dt');
        term.append(...keys.split('  ').map((key) => node('kbd', '', key)));
        line.append(term, node('dd', '', meaning));
        return line;
      }),
    );
  }

  /** @param {Queue} queue */
  drawProgress({ total, reviewed, decided }) {
    setText(this.q('.v-reviewed'), `${reviewed.toLocaleString('en')} of ${total.toLocaleString('en')} reviewed`);
    const bar = this.q('.v-bar');
    bar.setAttribute('aria-valuemax', String(total));
    bar.setAttribute('aria-valuenow', String(reviewed));
    /** @type {HTMLElement} */ (bar.firstElementChild).style.width = `${(100 * reviewed) / Math.max(total, 1)}%`;
    const counts = Object.entries({ Kept: decided.kept, Edited: decided.edited, Deleted: decided.deleted });
    this.q('.v-counts').replaceChildren(
      ...counts.map(([name, count]) => {
        const line = node('div');
        line.append(node('dt', '', name), node('dd', '', count.toLocaleString('en')));
        return line;
      }),
    );
  }

  /**
   * @param {Card} card
   * @param {boolean} hasPrompts
   */
  drawCard(card, hasPrompts) {
    const mark = card.decision ? [node('span', `m-decision ${card.decision}`, DECISIONS[card.decision])] : [];
    this.q('.v-title').replaceChildren(node('span', '', `Row ${card.row.toLocaleString('en')}`), ...mark);
    this.q('.v-issues').replaceChildren(...card.issues.map((issue) => this.issueItem(issue)));
    this.q('.v-prompt-part').hidden = !hasPrompts;
    setText(this.q('.v-given-title'), hasPrompts ? 'Given answer' : 'Text');
    setText(this.q('.v-prompt'), card.prompt || translate('(empty)'));
    setText(this.q('.v-given'), card.answer || translate('(empty)'));
    this.drawProposal('suggested', card.suggested?.answer);
    this.drawProposal('similar', card.similar?.answer);
    setText(this.q('.v-similar-title'), card.similar ? `Answer of row ${card.similar.row.toLocaleString('en')}` : '');
    setText(this.q('.v-fixed'), card.fixed);
    this.button('.v-edit').disabled = Boolean(card.fixed);
    this.button('.v-model').disabled = !card.asks;
  }

  /**
   * @param {'suggested' | 'similar'} name
   * @param {string} [answer]
   */
  drawProposal(name, answer) {
    this.q(`.v-${name}-part`).hidden = answer === undefined;
    setText(this.q(`.v-${name}`), answer ?? '');
  }

  /** @param {Card['issues'][number]} issue */
  issueItem(issue) {
    const item = node('li');
    item.append(issueChip({ ...issue, note: '' }), node('span', 'sentence', issue.sentence));
    const { other } = issue;
    if (other !== null) item.append(button('Review the other row', '', () => this.onOpen(other)));
    return item;
  }

  /**
   * @param {Queue | null} queue
   * @param {boolean} isComing whether the next samples are on their way
   */
  drawEnd(queue, isComing) {
    const skipped = queue?.skipped ?? 0;
    const title = isComing
      ? 'Loading the next sample'
      : skipped
        ? 'Only skipped samples are left'
        : 'Nothing is left to review';
    setText(this.q('.v-done-title'), title);
    const note = isComing
      ? ''
      : skipped
        ? `${skipped.toLocaleString('en')} of this filter and search were skipped.`
        : 'Every sample of this filter and search has a decision. Choose another filter, or use the dataset.';
    setText(this.q('.v-done-note'), note);
    this.q('.v-again').hidden = isComing || !skipped;
  }
}
