// An error that only the training process found, shown at the field of the form that it is about.

import { node, sleep } from './dom.js';

const OPENING = 2000; // milliseconds that a group of the form may take to open

export function clearFieldErrors() {
  document.querySelectorAll('.geko-field-error').forEach((error) => error.remove());
}

/**
 * @param {string} key of the setting, as "model.name"
 * @param {string} group of the form that holds it
 * @param {string} reason
 */
export async function showFieldError(key, group, reason) {
  const field = await openField(`field-${key.replaceAll('.', '-')}`, group);
  if (!field) return;
  clearFieldErrors();
  const message = node('p', 'geko-field-error', reason);
  message.setAttribute('role', 'alert');
  field.append(message);
  field.scrollIntoView({ block: 'center' }); // at once: what is still opening would end a smooth one
  field.addEventListener('input', clearFieldErrors, { once: true });
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
