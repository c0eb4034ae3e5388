// Errors at the fields of the form: those found before a start, and those that only the training process found.

import { node, sleep } from './dom.js';

/**
 * @typedef {object} FieldError
 * @property {string} key of the setting, as "model.name"
 * @property {string} group of the form that holds its field; '' where it has none
 * @property {string} reason
 */

const OPENING = 2000; // milliseconds that a group of the form may take to open

export function clearFieldErrors() {
  document.querySelectorAll('.geko-field-error').forEach((error) => error.remove());
}

/** For an event of the form: shows what its handler found. */
export function fieldErrors() {
  return (/** @type {FieldError[] | null} */ errors) => {
    showFieldErrors(errors ?? []);
    return [];
  };
}

/**
 * Shows errors at their fields, and scrolls to the first one; to the message at the button if none has a field. Those
 * shown before are removed.
 * @param {FieldError[]} errors
 */
export async function showFieldErrors(errors) {
  clearFieldErrors();
  const fields = [];
  for (const error of errors.filter(({ group }) => group)) {
    const field = await openField(`field-${error.key.replaceAll('.', '-')}`, error.group);
    if (field) fields.push(showAt(field, error.reason));
  }
  // At once: what is still opening would end a smooth one.
  if (fields.length) fields[0].scrollIntoView({ block: 'center' });
  else if (errors.length) document.getElementById('geko-message')?.scrollIntoView({ block: 'nearest' });
}

/**
 * @param {HTMLElement} field
 * @param {string} reason
 */
function showAt(field, reason) {
  const message = node('p', 'geko-field-error', reason);
  message.setAttribute('role', 'alert');
  field.append(message);
  field.addEventListener('input', () => message.remove(), { once: true });
  return field;
}

/**
 * The field `id`. A folded group holds none, or hides it, so it is opened first.
 * @param {string} id
 * @param {string} group
 */
async function openField(id, group) {
  const isShown = () => Boolean(document.getElementById(id)?.offsetParent);
  const heads = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('#geko-form button.label-wrap'));
  if (!isShown()) [...heads].find((head) => head.firstElementChild?.textContent === group)?.click();
  for (let waited = 0; waited < OPENING && !isShown(); waited += 50) await sleep(50);
  return document.getElementById(id);
}
