// What the last check found, in the step of the form; the whole of it is in the preview beside the form.

import { descriptionRows, setText, View } from './dom.js';

const FIGURES = ['Samples', 'Memory', 'Time']; // those of the preview that are repeated here

class CheckSummary extends View {
  /** @param {import('./dom.js').Part} part */
  constructor(part) {
    super(part);
    this.now = ''; // what the form holds, and what it held when the check began
    this.checked = '';
    window.addEventListener('geko-form', ({ detail }) => {
      this.now = JSON.stringify(detail);
      this.drawAge();
    });
    window.addEventListener('geko-preview', () => (this.checked = this.now));
    window.addEventListener('geko-check', ({ detail }) => this.draw(detail));
    this.button('.k-open').onclick = () => {
      document.querySelector('.geko-preview')?.scrollIntoView({ block: 'start', behavior: 'smooth' });
    };
  }

  /** @param {import('./preview.js').Preview} preview */
  draw({ running, status, error, figures, memory, findings }) {
    const root = this.q('.geko-check');
    root.dataset.state = running ? 'running' : error ? 'failed' : (memory?.verdict ?? 'done');
    const count = findings.length === 1 ? '1 finding' : `${findings.length} findings`;
    setText(
      this.q('.k-state'),
      running ? `${status} …` : error || `Checked: ${findings.length ? count : 'no findings'}.`,
    );
    const shown = figures.filter(({ name }) => FIGURES.includes(name));
    this.q('.k-figures').hidden = !shown.length;
    this.q('.k-figures').replaceChildren(
      ...descriptionRows(shown.map(({ name, value, note }) => [name, `${value} ${note}`])),
    );
    this.showError('.k-verdict', memory && memory.verdict !== 'fits' ? memory.sentence : '');
    this.button('.k-open').hidden = running || Boolean(error);
    this.drawAge();
  }

  drawAge() {
    this.q('.k-old').hidden = this.q('.geko-check').dataset.state === 'none' || this.now === this.checked;
  }
}

/** @param {import('./dom.js').Part} part */
export function mount(part) {
  new CheckSummary(part);
}
