// What was decided, in words: for the line below the review.

/**
 * @typedef {'keep' | 'delete' | 'replace'} Action
 *
 * @typedef {object} Decided what was decided at one time
 * @property {number[]} ids one of each row
 * @property {number} row the first one
 * @property {Action} action
 * @property {string} origin of new texts
 */

const NEW_ANSWER = {
  suggested: 'has the suggested answer now',
  similar: 'has the answer of the similar sample now',
};
const DONE = { keep: 'kept as it is', delete: 'deleted', replace: 'edited' };

/**
 * @param {number} row
 * @param {Action} action
 * @param {string} [origin] of new texts
 */
export function rowDone(row, action, origin = '') {
  const accepted = NEW_ANSWER[/** @type {keyof typeof NEW_ANSWER} */ (origin)];
  return `Row ${row.toLocaleString('en')} ${(action === 'replace' && accepted) || DONE[action]}`;
}

/**
 * @param {number} count
 * @param {Action} action
 * @param {string} [origin] of new texts
 */
export function rowsDone(count, action, origin = '') {
  const rows = rowsOf(count);
  if (action === 'keep') return count === 1 ? `${rows} kept as it is` : `${rows} kept as they are`;
  if (action === 'delete') return `${rows} deleted`;
  if (origin !== 'suggested') return `${rows} edited`;
  return count === 1 ? `${rows} has the suggested answer now` : `${rows} have the suggested answer now`;
}

/** @param {Decided} decided */
export function allDone({ ids, row, action, origin }) {
  return ids.length === 1 ? rowDone(row, action, origin) : rowsDone(ids.length, action, origin);
}

/** @param {number} count */
export function rowsOf(count) {
  return `${count.toLocaleString('en')} ${count === 1 ? 'row' : 'rows'}`;
}
