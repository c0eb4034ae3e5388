// The editor of one sample: prompt and answer, and on request the model's own answer to confirm. Saves nothing by itself.

import { SERVER_UNREACHABLE, setText, View } from './dom.js';
import { pollJob } from './poll.js';

/**
 * @typedef {import('./sample_review.js').Card} Card
 * @typedef {{prompt: string, answer: string}} Draft
 * @typedef {{prompt?: string, answer: string, origin: 'edited' | 'model'}} Replacement
 *
 * @typedef {object} Host
 * @property {(changed: Replacement) => void} save
 * @property {() => void} closed
 * @property {() => string} run
 */

const UNCHANGED = 'Nothing is changed. Cancel, and keep the sample with K.';

export class SampleEditor extends View {
  /**
   * @param {import('./dom.js').Part} part
   * @param {Host} host
   */
  constructor(part, host) {
    super(part);
    this.host = host;
    /** @type {Card | null} */
    this.card = null;
    this.asked = 0; // the last question to the model; answers to earlier ones are dropped
    this.key = ''; // of the job that answers it
    /** @type {string | null} what the model has answered, whole */
    this.proposed = null;
    this.form = this.find('.v-editor', HTMLFormElement);
    this.prompt = this.textarea('.v-new-prompt');
    this.answer = this.textarea('.v-new-answer');
    this.form.onsubmit = (event) => {
      event.preventDefault();
      this.save();
    };
    this.form.onkeydown = (event) => {
      if (event.isComposing) return;
      if (event.key === 'Escape') this.cancel();
      else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) this.save();
      else return;
      event.preventDefault();
      event.stopPropagation();
    };
    this.q('.v-cancel').onclick = () => this.cancel();
  }

  get isOpen() {
    return !this.form.hidden;
  }

  /** What is typed and not saved; null for nothing. @returns {Draft | null} */
  get draft() {
    const { card } = this;
    if (!card || this.answer.readOnly) return null;
    const [prompt, answer] = [this.prompt.value, this.answer.value];
    return prompt === typed(card.prompt) && answer === typed(card.answer) ? null : { prompt, answer };
  }

  /**
   * @param {Card} card
   * @param {boolean} hasPrompts
   * @param {Draft} [draft] what was typed before and not saved
   */
  open(card, hasPrompts, draft) {
    this.card = card;
    this.proposed = null;
    this.q('.v-prompt-label').hidden = !hasPrompts;
    setText(this.q('.v-answer-label'), hasPrompts ? 'Answer' : 'Text');
    const shown = draft ?? card.replaced ?? card;
    this.prompt.value = shown.prompt;
    this.answer.value = shown.answer;
    this.say(draft ? 'This is what you typed before; it is not saved yet.' : '');
    this.form.hidden = false;
    fit(this.prompt);
    fit(this.answer);
    this.answer.focus();
    this.answer.setSelectionRange(this.answer.value.length, this.answer.value.length);
  }

  close() {
    this.stopAsking();
    this.form.hidden = true;
    this.card = null;
  }

  cancel() {
    this.close();
    this.host.closed();
  }

  save() {
    const { card } = this;
    if (!card || this.answer.readOnly) return;
    const { draft } = this;
    if (!draft) {
      this.say(UNCHANGED);
      return;
    }
    const { prompt, answer } = draft;
    const samePrompt = prompt === typed(card.prompt);
    const isModels = answer === this.proposed && samePrompt;
    // A prompt that is left out stays exactly as it was in the source.
    const sent = samePrompt ? {} : { prompt };
    this.host.save({ ...sent, answer, origin: isModels ? 'model' : 'edited' });
  }

  /** @param {string} sentence */
  say(sentence) {
    setText(this.q('.v-writing'), sentence);
  }

  // ---------------------------------------------------------------- the model's own answer

  /** Lets the run's newest model answer the prompt, and puts that into the field as it comes. */
  async askModel() {
    const { card } = this;
    if (!card) return;
    this.asked += 1;
    const question = this.asked;
    this.answer.readOnly = true;
    this.answer.value = '';
    this.say('The model is being loaded; its answer will appear here.');
    let { key, error } = { key: '', error: SERVER_UNREACHABLE };
    try {
      ({ key, error } = await this.server.model_answer({ run: this.host.run(), id: card.id }));
    } catch {
      // The sentence is there already.
    }
    if (question !== this.asked) return;
    if (error) this.ended(error);
    else await this.follow(key, question);
  }

  /**
   * @param {string} key
   * @param {number} question
   */
  async follow(key, question) {
    this.key = key;
    const ask = () => this.server.job({ key, drawn: {} });
    await pollJob(this.element, ask, (/** @type {import('./playground_turn.js').AnswerJob | null} */ job) => {
      if (question !== this.asked) return false;
      const side = job?.sides.find((one) => one.side === 'tuned');
      if (!job || !side || job.error || side.error) {
        this.ended(job?.error || side?.error || 'The answer is lost: ask again with M.');
        return false;
      }
      this.answer.value = side.text;
      if (job.running) {
        this.say(`The model answers: ${side.status}.`);
        return true;
      }
      this.proposed = this.answer.value.trim();
      this.ended(`This is the model's own answer (${side.status}). Save it, or change it first.`, this.proposed);
      return false;
    });
  }

  /**
   * The field is the person's again: with the model's answer, or with what was there before.
   * @param {string} sentence
   * @param {string} [answer]
   */
  ended(sentence, answer = this.card?.answer ?? '') {
    this.key = '';
    this.answer.readOnly = false;
    this.answer.value = answer;
    fit(this.answer);
    this.answer.focus();
    this.say(sentence);
  }

  stopAsking() {
    this.asked += 1;
    this.answer.readOnly = false;
    if (!this.key) return;
    this.server.stop_answer({ key: this.key }).catch(() => {}); // it ends by itself, too
    this.key = '';
  }
}

/**
 * A text as a textarea gives it back.
 * @param {string} text
 */
function typed(text) {
  return text.replaceAll(/\r\n?/g, '\n');
}

/**
 * As high as its text, within bounds.
 * @param {HTMLTextAreaElement} area
 */
function fit(area) {
  area.style.height = 'auto';
  area.style.height = `${Math.min(Math.max(area.scrollHeight + 2, 64), 360)}px`;
}
