// The Playground page: asks both models, follows their answers by short polls, and draws what is new.
// Holds the key of what was asked last; the server knows the rest of it.

import { fillSelect, node, SERVER_UNREACHABLE, sessionSetting, setText, View } from './dom.js';
import { Answers } from './playground_answers.js';
import { pollJob, pollWhileVisible } from './poll.js';
import { drawTokenLosses } from './token_losses.js';

/**
 * @typedef {object} Run
 * @property {string} id
 * @property {string} label
 * @property {string} base the model that it began with
 * @property {[string, string][]} models that can be asked, the newest first
 *
 * @typedef {object} Example
 * @property {string} ref
 * @property {string} prompt
 * @property {string} answer
 * @property {string} note
 * @property {number} earlier turns of its conversation before it
 *
 * @typedef {object} ExamplesJob
 * @property {boolean} running
 * @property {string} error
 * @property {string[]} notes
 * @property {{title: string, rows: Example[]}[]} groups
 *
 * @typedef {import('./playground_answers.js').AnswerJob} AnswerJob
 * @typedef {import('./playground_answers.js').Asked} Asked
 * @typedef {import('./token_losses.js').LossJob} LossJob
 * @typedef {'answers' | 'examples' | 'losses'} JobKind
 */

const LIST_EVERY = 10000; // milliseconds
const ANSWERS_EVERY = 200;
const JOB_KEY = 'geko-playground-job';
const RUN_KEY = 'geko-playground-run';

class Playground extends View {
  /** @param {import('./dom.js').Part} part */
  constructor(part) {
    super(part);
    this.answers = new Answers(part);
    /** @type {Run[]} */
    this.runs = [];
    /** @type {Record<JobKind, string>} keys of the jobs that are followed */
    this.jobs = { answers: '', examples: '', losses: '' };
    /** @type {Example | null} the example that was taken and not changed */
    this.example = null;
    /** @type {Asked | null} what was asked before a reload, until its example is found */
    this.recalled = null;
    this.isRecalled = false;
    this.examplesOf = '';
    this.isRunning = false;
    this.questions = 0;
    this.wire();
    pollWhileVisible(
      this.element,
      () => this.poll(),
      () => {}, // what is asked for says that the page does not answer
    );
  }

