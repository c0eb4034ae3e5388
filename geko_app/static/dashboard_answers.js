// The answers that the model gave before the training and after each epoch, side by side.

import { node, setText } from './dom.js';
import { translate } from './language.js';

/**
 * @typedef {object} Answers
 * @property {{name: string, note: string}[]} rounds
 * @property {{prompt: string, reference: string, answers: {text: string, right: boolean | null}[]}[]} prompts
 */

export class AnswersCard {
  /** @param {HTMLElement} card */
  constructor(card) {
    this.card = card;
    this.picker = /** @type {HTMLSelectElement} */ (card.querySelector('.t-round'));
    this.list = /** @type {HTMLElement} */ (card.querySelector('ol'));
    /** @type {Answers} */
    this.answers = { rounds: [], prompts: [] };
    this.picker.onchange = () => this.draw();
  }

  /** @param {Answers} answers */
  show(answers) {
    const last = this.answers.rounds.length - 1;
    const follows = this.picker.selectedIndex < 0 || Number(this.picker.value) >= last;
    const chosen = this.answers.rounds[Number(this.picker.value)]?.name;
    this.answers = answers;
    this.card.hidden = !answers.prompts.length;
    const { rounds } = answers;
    const offered = rounds.map((round, i) => new Option(round.name, String(i))).slice(rounds.length > 1 ? 1 : 0);
    this.picker.replaceChildren(...offered);
    const kept = rounds.findIndex((round) => round.name === chosen);
    this.picker.value = String(follows || kept < 0 ? rounds.length - 1 : kept);
    this.picker.hidden = rounds.length < 2;
    this.draw();
  }

  draw() {
    const { rounds, prompts } = this.answers;
    const at = Number(this.picker.value);
    setText(
      this.card.querySelector('.s-answers'),
      [...new Set([0, at])].map((i) => (rounds[i] ? `${rounds[i].name}: ${rounds[i].note}.` : '')).join(' '),
    );
    this.list.replaceChildren(
      ...prompts.map(({ prompt, reference, answers }) => {
        const row = node('li');
        row.append(node('p', 'prompt', prompt));
        const cells = node('dl');
        if (reference) cells.append(...cell('Reference', reference, null));
        for (const i of new Set([0, at])) {
          if (answers[i]) cells.append(...cell(rounds[i].name, answers[i].text, answers[i].right));
        }
        row.append(cells);
        return row;
      }),
    );
  }
}

/**
 * @param {string} name
 * @param {string} text
 * @param {boolean | null} right
 */
function cell(name, text, right) {
  const value = node('dd', right ? 'right' : '', text || translate('(empty)'));
  return [node('dt', '', name), value];
}
