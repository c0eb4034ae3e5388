// The foot of the form says how many fields need attention; a press goes to the first of them.

import { View } from './dom.js';
import { goToFirstError } from './form_errors.js';

/** @param {import('./dom.js').Part} part */
export function mount(part) {
  const attention = new View(part).button('.geko-attention');
  attention.onclick = () => goToFirstError();
  window.addEventListener('geko-errors', ({ detail: count }) => {
    attention.hidden = !count;
    attention.textContent = count === 1 ? '1 field needs attention' : `${count} fields need attention`;
  });
}
