// The Playground page: which run and model are asked, with which settings, and what they can be asked.

import { fillSelect, openPage, sessionSetting, setText, View } from './dom.js';
import { Conversation } from './playground_conversation.js';
import { drawExamples, earlierSentence } from './playground_examples.js';
import { ExpectedLosses } from './playground_losses.js';
import { drawPrograms } from './playground_serve.js';
import { TokenTip } from './playground_tokens.js';
import { pollWhileVisible } from './poll.js';
import { TRIED_RUN } from './runs_selection.js';

/**
 * @typedef {object} Run
 * @property {string} id
 * @property {string} label
 * @property {string} base the model that it began with
 * @property {[string, string][]} models that can be asked, the newest first
 *
 * @typedef {import('./playground_examples.js').Example} Example
 * @typedef {import('./playground_examples.js').ExamplesJob} ExamplesJob
 * @typedef {import('./playground_turn.js').AnswerJob} AnswerJob
 * @typedef {import('./playground_turn.js').Asked} Asked
 */

const LIST_EVERY = 10000; // milliseconds
const IN_CHAT = 'Prompts go through the chat template of this run, after all turns above them.';
const ALONE =
  'This run was trained on prompts without a chat template: each turn is one prompt, sent without those above.';

class Playground extends View {
  /** @param {import('./dom.js').Part} part */
  constructor(part) {
    super(part);
    this.tip = new TokenTip(this.q('.t-tip'));
    this.conversation = new Conversation(this, this.q('.t-turns'));
    this.losses = new ExpectedLosses(this, this.conversation);
    /** @type {Run[]} */
    this.runs = [];
    /** @type {Example | null} the example that was taken and not changed */
    this.example = null;
    /** @type {boolean | null} whether the run was trained through a chat template; null: not known yet */
    this.trainedChat = null;
    this.isRecalled = false;
    this.examplesOf = '';
    this.examplesKey = '';
    this.wirePrompt();
    this.wireSettings();
    pollWhileVisible(
      this.element,
      () => this.poll(),
      () => {}, // what is asked for says that the page does not answer
    );
  }

  // ---------------------------------------------------------------- buttons and fields

  wirePrompt() {
    this.q('.t-start').onclick = () => openPage('Train');
    this.q('.t-new').onclick = () => {
      this.forget();
      this.textarea('.t-prompt').focus();
    };
    this.q('.t-send').onclick = () => this.send();
    this.q('.t-stop').onclick = () => this.conversation.stopAll();
    this.q('.t-look').onclick = () => this.showLosses();
    const prompt = this.textarea('.t-prompt');
    prompt.oninput = () => {
      this.example = null;
      this.q('.t-earlier').hidden = true;
    };
    prompt.onkeydown = (event) => {
      const last = this.conversation.turns.at(-1);
      if (event.key === 'ArrowUp' && !prompt.value && last) {
        prompt.value = last.asked.prompt;
        event.preventDefault();
      }
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.send();
    };
  }

  wireSettings() {
    this.select('.t-run').onchange = () => {
      sessionSetting(TRIED_RUN, this.select('.t-run').value);
      this.chooseRun('final');
      this.forget();
    };
    this.select('.t-which').onchange = () => this.forget();
    this.select('.t-mode').onchange = () => this.forget();
    this.input('.t-temperature').oninput = () => {
      this.input('.t-top-p').disabled = !(Number(this.input('.t-temperature').value) > 0);
    };
    this.input('.t-show-tokens').onchange = () => this.conversation.redraw();
    this.find('.t-serve', HTMLDetailsElement).ontoggle = () => this.showPrograms();
  }

  showsTokens() {
    return this.input('.t-show-tokens').checked;
  }

  generationOptions() {
    return {
      temperature: this.number('.t-temperature'),
      top_p: this.number('.t-top-p'),
      max_new_tokens: this.number('.t-longest'),
    };
  }

  /**
   * @param {string} selector
   * @returns {number | null} null where nothing is typed in
   */
  number(selector) {
    const { value } = this.input(selector);
    return value === '' ? null : Number(value);
  }

  get isChat() {
    return this.trainedChat !== false || this.select('.t-mode').value === 'chat';
  }

  // ---------------------------------------------------------------- runs and their examples

  async poll() {
    await this.listRuns();
    if (!this.isRecalled && this.runs.length) {
      this.isRecalled = true;
      await this.conversation.recall((asked) => this.recallSettings(asked));
      this.find('.t-examples', HTMLDetailsElement).open = !this.conversation.turns.length;
      this.drawState();
    }
    return LIST_EVERY;
  }

  async listRuns() {
    /** @type {{runs: Run[], default: string} | null} */
    const found = await this.server.runs({});
    if (!found) return; // the server is shutting down
    this.runs = found.runs;
    this.q('.t-none').hidden = this.runs.length > 0;
    this.q('.t-all').hidden = this.runs.length === 0;
    if (!this.runs.length) return;
    const picker = this.select('.t-run');
    const before = picker.value;
    const wanted = [sessionSetting(TRIED_RUN), before].find((id) => this.runs.some((run) => run.id === id));
    const options = this.runs.map((run) => /** @type {[string, string]} */ ([run.id, run.label]));
    fillSelect(picker, options, wanted ?? found.default);
    if (before && before !== picker.value) this.forget(); // another page has chosen a run to try
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
    this.example = this.trainedChat = null;
    this.select('.t-mode').value = 'trained';
    for (const part of ['.t-mode-label', '.t-examples', '.t-earlier']) this.q(part).hidden = true;
    this.drawState();
    this.showPrograms();
    this.findExamples(run.id);
  }

