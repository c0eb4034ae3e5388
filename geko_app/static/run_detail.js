// One run in a panel beside the list: its name, figures and files, and what can be done with it.

import {
  codeWithCopy,
  copyLine,
  descriptionRows,
  download,
  downloadText,
  emit,
  isAtEnd,
  node,
  openPage,
  SERVER_UNREACHABLE,
  sessionSetting,
  setText,
  sleep,
  View,
} from './dom.js';
import { isVisible, pollWhileVisible } from './poll.js';
import { LabelEditor } from './runs_label.js';

/**
 * @typedef {object} Run
 * @property {string} id
 * @property {string} name
 * @property {string} own_name
 * @property {string[]} tags
 * @property {import('./runs_label.js').Limits} limits
 * @property {string} created
 * @property {string} phase
 * @property {string} title of its status
 * @property {string} reason
 * @property {[string, string][]} figures
 * @property {string} folder
 * @property {string} model
 * @property {string} model_size
 * @property {string} code that loads the model
 * @property {string} checkpoint
 * @property {string} command that runs it again
 * @property {string} config
 * @property {string} log
 * @property {string} note
 * @property {string} size
 * @property {boolean} report whether there is one
 * @property {boolean} stoppable
 * @property {boolean} deletable
 * @property {boolean} resumable
 */

const NO_MODEL = 'There is no model yet: it is saved at the end of the run.';
const ONLY_CHECKPOINT = `${NO_MODEL} The latest checkpoint holds what was trained so far.`;
const EMPTY_LOG = 'Empty: the training process has printed nothing, or the run was started on the command line.';
const OPENING = 2000; // milliseconds that an opened run may take to be drawn

class RunDetail extends View {
  /** @param {import('./dom.js').Part} part */
  constructor(part) {
    super(part);
    this.id = sessionSetting('geko-opened');
    this.drawn = '';
    this.places = '';
    this.config = '';
    this.downloadLabel = '';
    /** @type {string | null} as the server has it; null before it was read */
    this.note = null;
    this.label = new LabelEditor(this.q('.o-naming'), this.q('.o-tags'), (name, tags) => this.keepLabel(name, tags));
    this.wire();
    this.wireDelete();
    this.wireNote();
    this.schedulePoll = pollWhileVisible(
      this.element,
      () => this.poll(),
      () => this.showError('.o-error', SERVER_UNREACHABLE),
    );
    window.addEventListener('geko-open', ({ detail }) => this.open(detail));
  }

  async poll() {
    if (!this.id) {
      this.q('.o-run').hidden = true;
      return 3000;
    }
    const { id } = this;
    /** @type {Run | null} */
    const data = await this.server.opened({ run: id });
    if (id !== this.id) return 0;
    if (!data) {
      emit('geko-open', '');
      return 3000;
    }
    this.draw(data);
    this.q('.o-run').hidden = false;
    return data.stoppable ? 1500 : 3000;
  }

  // ---------------------------------------------------------------- drawing

  /** @param {Run} data */
  draw(data) {
    const key = JSON.stringify(data);
    if (key === this.drawn) return;
    this.drawn = key;
    this.q('.o-run').dataset.phase = data.phase;
    this.label.draw({ name: data.name, own_name: data.own_name, tags: data.tags, limits: data.limits });
    setText(this.q('.o-made'), `Created ${data.created} · ${data.size}`);
    setText(this.q('.o-status strong'), data.title);
    setText(this.q('.o-reason'), data.reason);
    this.q('.o-resume').hidden = !data.resumable;
    this.q('.o-stop').hidden = !data.stoppable;
    this.q('.o-pack').hidden = !data.model;
    this.q('.o-report').hidden = !data.report;
    this.q('.o-delete-steps').hidden = !data.deletable;
    this.downloadLabel = `Download model (${data.model_size})`;
    if (!this.button('.o-pack').disabled) setText(this.q('.o-pack'), this.downloadLabel);
    setText(this.q('.o-sure'), `Delete ${data.size} permanently`);
    this.q('.o-figures').replaceChildren(...descriptionRows(data.figures));
    this.drawPlaces(data);
    this.drawConfig(data.config);
    this.drawLog(data.log);
    this.drawNote(data.note);
  }

  /** @param {Run} data */
  drawPlaces({ model, folder, checkpoint, code, command }) {
    const key = JSON.stringify([model, folder, checkpoint, code, command]);
    if (key === this.places) return;
    this.places = key;
    /** @type {HTMLElement[]} */
    const lines = [];
    if (model) lines.push(copyLine('Model', model));
    else lines.push(node('p', 'geko-hint', checkpoint ? ONLY_CHECKPOINT : NO_MODEL));
    if (!model && checkpoint) lines.push(copyLine('Checkpoint', checkpoint));
    lines.push(copyLine('Folder', folder), copyLine('Run it again', command));
    if (code) {
      const block = node('div', 'geko-code');
      block.append(...codeWithCopy(code));
      lines.push(block);
    }
    this.q('.o-places').replaceChildren(...lines);
  }

