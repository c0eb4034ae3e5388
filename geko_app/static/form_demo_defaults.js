// Fields that have other defaults for the demo.

import { showNote } from './form_notes.js';

/**
 * @typedef {object} Rule
 * @property {string} key
 * @property {string[]} follows fields that say whether this is the demo
 * @property {string} is their value for the demo
 * @property {unknown} usual
 * @property {unknown} demo
 */

/**
 * A demo value gives way to the usual default when the model or the data is no longer the demo's, and comes back with
 * it. What somebody typed in is neither, and stays.
 * @param {Rule[]} rules
 * @param {string[]} keys of the fields, in the order of the values
 */
export function demoDefaults(rules, keys) {
  return (/** @type {unknown[]} */ ...values) => {
    const now = Object.fromEntries(keys.map((key, i) => [key, values[i]]));
    const changed = rules.map((rule) => {
      const isDemo = rule.follows.every((key) => String(now[key] ?? '').trim() === rule.is);
      const [from, to] = isDemo ? [rule.usual, rule.demo] : [rule.demo, rule.usual];
      if (String(now[rule.key] ?? '') !== String(from)) return now[rule.key];
      showNote(rule.key, ''); // it was about the value before
      return to;
    });
    return changed.length === 1 ? changed[0] : changed;
  };
}
