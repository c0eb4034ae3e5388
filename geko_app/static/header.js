// The head of the page: switches between light and dark, and between languages.

import { emit, fillSelect, localSetting, theme, View } from './dom.js';
import { language, LANGUAGE_KEY, LANGUAGES } from './language.js';

/** @param {import('./dom.js').Part} part */
export function mount(part) {
  const view = new View(part);
  view.button('#geko-theme').onclick = () => {
    document.body.classList.toggle('dark');
    localSetting('geko-theme', theme());
    emit('geko-theme');
  };
  document.documentElement.lang = language; // Gradio writes that of the browser
  const picker = view.select('#geko-language');
  fillSelect(picker, Object.entries(LANGUAGES), language);
  picker.onchange = () => {
    localSetting(LANGUAGE_KEY, picker.value);
    window.location.reload(); // a text that was translated is not kept in English
  };
}
