// The button in the head that switches between light and dark.

import { emit, localSetting, theme, View } from './dom.js';

/** @param {import('./dom.js').Part} part */
export function mount(part) {
  new View(part).button('#geko-theme').onclick = () => {
    document.body.classList.toggle('dark');
    localSetting('geko-theme', theme());
    emit('geko-theme');
  };
}
