// A box for each GPU below the field of the GPUs, with what is running there; only on computers with several.
// The field stays what counts: the boxes write into it and follow it.

import { node, setText } from './dom.js';
import { pollWhileVisible } from './poll.js';

/** @typedef {{number: number, label: string}} Gpu */

const EVERY = 2000; // milliseconds between two looks at what is running

/** @param {import('./dom.js').Part} part */
export function mount({ element, server, props }) {
  const form = element.closest('#geko-form');
  if (!form) return;
  const { field, gpus } = /** @type {{field: string, gpus: Gpu[]}} */ (/** @type {unknown} */ (props));
  const boxes = new Boxes(gpus);
  const look = async () => {
    boxes.show(await server.gpus({}));
    return EVERY;
  };
  const schedulePoll = pollWhileVisible(boxes.element, look, () => {});
  const addMissing = () => {
    const place = document.getElementById(field);
    if (!place || place.contains(boxes.element)) return;
    place.append(boxes.element);
    boxes.follow(place.querySelector('input'));
    schedulePoll(); // it rests while the boxes are nowhere
  };
  new MutationObserver(addMissing).observe(form, { childList: true, subtree: true }); // a folded group adds it later
  window.addEventListener('geko-form', () => boxes.read());
  addMissing();
}

class Boxes {
  /** @param {Gpu[]} gpus */
  constructor(gpus) {
    this.element = node('fieldset', 'geko-gpus');
    this.element.append(node('legend', '', 'GPUs of this computer'));
    /** @type {HTMLInputElement | null} */
    this.input = null;
    this.boxes = gpus.map((gpu) => this.addBox(gpu));
  }

  /** @param {Gpu} gpu */
  addBox({ number, label }) {
    const row = node('label');
    const box = node('input');
    box.type = 'checkbox';
    box.value = String(number);
    box.onchange = () => this.write();
    const use = node('span', 'use');
    row.append(box, node('span', 'name', `GPU ${number}`), node('span', 'kind', label), use);
    this.element.append(row);
    return { box, use };
  }

  /** @param {HTMLInputElement | null} input */
  follow(input) {
    this.input = input;
    input?.addEventListener('input', () => this.read());
    this.read();
  }

  read() {
    const text = this.input?.value.trim() ?? '';
    const chosen = text.split(',').map((part) => part.trim());
    for (const { box } of this.boxes) box.checked = text === 'all' || chosen.includes(box.value);
  }

  write() {
    if (!this.input) return;
    const chosen = this.boxes.filter(({ box }) => box.checked).map(({ box }) => box.value);
    this.input.value = chosen.join(',');
    this.input.dispatchEvent(new Event('input', { bubbles: true }));
  }

  /** @param {Record<string, string> | null} runs name of the run on each GPU that has one */
  show(runs) {
    for (const { box, use } of this.boxes) {
      const run = runs?.[box.value];
      setText(use, run ? `running: ${run}` : 'free');
      use.classList.toggle('busy', Boolean(run));
    }
  }
}
