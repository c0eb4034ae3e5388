// The review of samples, one after the other: decide with a key or a button, and the next one comes at once.

import { allDone, rowDone } from './decision_words.js';
import { isVisitor, SERVER_UNREACHABLE, setText, View } from './dom.js';
import { isVisible } from './poll.js';
import { ReviewBulk } from './review_bulk.js';
import { ReviewPage } from './review_page.js';
import { SampleEditor } from './sample_editor.js';

/**
 * @typedef {object} Card one sample to decide
 * @property {number} id
 * @property {number} row
 * @property {string} prompt
 * @property {string} answer
 * @property {string} fixed why it can only be kept or deleted; "" otherwise
 * @property {import('./sample_detail.js').ExplainedIssue[]} issues
 * @property {string} decision kept, edited, deleted or ""
 * @property {boolean} asks whether a model can be asked
 * @property {{prompt: string, answer: string} | null} replaced the texts of a sample that was edited before
 * @property {{answer: string} | null} suggested
 * @property {{answer: string, row: number} | null} similar
 *
 * @typedef {object} Queue
 * @property {string} sentence
 * @property {Card[]} cards the next ones
 * @property {number} waiting
 * @property {number} skipped
 * @property {number} left_rows
 * @property {number} total
 * @property {number} reviewed
 * @property {{kept: number, edited: number, deleted: number}} decided
 * @property {string} newest when the newest decision was made
 * @property {number} suggestions
 *
 * @typedef {import('./decision_words.js').Decided & {sentence: string}} Undone
 *
 * @typedef {object} Host
 * @property {() => {run: string}} query run, filter and search that select the samples
 * @property {(sentence: string) => void} error
 * @property {() => void} changed called after a decision
 */

const NO_PROPOSAL = {
  suggested: 'The label check suggests no other answer for this sample.',
  similar: 'No similar sample has a different answer.',
};
const LOOKING = ['j', 'arrowright', 'arrowleft', '?']; // keys that decide nothing
const NOT_YOURS = 'Only the owner of this Space may decide.';
const NO_UNDO = 'No row has a decision, so there is nothing to undo.';
const TYPED_INTO = 'input, textarea, select, [contenteditable], [role="tab"]';

export class SampleReview extends View {
  /**
   * @param {import('./dom.js').Part} part
   * @param {Host} host
   */
  constructor(part, host) {
    super(part);
    this.host = host;
    this.hasPrompts = true;
    /** @type {Card | null} */
    this.card = null;
    /** @type {Card[]} */
    this.coming = [];
    this.isChosen = false; // the card was opened by hand, so it need not be the first of the queue
    this.isEntering = false;
    this.isComing = true; // the next samples are on their way
    /** @type {Queue | null} */
    this.queue = null;
    /** @type {number[]} ids that were passed over, the last one last */
    this.skipped = [];
    this.failures = 0; // decisions that could not be kept
    this.moves = 0; // samples that were skipped or decided
    /** @type {Map<number, import('./sample_editor.js').Draft>} texts that were typed and not saved, by id */
    this.drafts = new Map();
    /** @type {Set<number>} ids whose decision is on its way */
    this.sending = new Set();
    /** @type {Promise<void>} decisions are sent one after the other */
    this.last = Promise.resolve();
    this.page = new ReviewPage(part, (id) => this.open(id));
    this.editor = new SampleEditor(part, {
      save: (changed) => this.decide('replace', changed),
      closed: () => this.draw({ focus: true }),
      run: () => this.host.query().run,
    });
    this.bulk = new ReviewBulk(
      part,
      () => this.host.query(),
      (done) => this.decidedAll(done),
    );
    /** @type {Record<string, () => unknown>} */
    this.actions = {
      k: () => this.decide('keep'),
      d: () => this.decide('delete'),
      e: () => this.edit(),
      1: () => this.accept('suggested'),
      2: () => this.accept('similar'),
      m: () => this.askModel(),
      j: () => this.skip(),
      arrowright: () => this.skip(),
      arrowleft: () => this.back(),
      u: () => this.undo(),
      '?': () => this.toggleKeys(),
    };
    this.wire();
  }

