// Short lines under fields of the form: what a preset has cost where it was measured, and what was set beside a press.

import { node, setText } from './dom.js';

/** @param {import('./dom.js').Part} part */
export function mount({ props }) {
  const { keys, preset } = /** @type {{keys: string[], preset: string}} */ (/** @type {unknown} */ (props));
  const lines = /** @type {Record<string, string>} */ (props.lines);
  const show = (/** @type {string} */ name) => showNote(preset, lines[name] ?? '');
  window.addEventListener('geko-form', ({ detail }) => show(String(detail[keys.indexOf(preset)])));
  show(String(props.chosen));
}

/**
 * Shows a line under the field of a setting, or removes it when it is empty.
 * @param {string} key
 * @param {string} text
 */
export function showNote(key, text) {
  const field = document.getElementById(`field-${key.replaceAll('.', '-')}`);
  if (!field) return;
  let note = field.querySelector('.geko-field-note');
  if (!text) {
    note?.remove();
    return;
  }
  if (!note) {
    note = node('p', 'geko-field-note');
    note.setAttribute('role', 'status');
    field.append(note);
  }
  setText(note, text);
}
