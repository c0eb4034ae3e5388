// The export card of a run that has ended: what can be made of its model, how far that has come, and what came of it.

import { button, codeWithCopy, copyLine, emit, node, SERVER_UNREACHABLE, setText } from './dom.js';
import { pollJob } from './poll.js';

/**
 * @typedef {[string, string, string]} Choice target, label, what it is
 * @typedef {{to: string, text: string, running: boolean, error: string, place: string, sentences: string[],
 *   commands: string}} Job
 * @typedef {{choices: Choice[], adapter: boolean, model: string, job: Job | null, running: boolean}} Card
 */

const EVERY = 700; // milliseconds between two questions while an export runs
const PLACES = { merged: 'Merged model', gguf: 'GGUF file', ollama: 'Modelfile', hub: 'Repository' };

export class ExportPanel {
  /** @param {import('./dom.js').View} view the dashboard, whose server functions are called */
  constructor(view) {
    this.view = view;
    this.element = view.q('.geko-export');
    this.run = '';
  }

  /**
   * Shows the card of this run; "" for a run that has not ended.
   * @param {string} run
   */
  async show(run) {
    if (run === this.run) return;
    this.run = run;
    this.element.hidden = true;
    if (run) await this.follow();
  }

  async follow() {
    const run = this.run;
    const draw = (/** @type {Card | null} */ card) => {
      if (run !== this.run || !card) return false;
      this.draw(card);
      return card.running;
    };
    await pollJob(this.element.parentElement ?? this.element, () => this.view.server.exports({ run }), draw, {
      every: EVERY,
    });
  }

  /** @param {Card} card */
  draw({ choices, adapter, model, job }) {
    this.element.hidden = !choices.length;
    if (this.element.dataset.run !== this.run) {
      this.element.dataset.run = this.run;
      this.element.replaceChildren(
        node('h3', '', 'Export'),
        this.choiceButtons(choices),
        this.hubForm(adapter),
        node('div', 'e-job'),
        continueRow(model),
      );
    }
    const starters = /** @type {NodeListOf<HTMLButtonElement>} */ (this.element.querySelectorAll('.e-start'));
    for (const starter of starters) starter.disabled = Boolean(job?.running);
    this.drawJob(job);
  }

  /** @param {Choice[]} choices */
  choiceButtons(choices) {
    const row = node('div', 'geko-variants');
    for (const [to, label, why] of choices) {
      const made = button(label, 'e-start', () => (to === 'hub' ? this.toggleHub() : this.start({ to })));
      made.title = why;
      made.dataset.to = to;
      row.append(made);
    }
    return row;
  }

  /** Brings the card into view, at the first thing that can be made. */
  focus() {
    this.element.scrollIntoView({ block: 'center', behavior: 'smooth' });
    /** @type {HTMLElement} */ (this.element.querySelector('.e-start') ?? this.element).focus({ preventScroll: true });
  }

  openHub() {
    this.focus();
    if (this.view.q('.e-hub').hidden) this.toggleHub();
  }

  toggleHub() {
    const form = this.view.q('.e-hub');
    form.hidden = !form.hidden;
    if (!form.hidden) this.view.input('.e-repo').focus();
  }

  /** @param {boolean} adapter */
  hubForm(adapter) {
    const form = node('form', 'e-hub');
    form.hidden = true;
    const kind = check('Complete model instead of the adapter', 'e-merged');
    kind.hidden = !adapter;
    form.append(
      field('Repository (owner/name)', 'e-repo', 'text'),
      field('Hub token with write access (empty: HF_TOKEN or hf auth login)', 'e-token', 'password'),
      kind,
      check('Public', 'e-public'),
      node('button', 'e-start', 'Push'),
    );
    form.onsubmit = (event) => {
      event.preventDefault();
      const { view } = this;
      this.start({
        to: 'hub',
        repo: view.input('.e-repo').value,
        token: view.input('.e-token').value,
        merged: view.input('.e-merged').checked,
        public: view.input('.e-public').checked,
      });
    };
    return form;
  }

  /** @param {object} asked */
  async start(asked) {
    let error = SERVER_UNREACHABLE;
    try {
      ({ error } = await this.view.server.export({ run: this.run, ...asked }));
    } catch {
      // The sentence is there already.
    }
    if (error) this.drawError(error);
    else await this.follow();
  }

  /** @param {string} error */
  drawError(error) {
    const line = node('p', 'geko-error', error);
    line.setAttribute('role', 'alert');
    this.view.q('.e-job').replaceChildren(line);
  }

  /** @param {Job | null} job */
  drawJob(job) {
    const box = this.view.q('.e-job');
    if (!job) return;
    if (job.error) {
      this.drawError(job.error);
    } else if (job.running) {
      if (!box.querySelector('.e-text')) {
        const line = node('p', 'geko-hint e-text');
        line.setAttribute('role', 'status');
        box.replaceChildren(
          line,
          button('Stop', '', () => this.view.server.stop_export({ run: this.run })),
        );
      }
      setText(box.querySelector('.e-text'), `${job.text} …`);
    } else {
      box.replaceChildren(...result(job));
    }
  }
}

/**
 * The result as the base of the next run.
 * @param {string} model
 */
function continueRow(model) {
  const row = node('div', 'geko-variants');
  const newRows = button('Train on, new rows only', 'e-new-rows', () => {
    emit('geko-use', { fields: { 'model.name': model, 'data.replay': model.replace(/[/\\]model$/, '') } });
  });
  newRows.title = 'Leaves out the rows of this run, and replays a share of them';
  const hint = node('p', 'geko-hint', 'Puts it into the form as the model; then choose the data and press Start.');
  row.append(
    button('Train on from this model', 'e-continue', () => fillField('model.name', model)),
    newRows,
    hint,
  );
  return row;
}

/**
 * Writes into a field of the form as a user would, and shows it.
 * @param {string} key of the setting
 * @param {string} value
 */
function fillField(key, value) {
  const input = document.querySelector(`#field-${key.replace('.', '-')} :is(input, textarea)`);
  if (!(input instanceof HTMLInputElement || input instanceof HTMLTextAreaElement)) return;
  input.value = value;
  input.dispatchEvent(new Event('input', { bubbles: true }));
  input.scrollIntoView({ block: 'center' });
  input.focus();
}

/** @param {Job} job */
function result(job) {
  const label = PLACES[/** @type {keyof typeof PLACES} */ (job.to)];
  const parts = [copyLine(label, job.place), ...job.sentences.map((text) => node('p', 'geko-hint', text))];
  if (job.commands) {
    const code = node('div', 'geko-code');
    code.append(...codeWithCopy(job.commands));
    parts.push(code);
  }
  return parts;
}

/**
 * @param {string} text
 * @param {string} name
 * @param {string} type
 */
function field(text, name, type) {
  const label = node('label', '', text);
  const input = node('input', name);
  input.type = type;
  input.autocomplete = 'off';
  label.append(input);
  return label;
}

/**
 * @param {string} text
 * @param {string} name
 */
function check(text, name) {
  const label = node('label', 'e-check');
  const input = node('input', name);
  input.type = 'checkbox';
  label.append(input, text);
  return label;
}
