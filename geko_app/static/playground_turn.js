// One turn of the conversation: what was asked, and the answers of both models, drawn while they are written.

import { button, copyButton, isAtEnd, node, setText } from './dom.js';
import { drawTokens } from './playground_tokens.js';

/**
 * @typedef {'base' | 'tuned'} SideName
 * @typedef {import('./playground_tokens.js').Token} Token
 *
 * @typedef {object} Side
 * @property {SideName} side
 * @property {number} from how many characters come before `text`
 * @property {string} text
 * @property {boolean} writing
 * @property {string} status
 * @property {string} verdict
 * @property {string} error
 * @property {Token[]} tokens once it has ended
 *
 * @typedef {object} Asked what a job was asked
 * @property {string} run_id
 * @property {string} which
 * @property {string} prompt
 * @property {string} answer the expected one
 * @property {string} example
 * @property {string} system
 * @property {[string, string][]} turns role and text of the conversation before
 * @property {boolean} chat
 *
 * @typedef {object} AnswerJob
 * @property {boolean} running
 * @property {Side[]} sides
 * @property {string} error
 * @property {string} note
 * @property {string} read what the model was given
 * @property {number} read_tokens
 * @property {boolean | null} chat whether that went through a chat template
 * @property {Asked} [asked]
 *
 * What a turn asks of the page.
 * @typedef {object} Page
 * @property {(turn: Turn, side: SideName) => void} stop
 * @property {(turn: Turn, side: SideName) => void} regenerate
 * @property {() => void} choiceChanged
 * @property {() => boolean} showsTokens
 * @property {import('./playground_tokens.js').TokenTip} tip
 */

export const SIDES = /** @type {const} */ (['base', 'tuned']);
const TITLES = { base: 'Base model', tuned: 'Tuned model' };
const VERDICTS = { right: 'Same as expected', wrong: 'Not as expected' };
let made = 0;

export class Turn {
  /**
   * @param {Asked} asked
   * @param {Page} page
   */
  constructor(asked, page) {
    this.asked = asked;
    this.page = page;
    /** @type {Record<SideName, string>} keys of the jobs */
    this.keys = { base: '', tuned: '' };
    /** @type {Record<SideName, string>} */
    this.texts = { base: '', tuned: '' };
    /** @type {Record<SideName, Token[]>} */
    this.tokens = { base: [], tuned: [] };
    this.running = { base: false, tuned: false };
    made += 1;
    this.number = made;
    this.element = node('article', 't-turn');
    this.element.setAttribute('aria-label', 'One prompt and its answers');
    this.cards = { base: this.card('base'), tuned: this.card('tuned') };
    const cards = node('div', 't-cards');
    cards.append(this.cards.base, this.cards.tuned);
    this.input = inputDetails();
    this.element.append(this.question(), cards, this.input);
  }

  question() {
    const asked = node('div', 't-asked');
    asked.append(node('p', 't-asked-text', this.asked.prompt));
    if (this.asked.answer) {
      const expected = node('p', 'geko-hint');
      expected.append(node('span', '', 'Expected:'), ' ', node('span', 't-wanted', this.asked.answer));
      asked.append(expected);
    }
    return asked;
  }

  /** @param {SideName} side */
  card(side) {
    const card = node('section', 'geko-card t-card');
    card.dataset.side = side;
    card.setAttribute('aria-label', `Answer of the ${TITLES[side].toLowerCase()}`);
    const head = node('div', 'geko-title');
    head.append(node('h3', '', TITLES[side]), node('span', 't-verdict'));
    const status = node('p', 't-status');
    status.setAttribute('role', 'status');
    const foot = node('div', 't-foot');
    const stop = button('Stop', 't-stop-one', () => {
      stop.disabled = true;
      this.page.stop(this, side);
    });
    const again = button('Regenerate', 't-again', () => this.page.regenerate(this, side));
    foot.append(status, stop, node('span', 't-copy'), again);
    const text = node('div', 't-text');
    text.tabIndex = 0; // a long answer scrolls
    card.append(head, text, this.choice(side), foot);
    return card;
  }

  /**
   * Which answer stands in the conversation for the next prompt.
   * @param {SideName} side
   */
  choice(side) {
    const label = node('label', 't-choice');
    const radio = node('input');
    radio.type = 'radio';
    radio.name = `t-turn-${this.number}`;
    radio.value = side;
    radio.checked = side === 'tuned';
    radio.onchange = () => this.page.choiceChanged();
    label.append(radio, 'Continue from this answer');
    return label;
  }

  /** @returns {SideName} */
  get chosen() {
    const radio = /** @type {HTMLInputElement | null} */ (this.cards.base.querySelector('.t-choice input'));
    return radio?.checked ? 'base' : 'tuned';
  }

  /** @param {SideName} side */
  set chosen(side) {
    const radio = /** @type {HTMLInputElement | null} */ (this.cards[side].querySelector('.t-choice input'));
    if (radio) radio.checked = true;
  }

