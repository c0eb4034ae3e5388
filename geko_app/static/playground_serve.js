// The commands that serve the chosen run's model with other programs, or what has to be exported first.

import { button, codeWithCopy, node, openPage, sessionSetting } from './dom.js';

/** @typedef {{program: string, commands: string, hint: string, export: string}} Program */

/**
 * @param {HTMLElement} target
 * @param {Program[]} programs
 * @param {string} run
 */
export function drawPrograms(target, programs, run) {
  target.replaceChildren(
    ...programs.map((program) => {
      const part = node('div', 't-program');
      part.append(node('h4', '', program.program));
      if (program.commands) {
        const code = node('div', 'geko-code');
        code.append(...codeWithCopy(program.commands));
        part.append(code);
      } else {
        part.append(node('p', 'geko-hint', program.hint));
      }
      if (program.export) part.append(button('Go to Export', 't-to-export', () => openExport(run)));
      return part;
    }),
  );
}

/** @param {string} run */
function openExport(run) {
  sessionSetting('geko-shown', run);
  openPage('Train');
}
