// Name and tags of a run, edited in place: in the list, and in the panel of one run.

import { button, node, setText } from './dom.js';

/**
 * @typedef {{name: number, tag: number, tags: number}} Limits in characters, and in tags
 * @typedef {{name: string, own_name: string, tags: string[], limits: Limits}} Label own_name: "" where the user gave none
 * @typedef {(name: string, tags: string[]) => Promise<string>} Save answers with an error, or ""
 */

/**
 * A form for the name of a run. Enter and leaving the field save it, Escape does not.
 * @param {{value: string, placeholder: string, limit: number, save: (name: string) => Promise<string>, done: () => void}} options
 *   done: called when the form is to go
 */
export function nameForm({ value, placeholder, limit, save, done }) {
  const form = node('form', 'n-form');
  const input = node('input', 'n-input');
  input.type = 'text';
  input.value = value;
  input.maxLength = limit;
  input.placeholder = placeholder;
  input.autocomplete = 'off';
  input.setAttribute('aria-label', 'Name of the run');
  const error = node('span', 'n-error');
  error.setAttribute('role', 'alert');
  form.append(input, error);
  let isOver = false;
  const finish = async (/** @type {boolean} */ isWanted) => {
    if (isOver) return;
    isOver = true;
    const problem = isWanted && input.value.trim() !== value ? await save(input.value) : '';
    setText(error, problem);
    if (problem) isOver = false;
    else done();
  };
  form.onsubmit = (event) => {
    event.preventDefault();
    finish(true);
  };
  form.onclick = (event) => event.stopPropagation(); // a click on the line would open the run
  input.onblur = () => finish(true);
  input.onkeydown = (event) => {
    event.stopPropagation();
    if (event.key === 'Escape') finish(false);
  };
  return { form, focus: () => input.select() };
}

/** The head of the panel: the name with its button, and the tags with a field for one more. */
export class LabelEditor {
  /**
   * @param {HTMLElement} nameHost
   * @param {HTMLElement} tagHost
   * @param {Save} save
   */
  constructor(nameHost, tagHost, save) {
    this.nameHost = nameHost;
    this.tagHost = tagHost;
    this.save = save;
    this.isNaming = false;
    this.drawn = '';
    /** @type {Label | null} */
    this.label = null;
  }

  /** Whoever opens another run does not go on with the name of this one. */
  reset() {
    this.isNaming = false;
    this.drawn = '';
  }

  /** @param {Label} label */
  draw(label) {
    const key = JSON.stringify(label);
    if (key === this.drawn) return;
    this.drawn = key;
    this.label = label;
    if (!this.isNaming) this.drawName(label);
    this.drawTags(label);
  }

  /** @param {Label} label */
  drawName({ name, own_name: own, tags, limits }) {
    const rename = button('Rename', 'n-rename', () => {
      this.isNaming = true;
      const { form, focus } = nameForm({
        value: own,
        placeholder: name,
        limit: limits.name,
        save: (value) => this.save(value, this.label?.tags ?? tags),
        done: () => {
          this.isNaming = false;
          if (this.label) this.drawName(this.label);
        },
      });
      this.nameHost.replaceChildren(form);
      focus();
    });
    const hadFocus = this.nameHost.contains(document.activeElement);
    this.nameHost.replaceChildren(node('h3', 'o-name', name), rename);
    if (hadFocus) rename.focus();
  }

  /** @param {Label} label */
  drawTags({ own_name: own, tags, limits }) {
    const typed = /** @type {HTMLInputElement | null} */ (this.tagHost.querySelector('input'));
    const hadFocus = typed !== null && document.activeElement === typed;
    const input = node('input', 'n-add');
    input.type = 'text';
    input.maxLength = limits.tag;
    input.placeholder = 'Add tag';
    input.autocomplete = 'off';
    input.setAttribute('aria-label', 'Add a tag');
    input.value = typed?.value ?? '';
    input.hidden = tags.length >= limits.tags;
    input.onkeydown = async (event) => {
      if (event.key !== 'Enter' && event.key !== ',') return;
      event.preventDefault();
      const tag = input.value.trim();
      if (!tag) return;
      input.value = '';
      if (await this.save(own, [...tags, tag])) input.value = tag;
    };
    const items = tags.map((tag) => {
      const item = node('li', 'n-tag', tag);
      const remove = button('×', 'n-remove', async () => {
        await this.save(
          own,
          tags.filter((other) => other !== tag),
        );
        /** @type {HTMLElement | null} */ (this.tagHost.querySelector('input'))?.focus();
      });
      remove.setAttribute('aria-label', `Remove the tag ${tag}`);
      item.append(remove);
      return item;
    });
    const last = node('li');
    last.append(input);
    this.tagHost.replaceChildren(...items, last);
    if (hadFocus) input.focus();
  }
}
