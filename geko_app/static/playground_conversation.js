// The conversation of this tab: asks both models for each turn, follows their answers by short polls, and finds them again after
// a reload. Keeps the keys of what was asked; the server knows the rest of it. Knows no run and no setting.

import { SERVER_UNREACHABLE, sessionSetting } from './dom.js';
import { SIDES, Turn } from './playground_turn.js';
import { pollJob } from './poll.js';

/**
 * @typedef {import('./playground_turn.js').AnswerJob} AnswerJob
 * @typedef {import('./playground_turn.js').Asked} Asked
 * @typedef {import('./playground_turn.js').SideName} SideName
 * @typedef {{base: string, tuned: string, chosen: SideName}} KeptTurn
 *
 * What the conversation needs of its page.
 * @typedef {object} Page
 * @property {HTMLElement} element
 * @property {Record<string, (query: object) => Promise<any>>} server
 * @property {() => object} generationOptions
 * @property {() => boolean} showsTokens
 * @property {import('./playground_tokens.js').TokenTip} tip
 * @property {() => void} drawState
 * @property {(error: string) => void} tell
 * @property {(job: AnswerJob, asked: Asked) => void} learn what an answer says of the run
 */

const ANSWERS_EVERY = 200; // milliseconds
const KEY = 'geko-playground-conversation';

export class Conversation {
  /**
   * @param {Page} page
   * @param {HTMLElement} list
   */
  constructor(page, list) {
    this.page = page;
    this.list = list;
    /** @type {Turn[]} */
    this.turns = [];
  }

  get tip() {
    return this.page.tip;
  }

  get isRunning() {
    return this.turns.some((turn) => turn.isRunning);
  }

  showsTokens() {
    return this.page.showsTokens();
  }

  choiceChanged() {
    this.page.drawState();
    this.keep();
  }

  redraw() {
    for (const turn of this.turns) for (const side of SIDES) turn.drawText(side);
  }

  // ---------------------------------------------------------------- jobs

  /**
   * Starts a job on the server.
   * @param {string} name
   * @param {object} query
   * @returns {Promise<{key: string, error: string}>}
   */
  async start(name, query) {
    return (await this.page.server[name](query)) ?? { key: '', error: SERVER_UNREACHABLE };
  }

  /**
   * Follows a job until it has ended, or is no longer wanted.
   * @template {{running: boolean}} Job
   * @param {string} key
   * @param {() => boolean} isWanted
   * @param {(job: Job | null) => void} draw
   * @param {() => object} [drawn] what is drawn of it
   */
  follow(key, isWanted, draw, drawn = () => ({})) {
    const ask = async () => (isWanted() ? this.page.server.job({ key, drawn: drawn() }) : null);
    const drawWanted = (/** @type {Job | null} */ job) => {
      if (isWanted()) draw(job);
      return isWanted();
    };
    return pollJob(this.page.element, ask, drawWanted, { every: ANSWERS_EVERY });
  }

  // ---------------------------------------------------------------- turns

  /**
   * Asks both models; answers whether that could be started.
   * @param {Asked} asked
   */
  async send(asked) {
    const turn = this.add(asked);
    for (const side of SIDES) turn.begin(side);
    this.page.drawState();
    for (const side of SIDES) {
      if (await this.ask(turn, side)) continue;
      if (this.turns.includes(turn)) this.remove(turn);
      return false;
    }
    turn.element.scrollIntoView({ block: 'nearest', behavior: 'smooth' });
    return true;
  }

  /** @param {Asked} asked */
  add(asked) {
    const turn = new Turn(asked, this);
    this.turns.push(turn);
    this.list.append(turn.element);
    return turn;
  }

  /** @param {Turn} turn */
  remove(turn) {
    for (const side of SIDES) this.stop(turn, side);
    turn.element.remove();
    this.turns = this.turns.filter((other) => other !== turn);
    this.page.drawState();
    this.keep();
  }

  clear() {
    const { turns } = this;
    this.turns = [];
    for (const turn of turns) for (const side of SIDES) if (turn.running[side]) this.stop(turn, side);
    this.list.replaceChildren();
    this.tip.hide();
    this.keep();
  }

  /**
   * @param {Turn} turn
   * @param {SideName} side
   */
  stop(turn, side) {
    if (turn.keys[side]) this.page.server.stop({ key: turn.keys[side] });
  }

  stopAll() {
    for (const turn of this.turns) for (const side of SIDES) if (turn.running[side]) this.stop(turn, side);
  }

  /**
   * @param {Turn} turn
   * @param {SideName} side
   */
  async regenerate(turn, side) {
    turn.begin(side);
    this.page.drawState();
    await this.ask(turn, side);
  }

  /**
   * Asks one model; answers whether that could be started.
   * @param {Turn} turn
   * @param {SideName} side
   */
  async ask(turn, side) {
    const { run_id: run, ...asked } = turn.asked;
    const { key, error } = await this.start('ask', { ...asked, run, sides: [side], ...this.page.generationOptions() });
    if (!this.turns.includes(turn)) {
      if (key) this.page.server.stop({ key }); // a new conversation was begun meanwhile
      return false;
    }
    if (error) {
      turn.fail(side, error);
      this.page.tell(error);
      this.page.drawState();
      return false;
    }
    this.followAnswer(turn, side, key);
    this.keep();
    return true;
  }

  /**
   * @param {Turn} turn
   * @param {SideName} side
   * @param {string} key
   */
  followAnswer(turn, side, key) {
    turn.keys[side] = key;
    const draw = (/** @type {AnswerJob | null} */ job) => {
      if (job) {
        turn.draw(side, job);
        this.page.learn(job, turn.asked);
      } else {
        turn.fail(side, 'The page was restarted and no longer has this answer.');
      }
      this.page.drawState();
    };
    const isWanted = () => this.turns.includes(turn) && turn.keys[side] === key;
    this.follow(key, isWanted, draw, () => turn.drawnCharacters(side));
  }

  // ---------------------------------------------------------------- what a reload brings back

  keep() {
    const kept = this.turns.map((turn) => ({ ...turn.keys, chosen: turn.chosen }));
    sessionSetting(KEY, kept.length ? JSON.stringify(kept) : '');
  }

  /**
   * Draws what was asked before a reload, as far as the server still has it.
   * @param {(asked: Asked) => boolean} prepare called with the first turn; false: it cannot be shown
   */
  async recall(prepare) {
    const text = sessionSetting(KEY);
    if (!text || this.turns.length) return;
    for (const { base, tuned, chosen } of /** @type {KeptTurn[]} */ (JSON.parse(text))) {
      /** @type {AnswerJob | null} */
      const job = await this.page.server.job({ key: base, drawn: {} });
      const asked = job?.asked;
      if (!asked || (!this.turns.length && !prepare(asked))) break;
      const turn = this.add(asked);
      turn.chosen = chosen;
      turn.begin('base');
      turn.begin('tuned');
      this.followAnswer(turn, 'base', base);
      this.followAnswer(turn, 'tuned', tuned);
    }
    this.keep();
  }
}
