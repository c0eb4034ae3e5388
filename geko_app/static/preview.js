// The preview of data and memory before a start: asks for its job until that has ended, and draws what is known.

import { emit, node, setText, View } from './dom.js';
import { pollJob } from './poll.js';

/**
 * @typedef {object} Memory
 * @property {string} verdict
 * @property {string} sentence
 * @property {string} note
 * @property {{part: string, name: string, text: string, share: number}[]} parts
 *
 * @typedef {object} Preview
 * @property {boolean} running
 * @property {string} status
 * @property {string} error
 * @property {string} shape
 * @property {[string, boolean][][] | null} samples pieces of each, learned or not; null: those that this tab has
 * @property {import('./dashboard_cards.js').Stat[]} figures
 * @property {[number, number][]} lengths the longest of a bin, and how many samples are in it
 * @property {Memory | null} memory
 * @property {string[]} findings
 * @property {string[]} warnings
 */

/** @type {Preview} */
const STARTING = {
  running: true,
  status: 'Starting',
  error: '',
  shape: '',
  samples: null,
  figures: [],
  lengths: [],
  memory: null,
  findings: [],
  warnings: [],
};
const POLL = 400; // milliseconds

class PreviewCard extends View {
  /** @param {import('./dom.js').Part} part */
  constructor(part) {
    super(part);
    this.key = '';
    /** @type {[string, boolean][][]} */
    this.samples = [];
    this.shown = 0;
    this.q('.l-close').onclick = () => this.close();
    this.q('.l-before').onclick = () => this.turn(-1);
    this.q('.l-after').onclick = () => this.turn(1);
    window.addEventListener('geko-preview', ({ detail }) => {
      if (detail) this.open(detail);
    });
  }

  /** @param {string} key of the job */
  open(key) {
    this.key = key;
    this.samples = [];
    this.drawSample();
    this.draw(STARTING);
    const card = this.q('.geko-preview');
    card.hidden = false;
    card.scrollIntoView({ block: 'nearest', behavior: 'smooth' });
    pollJob(
      this.element,
      () => this.server.preview({ key, samples: this.samples.length > 0 }),
      (/** @type {Preview | null} */ job) => {
        if (key !== this.key) return false;
        if (job) this.draw(job);
        else this.close(); // the page was restarted: there is no such job any more
        return true;
      },
      { every: POLL, onError: () => this.showConnectionLost('.l-status') },
    );
  }

  close() {
    this.key = '';
    this.q('.geko-preview').hidden = true;
  }

  /** @param {number} by */
  turn(by) {
    this.shown = Math.max(0, Math.min(this.samples.length - 1, this.shown + by));
    this.drawSample();
  }

  // ---------------------------------------------------------------- drawing

  /** @param {Preview} preview */
  draw(preview) {
    setText(this.q('.l-status'), preview.status);
    this.showError('.l-error', preview.error);
    setText(this.q('.l-shape'), preview.shape);
    if (preview.samples?.length && !this.samples.length) {
      this.samples = preview.samples;
      this.shown = 0;
      this.drawSample();
    }
    this.drawFigures(preview.figures);
    this.drawLengths(preview.lengths);
    this.drawMemory(preview.memory);
    this.q('.l-odd').hidden = !preview.findings.length;
    this.q('.l-findings').replaceChildren(...preview.findings.map((sentence) => node('li', '', sentence)));
    this.warnAtStart(preview.warnings);
    emit('geko-check', preview);
  }

  /**
   * What changes the training of many rows stands beside the Start button, too.
   * @param {string[]} sentences
   */
  warnAtStart(sentences) {
    const list = /** @type {HTMLElement} */ (document.querySelector('.geko-start-warnings'));
    list.hidden = !sentences.length;
    list.replaceChildren(...sentences.map((sentence) => node('li', '', sentence)));
  }

  drawSample() {
    const { samples, shown } = this;
    this.q('.l-sample').hidden = !samples.length;
    if (!samples.length) return;
    const pieces = samples[shown].map(([piece, learned]) => node('span', learned ? 'learned' : '', piece));
    this.q('.l-text').replaceChildren(...pieces);
    setText(this.q('.l-number'), `${shown + 1} of ${samples.length}`);
    this.button('.l-before').disabled = shown === 0;
    this.button('.l-after').disabled = shown === samples.length - 1;
  }

  /** @param {import('./dashboard_cards.js').Stat[]} figures */
  drawFigures(figures) {
    const boxes = figures.map(({ name, value, note }) => {
      const box = node('div');
      box.append(node('dt', '', name), node('dd', 'value', value), node('dd', 'note', note));
      box.title = note;
      return box;
    });
    this.q('.l-figures').replaceChildren(...boxes);
  }

  /** @param {[number, number][]} lengths */
  drawLengths(lengths) {
    this.q('.l-lengths').hidden = !lengths.length;
    if (!lengths.length) return;
    const most = Math.max(...lengths.map(([, count]) => count));
    const bars = lengths.map(([longest, count], i) => {
      const bar = node('span');
      bar.style.height = `${count ? Math.max(2, (100 * count) / most) : 0}%`;
      const shortest = i ? lengths[i - 1][0] + 1 : 1;
      bar.title = `${shortest} to ${longest} tokens: ${count.toLocaleString('en')} samples`;
      return bar;
    });
    this.q('.l-bins').replaceChildren(...bars);
    const [last] = lengths[lengths.length - 1];
    const labels = ['1', String(Math.round(last / 2)), `${last} tokens`];
    labels.forEach((label, i) => setText(this.q('.l-axis').children[i], label));
  }

  /** @param {Memory | null} memory */
  drawMemory(memory) {
    this.q('.l-memory').hidden = !memory;
    if (!memory) return;
    this.q('.l-memory').dataset.verdict = memory.verdict;
    setText(this.q('.l-verdict'), memory.sentence);
    setText(this.q('.l-note'), memory.note);
    const bars = memory.parts.map(({ part, name, text, share }) => {
      const bar = node('span', part);
      bar.style.flexGrow = String(share);
      bar.title = `${name}: ${text}`;
      return bar;
    });
    this.q('.l-parts').replaceChildren(...bars);
    const legend = memory.parts.map(({ part, name, text }) => {
      const line = node('li', part);
      line.append(node('span', '', name), node('strong', '', text));
      return line;
    });
    this.q('.l-legend').replaceChildren(...legend);
  }
}

/** @param {import('./dom.js').Part} part */
export function mount(part) {
  new PreviewCard(part);
}
