// The buttons that train again with samples of a run, each with a line that says what it does.

import { button, node, openPage, SERVER_UNREACHABLE, sessionSetting } from './dom.js';

/** @typedef {{name: string, label: string, why: string}} Variant */

/**
 * @param {Variant} variant
 * @param {(name: string) => Promise<{error: string} | null>} start starts the run, or queues it
 * @param {(sentence: string) => void} showError called with "" where it has started
 */
export function variantRow({ name, label, why }, start, showError) {
  const row = node('div', 'm-variant');
  row.append(
    button(label, '', ({ currentTarget }) =>
      train(/** @type {HTMLButtonElement} */ (currentTarget), () => start(name), showError),
    ),
    node('p', 'geko-hint', why),
  );
  return row;
}

/**
 * Starts a run and shows it.
 * @param {HTMLButtonElement} pressed
 * @param {() => Promise<{error: string} | null>} start
 * @param {(sentence: string) => void} showError
 */
async function train(pressed, start, showError) {
  pressed.disabled = true;
  let error = SERVER_UNREACHABLE;
  try {
    ({ error } = (await start()) ?? { error });
  } catch {
    // The sentence is there already.
  }
  pressed.disabled = false;
  showError(error);
  if (error) return;
  sessionSetting('geko-shown', '');
  openPage('Train');
}
