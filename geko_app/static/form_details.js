// When to change a setting and what that costs, behind an info button beside the label of its field.

import { button, node } from './dom.js';
import { englishText } from './language.js';

/** @typedef {{label: string, text: string}} Details */

const MARGIN = 8; // pixels between the details, their button and the edges of the window

/** @param {import('./dom.js').Part} part */
export function mount({ element, props }) {
  const form = element.closest('#geko-form');
  if (!form) return;
  const details = Object.entries(/** @type {Record<string, Details>} */ (props.details));
  const panel = node('div', 'geko-details');
  panel.popover = 'auto';
  form.append(panel);
  window.addEventListener('scroll', () => panel.hidePopover(), { passive: true });

  let isScheduled = false;
  const addMissing = () => {
    isScheduled = false;
    for (const [id, field] of details) addButton(document.getElementById(id), field, panel);
  };
  const schedule = () => {
    if (!isScheduled) requestAnimationFrame(addMissing);
    isScheduled = true;
  };
  new MutationObserver(schedule).observe(form, { childList: true, subtree: true }); // folded groups add fields later
  schedule();
}

/**
 * @param {HTMLElement | null} field null while its group is folded
 * @param {Details} details
 * @param {HTMLElement} panel
 */
function addButton(field, { label, text }, panel) {
  const caption = field?.querySelector('[data-testid="block-info"], .label-text');
  if (!field || !caption || field.querySelector('.geko-info')) return;
  const info = button('i', 'geko-info', (event) => {
    event.preventDefault(); // within a label, a press would reach the input too
    showDetails(panel, info, text);
  });
  info.title = text;
  info.setAttribute('aria-label', `About ${label}`);
  caption.append(info);
  describeInput(field, label);
}

/**
 * The button would become part of the name that an input gets from its label, so that is named by itself.
 * @param {HTMLElement} field
 * @param {string} label
 */
function describeInput(field, label) {
  const input = field.querySelector('label input, label textarea');
  if (!input || field.tagName === 'FIELDSET' || input.hasAttribute('aria-label')) return;
  input.setAttribute('aria-label', label);
  const help = field.querySelector('.info-text');
  if (!help) return;
  help.id = `${field.id}-help`;
  input.setAttribute('aria-describedby', help.id);
}

/**
 * @param {HTMLElement} panel
 * @param {HTMLElement} info
 * @param {string} text
 */
function showDetails(panel, info, text) {
  const wasOpen = panel.matches(':popover-open') && englishText(panel) === text;
  panel.textContent = text;
  if (wasOpen) {
    panel.hidePopover();
    return;
  }
  panel.showPopover();
  const { left, top, bottom } = info.getBoundingClientRect();
  const { offsetWidth, offsetHeight } = panel;
  const isBelow = bottom + MARGIN + offsetHeight <= window.innerHeight;
  panel.style.top = `${isBelow ? bottom + MARGIN : top - MARGIN - offsetHeight}px`;
  panel.style.left = `${Math.max(MARGIN, Math.min(left, window.innerWidth - offsetWidth - MARGIN))}px`;
}