  wire() {
    const buttons = /** @type {NodeListOf<HTMLElement>} */ (this.q('.m-review-view').querySelectorAll('[data-key]'));
    for (const one of buttons) one.onclick = () => this.actions[one.dataset.key ?? '']();
    this.q('.v-again').onclick = () => {
      this.skipped = [];
      this.load({ focus: true });
    };
    const onKey = (/** @type {KeyboardEvent} */ event) => {
      if (!this.element.isConnected) document.removeEventListener('keydown', onKey);
      else this.press(event);
    };
    document.addEventListener('keydown', onKey);
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat || event.defaultPrevented) {
      return;
    }
    if (!isVisible(this.q('.m-review-view')) || this.editor.isOpen) return;
    if (event.target instanceof Element && event.target.closest(TYPED_INTO)) return;
    const key = event.key.toLowerCase();
    if (!this.actions[key]) return;
    event.preventDefault();
    if (isVisitor() && !LOOKING.includes(key)) {
      this.say(NOT_YOURS);
      return;
    }
    this.actions[key]();
  }

  // ---------------------------------------------------------------- the queue

  /** @param {{focus?: boolean}} [options] focus: move to the sample */
  load({ focus = false } = {}) {
    return this.send(async () => {
      this.take(await this.server.review({ ...this.host.query(), skipped: this.skipped }), focus);
    });
  }

  /** The first sample that is drawn next gets the focus. */
  enter() {
    this.isEntering = true;
  }

  /** For another run. */
  forget() {
    this.queue = null;
    this.say('');
    this.reset();
    this.drafts.clear();
  }

  /** For another filter: what was passed over there does not count here. */
  restart() {
    this.reset();
    return this.load();
  }

  reset() {
    const { card, draft } = this.editor;
    if (card && draft) this.drafts.set(card.id, draft);
    this.editor.close();
    this.bulk.cancel();
    this.skipped = [];
    this.card = null;
    this.coming = [];
    this.isChosen = false;
    this.isComing = true;
  }

  /**
   * One sample after the other is sent, also when keys are pressed faster than the server answers.
   * @param {() => Promise<void>} action
   */
  send(action) {
    this.last = this.last.then(action).catch(() => this.host.error(SERVER_UNREACHABLE));
    return this.last;
  }

  /**
   * @param {Queue} queue
   * @param {boolean} [focus]
   */
  take(queue, focus = false) {
    this.host.error(queue.sentence);
    if (queue.sentence) return;
    this.queue = queue;
    this.bulk.show(queue);
    // Keys may have been pressed since this was asked: what they decided or skipped is not the next sample.
    const fresh = queue.cards.filter(({ id }) => !this.sending.has(id) && !this.skipped.includes(id));
    this.isComing = fresh.length < queue.cards.length;
    const before = JSON.stringify(this.card);
    if (!this.editor.isOpen && !this.isChosen) this.card = fresh[0] ?? null;
    this.coming = fresh.filter(({ id }) => id !== this.card?.id);
    this.page.drawProgress(queue);
    this.drawUndo();
    if (JSON.stringify(this.card) !== before || !this.card || focus || this.isEntering) this.draw({ focus });
  }

  /**
   * Shows one sample, wherever it is in the queue, unless another one is skipped or decided before it is here.
   * @param {number} id
   */
  open(id) {
    const { moves } = this;
    return this.send(async () => {
      const query = this.host.query();
      /** @type {{sentence: string, card: Card}} */
      const found = await this.server.review_one({ ...query, id });
      if (moves !== this.moves) return;
      this.host.error(found.sentence);
      if (found.sentence) return;
      this.card = found.card;
      this.isChosen = true;
      this.draw({ focus: true });
      this.take(await this.server.review({ ...query, skipped: this.skipped }));
    });
  }

  /** The next sample, which is there already. */
  advance() {
    this.moves += 1;
    this.editor.close();
    this.isChosen = false;
    this.card = this.coming.shift() ?? null;
    this.isComing = true;
    this.draw({ focus: true });
  }

  // ---------------------------------------------------------------- decisions

  /**
   * @param {'keep' | 'delete' | 'replace'} action
   * @param {{origin?: string}} [more] new texts
   */
  decide(action, more = {}) {
    const { card } = this;
    if (!card) return;
    const { run } = this.host.query();
    this.sending.add(card.id);
    this.advance();
    this.say(`${rowDone(card.row, action, more.origin)}.`);
    this.send(async () => {
      const query = { ...this.host.query(), run, skipped: this.skipped, id: card.id, action, ...more };
      /** @type {Queue} */
      let found = /** @type {any} */ ({ sentence: SERVER_UNREACHABLE });
      try {
        found = (await this.server.decide_sample(query)) ?? found;
      } catch {
        // The sentence is there already.
      }
      this.sending.delete(card.id);
      if (run !== this.host.query().run) return; // another run is shown by now
      if (found.sentence) this.takeBack(card, { ...found, ...more });
      else this.take(found);
      this.host.changed();
    });
  }

  /**
   * A decision that could not be kept: its sample is the next one again, and its new texts wait in the editor.
   * @param {Card} card
   * @param {{sentence: string} & Partial<import('./sample_editor.js').Draft>} failed
   */
  takeBack(card, { sentence, answer, prompt = card.prompt }) {
    this.failures += 1;
    if (answer !== undefined) this.drafts.set(card.id, { prompt, answer });
    if (this.editor.isOpen) {
      this.coming.unshift(card);
    } else {
      if (this.card) this.coming.unshift(this.card);
      this.card = card;
      this.isChosen = true;
      this.draw({ focus: true });
    }
    this.say('');
    this.host.error(sentence);
  }

  /** @param {'suggested' | 'similar'} origin */
  accept(origin) {
    if (!this.card) return;
    const proposal = this.card[origin];
    if (!proposal) {
      this.say(NO_PROPOSAL[origin]);
      return;
    }
    const { answer } = proposal;
    this.decide('replace', /** @type {{origin: string}} */ ({ answer, origin }));
  }

  edit() {
    if (!this.card || this.card.fixed) return;
    this.editor.open(this.card, this.hasPrompts, this.drafts.get(this.card.id));
    this.drafts.delete(this.card.id);
    this.drawEditing();
  }

  askModel() {
    if (!this.card?.asks) return;
    this.edit();
    this.editor.askModel().catch(() => this.editor.ended(SERVER_UNREACHABLE));
  }

  skip() {
    if (!this.card) return;
    this.skipped.push(this.card.id);
    this.say(`Row ${this.card.row.toLocaleString('en')} skipped.`);
    this.advance();
    this.load();
  }

  back() {
    const id = this.skipped.pop();
    if (id === undefined) this.say('No sample was skipped.');
    else this.open(id);
  }

  /** The newest decision on the samples of the run is undone, also one from before a reload: all that was decided with it. */
  undo() {
    const { run } = this.host.query();
    const { failures } = this;
    this.send(async () => {
      if (failures !== this.failures) return; // the decision that was meant has not been kept
      if (!this.canUndo()) {
        this.say(NO_UNDO);
        return;
      }
      /** @type {Undone} */
      const undone = await this.server.undo_newest({ run, newest: this.queue?.newest ?? '' });
      if (undone.sentence) this.say(undone.sentence);
      this.host.changed();
      if (!undone.sentence) this.say(`Undone: ${allDone(undone)}.`);
      if (!undone.sentence && undone.ids.length === 1) this.open(undone.ids[0]);
      else this.load({ focus: true });
    });
  }

  canUndo() {
    return this.sending.size > 0 || Object.values(this.queue?.decided ?? {}).some(Boolean);
  }

  /** @param {string} done */
  decidedAll(done) {
    this.say(`${done}.`);
    this.isChosen = false;
    this.host.changed();
    this.load({ focus: true });
  }

  toggleKeys() {
    const keys = this.q('.v-keys');
    keys.hidden = !keys.hidden;
    this.q('.v-help').setAttribute('aria-expanded', String(!keys.hidden));
  }

  // ---------------------------------------------------------------- drawing

  /** @param {string} sentence */
  say(sentence) {
    setText(this.q('.v-said'), sentence);
    this.drawUndo();
  }

  /** @param {{focus: boolean}} options */
  draw({ focus }) {
    const { card } = this;
    this.q('.v-sample').hidden = !card;
    this.q('.v-done').hidden = Boolean(card);
    this.drawUndo();
    if (card) this.page.drawCard(card, this.hasPrompts);
    else this.page.drawEnd(this.queue, this.isComing);
    this.drawEditing();
    if (!(focus || this.isEntering) || !isVisible(this.q('.m-review-view'))) return;
    const focused = document.activeElement;
    const isLost = !(focused instanceof HTMLElement) || focused === document.body || !focused.offsetParent;
    const isOff = focused instanceof HTMLButtonElement && focused.disabled;
    if (isLost || isOff || this.isEntering) this.q(card ? '.v-title' : '.v-done-title').focus({ preventScroll: true });
    this.isEntering = false;
  }

  drawUndo() {
    this.button('.v-undo').disabled = !this.canUndo();
  }

  drawEditing() {
    const { isOpen } = this.editor;
    this.q('.v-texts').hidden = isOpen;
    this.q('.v-main-actions').hidden = isOpen;
  }
}
