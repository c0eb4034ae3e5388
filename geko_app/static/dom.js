// What all scripts of the page share: finding and making nodes, settings kept in the browser, turning to another page.

import { englishText } from './language.js';

export const SERVER_UNREACHABLE = 'The page does not answer. Is geko-app still running?';
const CONNECTION_LOST = 'Connection lost, trying again';

/**
 * What Gradio hands to the script of an HTML part.
 * @typedef {object} Part
 * @property {HTMLElement} element
 * @property {Record<string, (query: object) => Promise<any>>} server the part's functions on the server, by name
 * @property {(event: string, data?: object) => void} trigger
 * @property {Record<string, unknown>} props
 */

/** One HTML part of a page with its script. */
export class View {
  /** @param {Part} part */
  constructor({ element, server, trigger, props }) {
    this.element = element;
    this.server = server;
    this.trigger = trigger;
    this.props = props;
  }

  /** @param {string} selector */
  q(selector) {
    return this.find(selector, HTMLElement);
  }

  /**
   * The first node at `selector`, which is of class `kind`.
   * @template {Element} T
   * @param {string} selector
   * @param {new () => T} kind
   * @returns {T}
   */
  find(selector, kind) {
    const found = this.element.querySelector(selector);
    if (!(found instanceof kind)) throw new Error(`There is no ${kind.name} at ${selector}.`);
    return found;
  }

  /** @param {string} selector */
  button(selector) {
    return this.find(selector, HTMLButtonElement);
  }

  /** @param {string} selector */
  select(selector) {
    return this.find(selector, HTMLSelectElement);
  }

  /** @param {string} selector */
  input(selector) {
    return this.find(selector, HTMLInputElement);
  }

  /** @param {string} selector */
  textarea(selector) {
    return this.find(selector, HTMLTextAreaElement);
  }

  /**
   * Shows a sentence at `selector`, or hides it when it is empty.
   * @param {string} selector
   * @param {string} sentence
   */
  showError(selector, sentence) {
    const target = this.q(selector);
    target.hidden = !sentence;
    setText(target, sentence);
  }

  /** @param {string} selector */
  showConnectionLost(selector) {
    setText(this.q(selector), CONNECTION_LOST);
  }
}

/**
 * @param {Element | null} target
 * @param {string | number} value
 */
export function setText(target, value) {
  if (target && englishText(target) !== String(value)) target.textContent = String(value);
}

/**
 * A new element.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} [className]
 * @param {string | number} [content]
 */
export function node(tag, className, content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (content !== undefined) made.textContent = String(content);
  return made;
}

/**
 * A new button.
 * @param {string} label
 * @param {string} className
 * @param {(event: MouseEvent) => void} onclick
 */
export function button(label, className, onclick) {
  const made = node('button', className, label);
  made.type = 'button';
  made.onclick = onclick;
  return made;
}

/**
 * A button that copies `value`.
 * @param {string} value
 */
export function copyButton(value) {
  const made = button('Copy', 'copy', async () => {
    await copy(value);
    made.textContent = 'Copied';
    setTimeout(() => (made.textContent = 'Copy'), 1500);
  });
  return made;
}

/** @param {string} value */
async function copy(value) {
  try {
    await navigator.clipboard.writeText(value);
  } catch {
    // Only https and localhost have a clipboard.
    const area = node('textarea', '', value);
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
}

/**
 * A line with a label and a text that can be copied.
 * @param {string} label
 * @param {string} value
 */
export function copyLine(label, value) {
  const line = node('p', 'geko-path');
  line.append(node('span', '', label), node('code', '', value), copyButton(value));
  return line;
}

/**
 * The content of a block of code that can be copied.
 * @param {string} code
 * @returns {[HTMLPreElement, HTMLButtonElement]}
 */
export function codeWithCopy(code) {
  return [node('pre', '', code), copyButton(code)];
}

/**
 * Name and value pairs of a description list.
 * @param {[string, string][]} pairs
 */
export function descriptionRows(pairs) {
  return pairs.map(([name, value]) => {
    const row = node('div');
    row.append(node('dt', '', name), node('dd', '', value));
    return row;
  });
}

/**
 * Puts `options` into a select, unless they are there already, and selects `value`, or else the first one.
 * @param {HTMLSelectElement} select
 * @param {[string, string][]} options value and label of each
 * @param {string} value
 */
export function fillSelect(select, options, value) {
  const shown = JSON.stringify(options);
  if (select.dataset.shown !== shown) {
    select.dataset.shown = shown;
    select.replaceChildren(...options.map(([id, label]) => new Option(label, id)));
  }
  select.value = options.some(([id]) => id === value) ? value : (options[0]?.[0] ?? '');
}

/**
 * Whether a scrolling element shows its end.
 * @param {HTMLElement} element
 */
export function isAtEnd(element) {
  return element.scrollTop + element.clientHeight >= element.scrollHeight - 8;
}

/**
 * Lets the browser save what `href` points to.
 * @param {string} name
 * @param {string} href
 */
export function download(name, href) {
  const link = node('a');
  link.href = href;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
}

/**
 * Lets the browser save a text.
 * @param {string} name
 * @param {string} content
 * @param {string} type
 */
export function downloadText(name, content, type) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  download(name, url);
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/**
 * Reads a setting that this browser keeps, or writes `value`; "" when there is none.
 * @param {string} key
 * @param {string} [value]
 */
export function localSetting(key, value) {
  return setting(() => window.localStorage, key, value);
}

/**
 * Reads a setting that this tab keeps, or writes `value`; "" when there is none.
 * @param {string} key
 * @param {string} [value]
 */
export function sessionSetting(key, value) {
  return setting(() => window.sessionStorage, key, value);
}

/**
 * @param {() => Storage} open
 * @param {string} key
 * @param {string} [value]
 */
function setting(open, key, value) {
  try {
    if (value === undefined) return open().getItem(key) ?? '';
    open().setItem(key, value);
  } catch {
    // A private window keeps nothing.
  }
  return '';
}

/**
 * The list of ids that this tab keeps under `key`.
 * @param {string} key
 * @returns {string[]}
 */
export function sessionList(key) {
  try {
    return JSON.parse(sessionSetting(key) || '[]');
  } catch {
    return [];
  }
}

/**
 * Sends an event to the scripts of the other parts.
 * @template {keyof WindowEventMap} Name
 * @param {Name} name
 * @param {unknown} [detail]
 */
export function emit(name, detail) {
  window.dispatchEvent(new CustomEvent(name, { detail }));
}

/**
 * Turns to another page.
 * @param {string} title
 */
export function openPage(title) {
  const tabs = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('#geko-pages button[role="tab"]'));
  [...tabs].find((tab) => englishText(tab).trim() === title)?.click();
}

/** @returns {'light' | 'dark'} */
export function theme() {
  return document.body.classList.contains('dark') ? 'dark' : 'light';
}

/** Whether somebody watches a Space that is not theirs: the server refuses whatever they change. */
export function isVisitor() {
  return document.body.dataset.role === 'visitor';
}

/** @param {number} milliseconds */
export function sleep(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
