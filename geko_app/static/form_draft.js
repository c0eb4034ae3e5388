// What was typed into the form survives a reload: it is kept in this browser, and nowhere else.

import { emit, localSetting } from './dom.js';

const KEY = 'geko-draft-2'; // its keys are the settings' names: another number where those change

/**
 * Keeps the values of the fields `drafted`, and sends the other parts what the form holds.
 * @param {string[]} keys of all fields, in the order of the values
 * @param {string[]} drafted
 */
export function keepDraft(keys, drafted) {
  return (/** @type {unknown[]} */ ...now) => {
    const values = Object.fromEntries(keys.map((key, i) => [key, now[i]]));
    emit('geko-form', now);
    if (document.body.dataset.form !== 'ready') {
      return []; // a field that the page fills in while it opens must not overwrite what was kept
    }
    localSetting(KEY, JSON.stringify(Object.fromEntries(drafted.map((key) => [key, values[key]]))));
    return [];
  };
}

/**
 * The values that were kept; fields without one stay as they are.
 * @param {string[]} drafted
 */
export function restoreDraft(drafted) {
  return (/** @type {unknown[]} */ ...now) => {
    try {
      const draft = JSON.parse(localSetting(KEY) || '{}');
      return drafted.map((key, i) => (key in draft ? draft[key] : now[i]));
    } catch {
      return now; // a draft of another version
    }
  };
}