  wire() {
    const stop = this.button('.t-stop');
    stop.onclick = () => {
      stop.disabled = true;
      this.server.stop({ key: this.jobs.answers });
    };
    this.q('.t-send').onclick = () => this.send();
    this.q('.t-look').onclick = () => this.showLosses();
    this.select('.t-run').onchange = () => {
      sessionSetting(RUN_KEY, this.select('.t-run').value);
      this.chooseRun('final');
      this.forget();
    };
    this.select('.t-which').onchange = () => this.forget();
    this.textarea('.t-prompt').oninput = () => {
      this.example = this.recalled = null;
      this.q('.t-earlier').hidden = true;
    };
    this.input('.t-temperature').oninput = () => {
      this.input('.t-top-p').disabled = !(Number(this.input('.t-temperature').value) > 0);
    };
    this.element.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey) || this.isRunning) return;
      event.preventDefault();
      this.send();
    });
  }

  async poll() {
    await this.listRuns();
    if (!this.isRecalled && this.runs.length) {
      this.isRecalled = true;
      await this.recall();
    }
    return LIST_EVERY;
  }

  /**
   * Starts a job on the server.
   * @param {string} name
   * @param {object} query
   * @returns {Promise<{key: string, error: string}>}
   */
  async start(name, query) {
    try {
      return await this.server[name](query);
    } catch {
      return { key: '', error: SERVER_UNREACHABLE };
    }
  }

  /**
   * Follows a job until it has ended, or another one of its kind has taken its place.
   * @template {{running: boolean}} Job
   * @param {JobKind} kind
   * @param {string} key
   * @param {(job: Job | null) => void} draw
   * @param {() => object} [drawn] what is drawn of it
   */
  follow(kind, key, draw, drawn = () => ({})) {
    this.jobs[kind] = key;
    const isCurrent = () => this.jobs[kind] === key;
    const ask = async () => (isCurrent() ? this.server.job({ key, drawn: drawn() }) : null);
    const drawCurrent = (/** @type {Job | null} */ job) => {
      if (isCurrent()) draw(job);
      return isCurrent();
    };
    return pollJob(this.element, ask, drawCurrent, { every: ANSWERS_EVERY });
  }

  // ---------------------------------------------------------------- runs and their examples

  async listRuns() {
    /** @type {{runs: Run[], default: string} | null} */
    const found = await this.server.runs({});
    if (!found) return; // the server is shutting down
    this.runs = found.runs;
    this.q('.t-none').hidden = this.runs.length > 0;
    this.q('.t-all').hidden = this.runs.length === 0;
    if (!this.runs.length) return;
    const wanted = this.select('.t-run').value || sessionSetting(RUN_KEY);
    const isThere = this.runs.some((run) => run.id === wanted);
    const options = this.runs.map((run) => /** @type {[string, string]} */ ([run.id, run.label]));
    fillSelect(this.select('.t-run'), options, isThere ? wanted : found.default);
    this.chooseRun();
  }

  /** @param {string} [model] */
  chooseRun(model) {
    const run = this.runs.find(({ id }) => id === this.select('.t-run').value);
    if (!run) return;
    fillSelect(this.select('.t-which'), run.models, model || this.select('.t-which').value);
    setText(this.q('.t-base'), `Base model: ${run.base}`);
    if (this.examplesOf === run.id) return;
    this.examplesOf = run.id;
    this.example = null;
    this.q('.t-examples').hidden = true;
    this.q('.t-earlier').hidden = true;
    this.findExamples(run.id);
  }

  /** @param {string} run */
  async findExamples(run) {
    const notes = this.q('.t-notes');
    setText(notes, 'Loading examples from its data');
    const { key, error } = await this.start('examples', { run });
    if (this.examplesOf !== run) return;
    if (error) {
      setText(notes, error);
      return;
    }
    this.follow('examples', key, (/** @type {ExamplesJob | null} */ job) => {
      if (job?.running) return;
      setText(notes, job ? [job.error, ...job.notes].filter(Boolean).join(' ') : '');
      if (job) this.drawExamples(job.groups);
    });
  }

  /** @param {ExamplesJob['groups']} groups */
  drawExamples(groups) {
    const list = this.q('.t-examples');
    list.hidden = !groups.length;
    const parts = groups.map(({ title, rows }) => {
      const part = node('div', 't-group');
      const chips = node('div', 't-rows');
      chips.append(...rows.map((row) => this.exampleChip(row)));
      part.append(node('h4', '', title), chips);
      return part;
    });
    list.replaceChildren(...parts);
    const { recalled } = this;
    const same = groups
      .flatMap(({ rows }) => rows)
      .find((row) => row.ref === recalled?.example && row.prompt === recalled.prompt);
    if (same && recalled) this.take({ ...same, answer: recalled.answer });
    this.recalled = null;
  }

  /** @param {Example} example */
  exampleChip(example) {
    const chip = node('button', 't-chip');
    chip.type = 'button';
    chip.append(node('span', 't-chip-prompt', example.prompt));
    if (example.note) chip.append(node('span', 't-chip-note', example.note));
    chip.title = example.note ? `${example.prompt}\n${example.note}` : example.prompt;
    chip.onclick = () => {
      this.take(example);
      this.send();
    };
    return chip;
  }

  /** @param {Example} example */
  take(example) {
    this.example = example;
    this.textarea('.t-prompt').value = example.prompt;
    this.textarea('.t-answer').value = example.answer;
    this.q('.t-earlier').hidden = !example.earlier;
    const turns = example.earlier === 1 ? 'the previous turn' : `the ${example.earlier} previous turns`;
    setText(this.q('.t-earlier'), `Sent with ${turns} of its conversation.`);
  }

  // ---------------------------------------------------------------- the two answers

  question() {
    return {
      run: this.select('.t-run').value,
      which: this.select('.t-which').value,
      prompt: this.example ? this.example.prompt : this.textarea('.t-prompt').value,
      answer: this.textarea('.t-answer').value,
      example: this.example ? this.example.ref : '',
    };
  }

  /** Another model was chosen: what stands there is not its answer. */
  forget() {
    this.questions += 1;
    if (this.isRunning) this.server.stop({ key: this.jobs.answers });
    this.jobs.answers = '';
    sessionSetting(JOB_KEY, '');
    this.setRunning(false);
    this.answers.clear();
    this.clearLosses();
  }

  /** @param {boolean} isRunning */
  setRunning(isRunning) {
    this.isRunning = isRunning;
    this.button('.t-send').disabled = isRunning;
    this.q('.t-stop').hidden = !isRunning;
    this.button('.t-stop').disabled = false;
  }

  async send() {
    if (this.jobs.answers && this.isRunning) this.server.stop({ key: this.jobs.answers });
    this.jobs.answers = '';
    this.questions += 1;
    const question = this.questions;
    this.setRunning(true);
    this.answers.clear();
    this.clearLosses();
    this.showError('.t-error', '');
    const { key, error } = await this.start('ask', {
      ...this.question(),
      temperature: this.number('.t-temperature'),
      top_p: this.number('.t-top-p'),
      max_new_tokens: this.number('.t-longest'),
    });
    if (question !== this.questions) {
      if (key) this.server.stop({ key }); // another model was chosen meanwhile
      return;
    }
    if (error) {
      this.setRunning(false);
      this.showError('.t-error', error);
      return;
    }
    sessionSetting(JOB_KEY, key);
    this.q('.t-cards').scrollIntoView({ block: 'nearest', behavior: 'smooth' });
    this.followAnswers(key);
  }

  /** @param {string} key */
  followAnswers(key) {
    const draw = (/** @type {AnswerJob | null} */ job) => {
      if (job) this.answers.draw(job);
      else sessionSetting(JOB_KEY, '');
      this.setRunning(job?.running ?? false);
    };
    this.follow('answers', key, draw, () => this.answers.drawnCharacters());
  }

  /**
   * @param {string} selector
   * @returns {number | null} null where nothing is typed in
   */
  number(selector) {
    const { value } = this.input(selector);
    return value === '' ? null : Number(value);
  }

  /** What was asked before a reload is shown again. */
  async recall() {
    const key = sessionSetting(JOB_KEY);
    if (!key) return;
    /** @type {AnswerJob | null} */
    const job = await this.server.job({ key, drawn: {} });
    const asked = job?.asked;
    if (!asked || this.jobs.answers) return;
    this.textarea('.t-prompt').value = asked.prompt;
    this.textarea('.t-answer').value = asked.answer;
    if (this.runs.some((run) => run.id === asked.run_id)) {
      this.recalled = asked;
      this.examplesOf = '';
      this.select('.t-run').value = asked.run_id;
      this.chooseRun(asked.which);
    }
    this.followAnswers(key);
  }

  // ---------------------------------------------------------------- losses of the tokens

  async showLosses() {
    this.showError('.t-unsure-error', '');
    setText(this.q('.t-unsure-status'), 'Loading the models');
    this.button('.t-look').disabled = true;
    const { key, error } = await this.start('token_losses', this.question());
    if (error) {
      this.endLosses(error);
      return;
    }
    this.follow('losses', key, (/** @type {LossJob | null} */ job) => {
      if (job?.running) return;
      this.endLosses(job?.error ?? '');
      if (job) drawTokenLosses(this.q('.t-legend'), this.q('.t-losses'), job);
    });
  }

  /** @param {string} error */
  endLosses(error) {
    this.button('.t-look').disabled = false;
    setText(this.q('.t-unsure-status'), '');
    this.showError('.t-unsure-error', error);
  }

  clearLosses() {
    this.jobs.losses = '';
    this.q('.t-legend').hidden = true;
    this.q('.t-losses').replaceChildren();
    this.endLosses('');
  }
}

/** @param {import('./dom.js').Part} part */
export function mount(part) {
  new Playground(part);
}
