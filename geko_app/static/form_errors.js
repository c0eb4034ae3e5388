// Errors at the fields of the form: those found before a start, and those that only the training process found.

import { emit, node, sleep } from './dom.js';
import { englishText } from './language.js';

/**
 * @typedef {object} FieldError
 * @property {string} key of the setting, as "model.name"
 * @property {string} group of the form that holds its field; '' where it has none
 * @property {string} reason
 */

const OPENING = 2000; // milliseconds that a group of the form may take to open
const INPUTS = 'input:not([type=range], [type=hidden]), textarea, select';

/** @type {FieldError[]} those that stand at a field now, in the order of the form */
let shown = [];

export function clearFieldErrors() {
  document.querySelectorAll('.geko-field-error').forEach((error) => error.remove());
  keep([]);
}

/** For an event of the form: shows what its handler found. */
export function fieldErrors() {
  return (/** @type {FieldError[] | null} */ errors) => {
    showFieldErrors(errors ?? []);
    return [];
  };
}

/**
 * Shows errors at their fields, and goes to the first one; to the message at the button if none has a field. Those
 * shown before are removed.
 * @param {FieldError[]} errors
 */
export async function showFieldErrors(errors) {
  clearFieldErrors();
  const placed = [];
  for (const error of errors.filter(({ group }) => group)) {
    const field = await openField(error);
    if (!field) continue;
    showAt(field, error);
    placed.push(error);
  }
  keep(placed);
  if (placed.length) await goToFirstError();
  else if (errors.length) document.getElementById('geko-message')?.scrollIntoView({ block: 'nearest' });
}

/** Unfolds the group of the first error, scrolls to its field and focuses it. */
export async function goToFirstError() {
  const field = shown.length ? await openField(shown[0]) : null;
  if (!field) return;
  // At once: what is still opening would end a smooth one.
  field.scrollIntoView({ block: 'center' });
  const input = field.querySelector(INPUTS);
  if (input instanceof HTMLElement) input.focus({ preventScroll: true });
}

/**
 * @param {HTMLElement} field
 * @param {FieldError} error
 */
function showAt(field, error) {
  const message = node('p', 'geko-field-error', error.reason);
  message.setAttribute('role', 'alert');
  field.append(message);
  const remove = () => {
    message.remove();
    keep(shown.filter((other) => other !== error));
  };
  field.addEventListener('input', remove, { once: true });
}

/** @param {FieldError[]} errors */
function keep(errors) {
  const isMended = shown.length > 0 && errors.length === 0;
  shown = errors;
  // What the foot says of them is over when the last one is mended.
  document.getElementById('geko-message')?.classList.toggle('is-over', isMended);
  emit('geko-errors', errors.length);
}

/**
 * The field of an error. A folded group holds none, or hides it, so it is opened first.
 * @param {FieldError} error
 */
async function openField({ key, group }) {
  const id = `field-${key.replaceAll('.', '-')}`;
  const isShown = () => Boolean(document.getElementById(id)?.offsetParent);
  const heads = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('#geko-form button.label-wrap'));
  if (!isShown()) {
    [...heads].find((head) => head.firstElementChild && englishText(head.firstElementChild) === group)?.click();
  }
  for (let waited = 0; waited < OPENING && !isShown(); waited += 50) await sleep(50);
  return document.getElementById(id);
}
