// Rows of the run's data to try, as buttons by group.

import { node } from './dom.js';

/**
 * @typedef {object} Example
 * @property {string} ref
 * @property {string} prompt
 * @property {string} answer
 * @property {string} note
 * @property {number} earlier turns of its conversation before it
 *
 * @typedef {object} ExamplesJob
 * @property {boolean} running
 * @property {string} error
 * @property {string[]} notes
 * @property {{title: string, rows: Example[]}[]} groups
 * @property {boolean | null} chat whether the run was trained through a chat template
 * @property {boolean | null} template whether its tokenizer has one
 */

/**
 * @param {HTMLElement} list
 * @param {ExamplesJob['groups']} groups
 * @param {(example: Example) => void} onTake
 */
export function drawExamples(list, groups, onTake) {
  const parts = groups.map(({ title, rows }) => {
    const part = node('div', 't-group');
    const chips = node('div', 't-rows');
    chips.append(...rows.map((row) => chip(row, onTake)));
    part.append(node('h4', '', title), chips);
    return part;
  });
  list.replaceChildren(...parts);
}

/**
 * @param {Example} example
 * @param {(example: Example) => void} onTake
 */
function chip(example, onTake) {
  const made = node('button', 't-chip');
  made.type = 'button';
  made.append(node('span', 't-chip-prompt', example.prompt));
  if (example.note) made.append(node('span', 't-chip-note', example.note));
  made.title = example.note ? `${example.prompt}\n${example.note}` : example.prompt;
  made.onclick = () => onTake(example);
  return made;
}

/** @param {Example} example */
export function earlierSentence({ earlier }) {
  if (!earlier) return '';
  return `Sent with ${earlier === 1 ? 'the previous turn' : `the ${earlier} previous turns`} of its conversation.`;
}
