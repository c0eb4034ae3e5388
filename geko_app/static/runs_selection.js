// Which runs other pages show: kept by the tab, so that any page can ask for a comparison, or for a model to try.

import { emit, openPage, sessionList, sessionSetting } from './dom.js';

const CHOSEN = 'geko-chosen';
const COMPARING = 'geko-comparing';
export const TRIED_RUN = 'geko-playground-run';

export const chosenRuns = () => sessionList(CHOSEN);

/** @param {string[]} ids */
export function keepChosen(ids) {
  sessionSetting(CHOSEN, JSON.stringify(ids));
}

export const isComparing = () => sessionSetting(COMPARING) === 'yes';

/**
 * Shows the comparison of the chosen runs in the place of the list, or the list again.
 * @param {boolean} wanted
 */
export function showComparison(wanted) {
  sessionSetting(COMPARING, wanted ? 'yes' : '');
  emit('geko-compare', wanted);
}

/**
 * Compares these runs, from whatever page.
 * @param {string[]} ids
 */
export function compareRuns(ids) {
  keepChosen(ids);
  emit('geko-choose', ids);
  showComparison(true);
  openPage('Runs');
}

/**
 * Opens the Playground with the model of this run.
 * @param {string} id
 */
export function tryRun(id) {
  sessionSetting(TRIED_RUN, id);
  openPage('Playground');
}
