// LoRA has a default learning rate of its own: it is set with the switch, unless somebody has typed another one.

import { showNote } from './form_notes.js';

const RATE = 'training.learning_rate';

/**
 * The learning rate after LoRA was switched on or off; a line under the field says what was done.
 * @param {{usual: string, demo: string, lora: string}} rates the defaults
 */
export function loraRate(rates) {
  return (/** @type {boolean} */ isOn, /** @type {unknown} */ now, /** @type {unknown} */ model) => {
    const whole = String(model ?? '').trim() === 'demo' ? rates.demo : rates.usual;
    const [from, to] = isOn ? [whole, rates.lora] : [rates.lora, whole];
    const isDefault = isSame(now, from);
    if (isDefault) showNote(RATE, isOn ? `${to}, the default for LoRA` : `${to}, the default without LoRA`);
    else if (isSame(now, to)) showNote(RATE, '');
    else showNote(RATE, `Yours is kept; the default ${isOn ? 'for' : 'without'} LoRA is ${to}`);
    document
      .getElementById('field-training-learning_rate')
      ?.addEventListener('input', () => showNote(RATE, ''), { once: true });
    return isDefault ? to : now;
  };
}

/**
 * @param {unknown} value
 * @param {string} rate
 */
function isSame(value, rate) {
  return String(value ?? '').trim() !== '' && Number(value) === Number(rate);
}