  /** @param {string} config */
  drawConfig(config) {
    if (config === this.config) return;
    this.config = config;
    const [code, copy] = codeWithCopy(config);
    code.tabIndex = 0;
    this.q('.o-config .geko-code').replaceChildren(code, copy);
  }

  /** @param {string} lines */
  drawLog(lines) {
    const log = this.q('.o-log pre');
    const atEnd = isAtEnd(log);
    setText(log, lines || EMPTY_LOG);
    if (atEnd) log.scrollTop = log.scrollHeight;
  }

  /** @param {string} note */
  drawNote(note) {
    const area = this.textarea('.o-note textarea');
    if (this.note === null || (area.value === this.note && note !== this.note)) area.value = note; // edits stay
    this.note = note;
    this.button('.o-save').disabled = area.value.trim() === note;
  }

  // ---------------------------------------------------------------- opening

  /** @param {string} id "" closes it */
  async open(id) {
    this.show(id);
    this.schedulePoll();
    if (!id) return;
    const card = this.q('.o-run');
    for (let waited = 0; waited < OPENING && (card.hidden || !this.drawn); waited += 50) await sleep(50);
    card.focus({ preventScroll: true });
  }

  /** @param {string} id */
  show(id) {
    if (id !== this.id) {
      this.drawn = this.places = this.config = '';
      this.note = null;
      this.label.reset();
      this.q('.o-body').scrollTop = 0;
      this.find('.o-config', HTMLDetailsElement).open = false;
      this.find('.o-log', HTMLDetailsElement).open = false;
    }
    this.id = id;
    setText(this.q('.o-saved'), '');
    this.showError('.o-error', '');
    this.confirmDelete(false);
  }

  // ---------------------------------------------------------------- buttons

  wire() {
    this.q('.o-close').onclick = () => emit('geko-open', '');
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && this.id && isVisible(this.element)) emit('geko-open', '');
    });
    this.q('.o-show').onclick = () => {
      sessionSetting('geko-shown', this.id);
      openPage('Train');
    };
    this.q('.o-use').onclick = () => {
      emit('geko-use', { run: this.id });
      openPage('Train');
    };
    this.q('.o-resume').onclick = () => this.act('resume');
    this.q('.o-stop').onclick = () => this.act('halt');
    this.q('.o-report').onclick = () => this.saveReport();
    this.q('.o-pack').onclick = () => this.downloadModel();
  }

  wireDelete() {
    this.q('.o-delete').onclick = () => this.confirmDelete(true);
    this.q('.o-keep').onclick = () => {
      this.confirmDelete(false);
      this.q('.o-delete').focus();
    };
    this.q('.o-sure').onclick = async () => {
      this.confirmDelete(false);
      const { error } = await this.act('remove');
      if (!error) emit('geko-open', '');
    };
  }

  wireNote() {
    const area = this.textarea('.o-note textarea');
    area.oninput = () => {
      this.button('.o-save').disabled = area.value.trim() === this.note;
      setText(this.q('.o-saved'), '');
    };
    this.q('.o-save').onclick = async () => {
      const { error } = await this.act('keep_note', { text: area.value });
      setText(this.q('.o-saved'), error ? '' : 'Saved');
    };
  }

  /** @param {boolean} isAsked */
  confirmDelete(isAsked) {
    this.q('.o-delete').hidden = isAsked;
    this.q('.o-sure').hidden = !isAsked;
    this.q('.o-keep').hidden = !isAsked;
    if (isAsked) this.q('.o-keep').focus();
  }

  /**
   * @param {string} name of the server's function
   * @param {object} [more]
   * @returns {Promise<{error: string, key?: string}>}
   */
  async act(name, more) {
    let answer = { error: SERVER_UNREACHABLE };
    try {
      answer = (await this.server[name]({ run: this.id, ...more })) ?? answer;
    } catch {
      // The sentence is there already.
    }
    this.showError('.o-error', answer.error);
    emit('geko-runs-changed');
    this.schedulePoll();
    return answer;
  }

  /**
   * Saves name and tags; answers with an error, or "".
   * @param {string} name
   * @param {string[]} tags
   */
  async keepLabel(name, tags) {
    return (await this.act('keep_label', { name, tags })).error;
  }

  async saveReport() {
    const name = `${this.id}-report.json`;
    /** @type {string | undefined} */
    const text = await this.server.report({ run: this.id });
    if (text === undefined) this.showError('.o-error', SERVER_UNREACHABLE);
    else downloadText(name, text, 'application/json');
  }

  async downloadModel() {
    const button = this.button('.o-pack');
    button.disabled = true;
    setText(button, 'Packing …');
    const { error, key } = await this.act('pack');
    button.disabled = false;
    setText(button, this.downloadLabel);
    if (!error) download('', `geko-download/${key}`);
  }
}

/** @param {import('./dom.js').Part} part */
export function mount(part) {
  new RunDetail(part);
}
