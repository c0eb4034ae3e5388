// A preset fills its fields in; what the fields hold says which preset is chosen.

const CUSTOM = 'custom';

/** @typedef {Record<string, Record<string, unknown>>} Presets values of the fields, by preset and key */

/**
 * The values of the preset that was chosen.
 * @param {Presets} presets
 * @param {string[]} keys of the fields, in the order of the values
 */
export function presetValues(presets, keys) {
  return (/** @type {string} */ name, /** @type {unknown[]} */ ...now) =>
    presets[name] ? keys.map((key) => presets[name][key]) : now;
}

/**
 * The preset that has these values.
 * @param {Presets} presets
 * @param {string[]} keys of the fields, in the order of the values
 */
export function presetName(presets, keys) {
  return (/** @type {string} */ _name, /** @type {unknown[]} */ ...now) =>
    Object.keys(presets).find((preset) => keys.every((key, i) => plain(presets[preset][key]) === plain(now[i]))) ??
    CUSTOM;
}

/**
 * A value as it is compared: 0.80 is 0.8, and "1,1,1" is "1, 1, 1".
 * @param {unknown} value
 */
function plain(value) {
  const text = String(value ?? '').replace(/\s/g, '');
  return text !== '' && !Number.isNaN(Number(text)) ? String(Number(text)) : text;
}