  /**
   * The turn as the next prompt is sent with it: none where no model has answered.
   * @returns {[string, string][]} role and text
   */ spoken() {
    const other = this.chosen === 'base' ? 'tuned' : 'base';
    const text = this.texts[this.chosen] || this.texts[other];
    if (!text) return [];
    return [
      /** @type {[string, string]} */ (['user', this.asked.prompt]),
      /** @type {[string, string]} */ (['assistant', text]),
    ];
  }

  get isRunning() {
    return this.running.base || this.running.tuned;
  }

  /** @param {SideName} side */
  begin(side) {
    this.running[side] = true;
    this.texts[side] = '';
    this.tokens[side] = [];
    this.part(side, '.t-text').replaceChildren();
    this.part(side, '.t-text').classList.remove('t-failed');
    this.part(side, '.t-copy').replaceChildren();
    setText(this.part(side, '.t-status'), 'waiting');
    this.setVerdict(side, '');
    this.drawButtons(side);
  }

  /**
   * @param {SideName} side
   * @param {string} error
   */
  fail(side, error) {
    this.running[side] = false;
    setText(this.part(side, '.t-text'), error);
    this.part(side, '.t-text').classList.add('t-failed');
    setText(this.part(side, '.t-status'), 'failed');
    this.drawButtons(side);
  }

  /**
   * @param {SideName} name
   * @param {AnswerJob} job
   */
  draw(name, job) {
    const side = job.sides.find((one) => one.side === name);
    if (!side) return;
    const wasRunning = this.running[name];
    this.running[name] = job.running;
    const target = this.part(name, '.t-text');
    const atEnd = isAtEnd(target);
    this.texts[name] = characters(this.texts[name]).slice(0, side.from).join('') + side.text;
    this.tokens[name] = side.tokens;
    target.setAttribute('aria-busy', String(side.writing));
    target.classList.toggle('t-writing', side.writing);
    this.drawText(name);
    if (side.writing && atEnd) target.scrollTop = target.scrollHeight;
    setText(this.part(name, '.t-status'), side.status);
    this.setVerdict(name, side.verdict);
    this.drawInput(job);
    const error = side.error || job.error;
    if (!job.running && error) this.fail(name, error);
    else if (wasRunning || !job.running) this.drawButtons(name);
  }

  /** @param {SideName} name */
  drawText(name) {
    const target = this.part(name, '.t-text');
    const tokens = this.tokens[name];
    const key = tokens.length && this.page.showsTokens() ? 'tokens' : this.texts[name];
    if (target.dataset.drawn === key && target.textContent) return;
    target.dataset.drawn = key;
    if (key === 'tokens') drawTokens(target, tokens, this.page.tip);
    else target.textContent = this.texts[name];
  }

  /** @param {AnswerJob} job */
  drawInput({ read, read_tokens: count }) {
    if (!read) return;
    this.input.hidden = false;
    setText(this.input.querySelector('pre'), read);
    setText(this.input.querySelector('summary'), `Model input · ${count} tokens`);
  }

  /** @param {SideName} side */
  drawButtons(side) {
    const stop = /** @type {HTMLButtonElement} */ (this.part(side, '.t-stop-one'));
    stop.hidden = !this.running[side];
    stop.disabled = false;
    this.part(side, '.t-again').hidden = this.running[side];
    const copy = this.part(side, '.t-copy');
    if (this.running[side] || !this.texts[side]) copy.replaceChildren();
    else if (!copy.children.length) copy.append(copyButton(this.texts[side]));
  }

  /**
   * Only the last turn is asked again, and only in a conversation does it matter which answer it goes on from.
   * @param {boolean} isLast
   * @param {boolean} isChat
   */
  mark(isLast, isChat) {
    this.element.classList.toggle('t-last', isLast);
    this.element.classList.toggle('t-in-chat', isChat);
    for (const side of SIDES) this.cards[side].classList.toggle('t-chosen', isChat && side === this.chosen);
  }

  /**
   * @param {SideName} side
   * @param {string} verdict
   */
  setVerdict(side, verdict) {
    this.cards[side].dataset.verdict = verdict;
    setText(this.part(side, '.t-verdict'), VERDICTS[/** @type {keyof typeof VERDICTS} */ (verdict)] ?? '');
  }

  /**
   * @param {SideName} side
   * @param {string} selector
   */
  part(side, selector) {
    return /** @type {HTMLElement} */ (this.cards[side].querySelector(selector));
  }

  /**
   * How many characters of an answer are drawn.
   * @param {SideName} side
   */
  drawnCharacters(side) {
    return { [side]: characters(this.texts[side]).length };
  }
}

function inputDetails() {
  const details = node('details', 't-read');
  details.hidden = true;
  details.append(node('summary'), node('pre'));
  return details;
}

/**
 * Characters as Python counts them, not UTF-16 halves.
 * @param {string} text
 */
function characters(text) {
  return [...text];
}
