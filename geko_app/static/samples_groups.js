// The groups of a run's samples as a table: by file, by answer, by a column of the data. Knows no other part of the page.

import { node, setText } from './dom.js';
import { translate } from './language.js';

const OURS = ['file', 'answer']; // groupings whose title is not the name of a column

/**
 * @typedef {object} Grouping
 * @property {string} name
 * @property {string} title
 * @property {string[]} columns
 * @property {string[][]} lines the value of the group and one text for each column
 *
 * @typedef {(name: string, title: string, value: string) => void} Choose
 */

export class SampleGroups {
  /**
   * @param {HTMLElement} element holds `select`, `table` and `.m-group-note`
   * @param {Choose} choose called when a group is opened
   */
  constructor(element, choose) {
    this.element = element;
    this.choose = choose;
    /** @type {Grouping[]} */
    this.groupings = [];
    this.picker = /** @type {HTMLSelectElement} */ (element.querySelector('select'));
    this.picker.onchange = () => this.draw();
  }

  /**
   * @param {Grouping[]} groupings
   * @param {string} note why there are none, or what they are
   */
  show(groupings, note) {
    this.groupings = groupings;
    const { value } = this.picker;
    this.picker.replaceChildren(...groupings.map(optionOf));
    if (groupings.some(({ name }) => name === value)) this.picker.value = value;
    const head = /** @type {HTMLElement} */ (this.element.querySelector('.m-group-by'));
    head.hidden = !groupings.length;
    setText(this.element.querySelector('.m-group-note'), note);
    this.draw();
  }

  draw() {
    const table = /** @type {HTMLTableElement} */ (this.element.querySelector('table'));
    const grouping = this.groupings.find(({ name }) => name === this.picker.value);
    table.hidden = !grouping;
    if (!grouping) return;
    const head = node('tr');
    const first = headCell(titleOf(grouping), false);
    first.translate = false;
    head.append(first, ...grouping.columns.map((title) => headCell(title, true)));
    const body = node('tbody');
    body.append(...grouping.lines.map((line) => this.row(grouping, line)));
    const top = node('thead');
    top.append(head);
    table.replaceChildren(top, body);
  }

  /**
   * @param {Grouping} grouping
   * @param {string[]} line
   */
  row(grouping, [value, ...figures]) {
    const made = node('tr');
    const cell = node('th');
    cell.scope = 'row';
    const open = node('button', 'm-group', value);
    open.type = 'button';
    cell.title = 'Show these samples';
    open.onclick = () => this.choose(grouping.name, titleOf(grouping), value);
    cell.append(open);
    made.append(cell, ...figures.map((figure) => node('td', 'm-figure', figure)));
    return made;
  }
}

/**
 * What the groups are: words of the page, or the name of a column, which is the user's.
 * @param {Grouping} grouping
 */
function titleOf({ name, title }) {
  return OURS.includes(name) ? translate(title) : title;
}

/** @param {Grouping} grouping */
function optionOf(grouping) {
  const option = new Option(titleOf(grouping), grouping.name);
  option.translate = false;
  return option;
}

/**
 * @param {string} title
 * @param {boolean} isFigure
 */
function headCell(title, isFigure) {
  const made = node('th', isFigure ? 'm-figure' : '', title);
  made.scope = 'col';
  return made;
}
