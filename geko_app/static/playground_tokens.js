// The tokens of an answer: the less sure the model was, the stronger the line below. Pointer and arrow keys show the alternatives.

import { node } from './dom.js';

/**
 * @typedef {object} Token
 * @property {string} text
 * @property {boolean} special
 * @property {number} level of uncertainty, 0 for the lowest
 * @property {string} chance
 * @property {[string, string, number][]} alternatives text, probability in words, probability
 */

const GAP = 8; // pixels between a token and its tip

/** The one tip of the page, at the token that has the pointer or the focus. */
export class TokenTip {
  /** @param {HTMLElement} tip */
  constructor(tip) {
    this.tip = tip;
    /** @type {HTMLElement | null} */
    this.owner = null;
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') this.hide();
    });
    document.addEventListener('scroll', () => this.hide(), { capture: true, passive: true });
  }

  /**
   * @param {HTMLElement} element
   * @param {Token} token
   */
  show(element, token) {
    this.hide();
    this.owner = element;
    element.setAttribute('aria-describedby', this.tip.id);
    const rows = token.alternatives.map(([text, chance, share]) => {
      const row = node('div', text === token.text ? 't-tip-row taken' : 't-tip-row');
      const bar = node('span', 't-tip-bar');
      bar.style.setProperty('--share', `${100 * share}%`);
      row.append(node('code', '', shown(text)), bar, node('span', 't-tip-chance', chance));
      return row;
    });
    const head = node('p', 't-tip-head');
    head.append(node('code', '', shown(token.text)), node('span', '', token.chance));
    this.tip.replaceChildren(head, ...rows);
    this.tip.hidden = false;
    this.place(element.getBoundingClientRect());
  }

  /** @param {DOMRect} token */
  place(token) {
    const { width, height } = this.tip.getBoundingClientRect();
    const left = Math.max(GAP, Math.min(token.left, window.innerWidth - width - GAP));
    const below = token.bottom + GAP + height < window.innerHeight;
    this.tip.style.left = `${left}px`;
    this.tip.style.top = `${below ? token.bottom + GAP : Math.max(GAP, token.top - GAP - height)}px`;
  }

  hide() {
    this.owner?.removeAttribute('aria-describedby');
    this.owner = null;
    this.tip.hidden = true;
  }
}

/**
 * A text of tokens in the place of what stands in `host`.
 * @param {HTMLElement} host
 * @param {Token[]} tokens
 * @param {TokenTip} tip
 */
export function drawTokens(host, tokens, tip) {
  const list = node('div', 't-tokens-list');
  list.setAttribute('role', 'listbox');
  list.setAttribute('aria-label', 'Tokens of the answer, with their probabilities');
  const visible = tokens.filter((token) => token.text);
  const elements = visible.map((token, i) => tokenElement(token, i === 0, tip));
  trimEnds(visible, elements);
  list.append(...elements);
  list.onkeydown = (event) => moveAlong(event, elements);
  host.replaceChildren(list);
}

/**
 * @param {Token} token
 * @param {boolean} isFirst
 * @param {TokenTip} tip
 */
function tokenElement(token, isFirst, tip) {
  const element = node('span', `t-token t-level-${token.level}`, token.text);
  if (token.special) element.classList.add('t-special');
  element.setAttribute('role', 'option');
  element.setAttribute('aria-selected', 'false');
  element.tabIndex = isFirst ? 0 : -1; // one stop of the Tab key: the arrow keys go on from there
  element.onpointerenter = () => tip.show(element, token);
  element.onpointerleave = () => tip.hide();
  element.onfocus = () => {
    element.setAttribute('aria-selected', 'true');
    tip.show(element, token);
  };
  element.onblur = () => {
    element.setAttribute('aria-selected', 'false');
    tip.hide();
  };
  return element;
}

/**
 * An answer has no spaces at its ends, whatever its tokens have.
 * @param {Token[]} tokens
 * @param {HTMLElement[]} elements
 */
function trimEnds(tokens, elements) {
  const spoken = elements.filter((_, i) => !tokens[i].special);
  const first = spoken.find((element) => element.textContent?.trim());
  const last = spoken.filter((element) => element.textContent?.trim()).at(-1);
  if (first) first.textContent = first.textContent?.trimStart() ?? '';
  if (last) last.textContent = last.textContent?.trimEnd() ?? '';
}

/**
 * @param {KeyboardEvent} event
 * @param {HTMLElement[]} elements
 */
function moveAlong(event, elements) {
  const at = elements.indexOf(/** @type {HTMLElement} */ (event.target));
  /** @type {Record<string, number>} */
  const places = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: elements.length - 1 };
  const next = elements[places[event.key] ?? -1];
  if (at < 0 || !next) return;
  event.preventDefault();
  elements[at].tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

/** @param {string} text */
function shown(text) {
  return text.replaceAll('\n', '↵').replaceAll(' ', '␣') || '·';
}