  /** @param {string} run */
  async findExamples(run) {
    const notes = this.q('.t-notes');
    setText(notes, 'Loading examples from its data');
    const { key, error } = await this.conversation.start('examples', { run });
    if (this.examplesOf !== run) return;
    if (error) {
      setText(notes, error);
      return;
    }
    this.examplesKey = key;
    const draw = (/** @type {ExamplesJob | null} */ job) => {
      if (job?.running) return;
      setText(notes, job ? [job.error, ...job.notes].filter(Boolean).join(' ') : '');
      if (job) this.drawExamples(job);
    };
    this.conversation.follow(key, () => this.examplesKey === key, draw);
  }

  /** @param {ExamplesJob} job */
  drawExamples(job) {
    this.q('.t-examples').hidden = !job.groups.length;
    drawExamples(this.q('.t-groups'), job.groups, (example) => this.take(example));
    if (job.chat !== null) this.trainedChat = job.chat;
    this.q('.t-mode-label').hidden = job.chat !== false || !job.template;
    this.drawState();
  }

  /**
   * An example is the beginning of a conversation of its own.
   * @param {Example} example
   */
  take(example) {
    if (this.isChat) this.forget();
    this.example = example;
    this.textarea('.t-prompt').value = example.prompt;
    this.textarea('.t-answer').value = example.answer;
    this.q('.t-earlier').hidden = !example.earlier;
    setText(this.q('.t-earlier'), earlierSentence(example));
    this.send();
  }

  async showPrograms() {
    if (!this.find('.t-serve', HTMLDetailsElement).open) return;
    const run = this.select('.t-run').value;
    drawPrograms(this.q('.t-programs'), (await this.server.serve({ run })) ?? [], run);
  }

  // ---------------------------------------------------------------- the conversation

  /** @returns {Asked} what is asked next */
  question() {
    const before = this.isChat ? this.conversation.turns : [];
    return {
      run_id: this.select('.t-run').value,
      which: this.select('.t-which').value,
      prompt: this.example?.prompt ?? this.textarea('.t-prompt').value,
      answer: this.textarea('.t-answer').value,
      example: before[0]?.asked.example ?? this.example?.ref ?? '',
      system: this.isChat ? this.textarea('.t-system').value.trim() : '',
      turns: before.flatMap((turn) => turn.spoken()),
      chat: this.select('.t-mode').value === 'chat',
    };
  }

  async send() {
    if (this.conversation.isRunning) return;
    this.tell('');
    this.losses.clear();
    if (!(await this.conversation.send(this.question()))) return;
    this.textarea('.t-prompt').value = this.textarea('.t-answer').value = '';
    this.example = null;
    this.q('.t-earlier').hidden = true;
    this.find('.t-examples', HTMLDetailsElement).open = false;
  }

  /** @param {string} error */
  tell(error) {
    this.showError('.t-error', error);
  }

  /**
   * @param {AnswerJob} job
   * @param {Asked} asked
   */
  learn(job, asked) {
    if (job.chat !== null && this.trainedChat === null) this.trainedChat = job.chat && !asked.chat;
    if (job.error || job.note) this.tell([job.error, job.note].filter(Boolean).join(' '));
  }

  /** Buttons, hints and marks, from what is asked and answered so far. */
  drawState() {
    const { conversation, isChat } = this;
    const { turns } = conversation;
    this.button('.t-send').disabled = conversation.isRunning;
    this.q('.t-stop').hidden = !conversation.isRunning;
    this.q('.t-new').hidden = this.q('.t-unsure').hidden = !turns.length;
    const system = this.textarea('.t-system');
    system.disabled = !isChat;
    system.placeholder = isChat ? 'None' : 'Only with a chat template';
    setText(this.q('.t-mode-hint'), this.trainedChat === null ? '' : isChat ? IN_CHAT : ALONE);
    turns.forEach((turn, i) => turn.mark(i === turns.length - 1, isChat));
  }

  /** A new conversation: what stands there is not an answer of the model that is chosen now. */
  forget() {
    this.conversation.clear();
    this.losses.clear();
    this.find('.t-examples', HTMLDetailsElement).open = true;
    this.tell('');
    this.drawState();
  }

  /** @param {Asked} asked */
  recallSettings(asked) {
    if (!this.runs.some((run) => run.id === asked.run_id)) return false;
    sessionSetting(TRIED_RUN, asked.run_id);
    this.select('.t-run').value = asked.run_id;
    this.chooseRun(asked.which);
    this.textarea('.t-system').value = asked.system;
    if (asked.chat) this.select('.t-mode').value = 'chat';
    return true;
  }

  showLosses() {
    const last = this.conversation.turns.at(-1);
    if (!last) return;
    this.losses.show({ ...last.asked, answer: this.textarea('.t-answer').value || last.asked.answer });
  }
}

/** @param {import('./dom.js').Part} part */
export function mount(part) {
  new Playground(part);
}
