// Suggestions under the fields of the model and the data: what is on this computer at once, then what the Hub finds.

import { node } from './dom.js';

/**
 * @typedef {object} Option
 * @property {string} value
 * @property {string} kind
 * @property {string} label
 * @property {string} note
 * @property {string} fit 'full', 'lora', 'none' or ''
 */

const FITS = /** @type {Record<string, string>} */ ({
  full: 'fits',
  lora: 'fits with LoRA',
  none: 'too large',
});
const PAUSE = 350; // milliseconds without a key press, before the Hub is asked
const SHORTEST = 2; // characters
const MARGIN = 4; // pixels between the field and its suggestions
const OFFLINE = 'The Hub cannot be reached: only what is on this computer is listed.';

/** A field with a list of suggestions, as the combobox pattern of WAI-ARIA has it. What is typed always counts. */
class Picker {
  /**
   * @param {string} key of the setting
   * @param {HTMLInputElement} input
   * @param {import('./dom.js').Part['server']} server
   */
  constructor(key, input, server) {
    this.key = key;
    this.input = input;
    this.server = server;
    this.asked = 0;
    this.timer = 0;
    this.active = -1;
    /** @type {Option[]} */
    this.options = [];
    this.list = node('div', 'geko-picker');
    this.list.id = `${input.closest('[id^=field-]')?.id}-options`;
    this.list.popover = 'manual';
    this.list.setAttribute('role', 'listbox');
    this.list.setAttribute('aria-label', 'Suggestions');
    document.querySelector('.gradio-container')?.append(this.list);
    for (const [name, value] of Object.entries({
      role: 'combobox',
      autocomplete: 'off',
      'aria-autocomplete': 'list',
      'aria-expanded': 'false',
      'aria-controls': this.list.id,
    })) {
      input.setAttribute(name, value);
    }
    input.addEventListener('click', () => this.open(''));
    input.addEventListener('input', () => {
      if (document.activeElement === input) this.open(input.value.trim());
    });
    input.addEventListener('keydown', (event) => this.onKey(event));
    input.addEventListener('blur', () => this.close());
    window.addEventListener('scroll', () => this.place(), { passive: true });
    window.addEventListener('resize', () => this.place());
  }

  get isOpen() {
    return this.list.matches(':popover-open');
  }

  /** @param {string} text what was typed; '' lists everything */
  async open(text) {
    clearTimeout(this.timer);
    const number = (this.asked += 1);
    const answer = await this.server.suggest({ field: this.key, text }).catch(() => null);
    if (!answer || number !== this.asked || document.activeElement !== this.input) return;
    const wanted = text.toLowerCase();
    const isPath = /^[./~]/.test(text);
    const local = answer.options.filter((/** @type {Option} */ { label, value }) =>
      isPath ? true : `${label} ${value}`.toLowerCase().includes(wanted),
    );
    this.draw(local, '');
    if (text.length < SHORTEST || isPath) return;
    this.timer = window.setTimeout(() => this.search(number, text, local), PAUSE);
  }

  /**
   * @param {number} number of the question
   * @param {string} text
   * @param {Option[]} local what is listed already
   */
  async search(number, text, local) {
    const answer = await this.server.search({ field: this.key, text }).catch(() => null);
    if (!answer || number !== this.asked || document.activeElement !== this.input) return;
    const known = local.map(({ value }) => value);
    const found = answer.options.filter((/** @type {Option} */ { value }) => !known.includes(value));
    this.draw([...local, ...found], answer.reached ? '' : OFFLINE);
  }

  close() {
    clearTimeout(this.timer);
    this.asked += 1;
    if (this.isOpen) this.list.hidePopover();
    this.input.setAttribute('aria-expanded', 'false');
    this.input.removeAttribute('aria-activedescendant');
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
    if (step && !this.isOpen) this.open('');
    else if (step) this.activate(this.active + step);
    else if (event.key === 'Enter' && this.isOpen && this.active >= 0) this.choose(this.options[this.active]);
    else if (event.key === 'Escape' && this.isOpen) this.close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {Option} option */
  choose({ value }) {
    this.input.value = value;
    this.input.dispatchEvent(new Event('input', { bubbles: true }));
    if (value.endsWith('/')) this.open(value);
    else this.close();
  }

  // ---------------------------------------------------------------- drawing

  /**
   * @param {Option[]} options
   * @param {string} remark
   */
  draw(options, remark) {
    this.options = options;
    this.active = -1;
    const lines = options.map((option, i) => this.line(option, i));
    this.list.replaceChildren(...lines, ...(remark ? [node('p', 'remark', remark)] : []));
    if (!options.length && !remark) {
      if (this.isOpen) this.list.hidePopover();
      return;
    }
    if (!this.isOpen) this.list.showPopover();
    this.input.setAttribute('aria-expanded', 'true');
    this.input.removeAttribute('aria-activedescendant');
    this.place();
  }

  /**
   * @param {Option} option
   * @param {number} number
   */
  line(option, number) {
    const { kind, label, note, fit, value } = option;
    const made = node('div', 'option');
    made.id = `${this.list.id}-${number}`;
    made.setAttribute('role', 'option');
    made.setAttribute('aria-selected', String(value === this.input.value));
    made.title = value;
    const first = node('div', 'first');
    const name = node('span', 'label', label);
    name.translate = kind === 'Demo'; // the others are names of models, data and runs
    first.append(name, node('span', 'kind', kind));
    const second = node('div', 'second');
    second.append(node('span', 'note', note));
    if (fit) second.append(node('span', `fit ${fit}`, FITS[fit]));
    made.append(first, ...(note || fit ? [second] : []));
    made.onpointerdown = (event) => event.preventDefault(); // the field keeps the focus
    made.onclick = () => this.choose(option);
    return made;
  }

  /** @param {number} number of an option; over the ends it goes round */
  activate(number) {
    const lines = this.list.querySelectorAll('.option');
    if (!lines.length) return;
    lines[this.active]?.classList.remove('active');
    this.active = (number + lines.length) % lines.length;
    const line = lines[this.active];
    line.classList.add('active');
    line.scrollIntoView({ block: 'nearest' });
    this.input.setAttribute('aria-activedescendant', line.id);
  }

  place() {
    if (!this.isOpen) return;
    const { left, bottom, width } = this.input.getBoundingClientRect();
    this.list.style.left = `${left}px`;
    this.list.style.top = `${bottom + MARGIN}px`;
    this.list.style.width = `${width}px`;
  }
}

/** @param {import('./dom.js').Part} part */
export function mount({ element, props, server }) {
  const form = element.closest('#geko-form');
  const waiting = new Set(/** @type {string[]} */ (props.fields));
  const attach = () => {
    for (const key of waiting) {
      const input = document.querySelector(`#field-${key.replaceAll('.', '-')} input`);
      if (!(input instanceof HTMLInputElement)) continue;
      waiting.delete(key);
      new Picker(key, input, server);
    }
    if (!waiting.size) observer.disconnect();
  };
  const observer = new MutationObserver(attach); // the fields may be drawn later than this part
  if (form) observer.observe(form, { childList: true, subtree: true });
  attach();
}
