// Finds the translation of an English text: as a whole, with what its placeholders caught, or sentence by sentence.

const NUMBER = '[+\\-−±]?\\d(?:[\\d.,]*\\d)?(?:\\s?%)?';
const PLACEHOLDER = /\{([a-z_][a-z0-9_]*)\}/gi;
const SIZE = `${NUMBER}(?:\\s?[kMGT]?B?)?`;
const NUMBER_NAME = /^n(?:[\d_]|$)/; // {n}, {n2}, {n_rows} stand for one number
const SIZE_NAME = /^(?:count|size)\d*$/; // {count}, {size2} for one with a unit: 41.2 k, 14.9 MB; any other name for any text
const OURS = new Set(
  (
    'asked bucket change changes completion difference differences different error field figures finding gpu_words gpus judged kind language ' +
    'message more new next note numbers one otherwise p phase place problem question range reason reasons role rows sentence set share ' +
    'status step time title tried type values verdict ways what when whose'
  ).split(' '),
); // placeholders for words of ours, which are translated, too; what the others stand for may be a user's own
const LONGEST = 2000; // characters of a text that is translated
const SENTENCE_END = /(?<=[.!?;]["”’)]?)\s+(?=["“‘'(]?[A-Z0-9])/;
const LOWER_CASE_START = /(?<=[.!?])\s+(?=['"“]?[a-z])/;
const SEPARATOR = ' · ';
const LIST_SEPARATOR = /, and | and |, /;
const COMMA = ','; // the key of what stands between the members of a list
const REMEMBERED = 5000; // texts

/**
 * A key with placeholders.
 * @typedef {object} Pattern
 * @property {RegExp} expression
 * @property {string[]} names of its placeholders, in the order of the key
 * @property {string} translation
 * @property {number} literal letters beside the placeholders: the more, the earlier it is tried
 */

export class Catalogue {
  /** @param {Record<string, string>} entries translations by English text */
  constructor(entries) {
    /** @type {Map<string, string>} */
    this.exact = new Map();
    /** @type {Map<string, Pattern[]>} by the first word of the key; '' where it begins with a placeholder */
    this.patterns = new Map();
    /** @type {Map<string, string | null>} */
    this.remembered = new Map();
    for (const [key, translation] of Object.entries(entries)) this.add(key, translation);
    for (const patterns of this.patterns.values()) patterns.sort((a, b) => b.literal - a.literal);
  }

  /**
   * @param {string} key
   * @param {string} translation
   */
  add(key, translation) {
    const names = [...key.matchAll(PLACEHOLDER)].map((match) => match[1]);
    if (!names.length) {
      this.exact.set(key, translation);
      return;
    }
    const literals = key.split(PLACEHOLDER).filter((_, place) => place % 2 === 0);
    const groups = names.map((name) => `(${NUMBER_NAME.test(name) ? NUMBER : SIZE_NAME.test(name) ? SIZE : '.+?'})`);
    const source = literals.map((literal, place) => escaped(literal) + (groups[place] ?? '')).join('');
    const first = firstWord(literals[0], literals[0].includes(' '));
    const patterns = this.patterns.get(first) ?? [];
    patterns.push({
      expression: new RegExp(`^${source}$`, 'u'),
      names,
      translation,
      literal: literals.join('').length,
    });
    this.patterns.set(first, patterns);
  }

  /**
   * The translation of a text, blanks around it kept; the text itself where there is none.
   * @param {string} text
   */
  translate(text) {
    if (text.length > LONGEST || !/[A-Za-z]/.test(text)) return text;
    const [, before, content, after] = /** @type {string[]} */ (/^(\s*)([^]*?)(\s*)$/.exec(text));
    const found = this.find(content.replace(/\s+/g, ' '));
    return found === null ? text : before + found + after;
  }

  /**
   * @param {string} text
   * @returns {string | null}
   */
  find(text) {
    const known = this.remembered.get(text);
    if (known !== undefined) return known;
    const found =
      this.exact.get(text) ??
      this.inParts(text, { all: true }) ??
      this.byPattern(text) ??
      this.inParts(text, { all: false });
    if (this.remembered.size >= REMEMBERED) this.remembered.clear();
    this.remembered.set(text, found);
    return found;
  }

  /** @param {string} text */
  byPattern(text) {
    for (const first of [firstWord(text, true), '']) {
      for (const pattern of this.patterns.get(first) ?? []) {
        const match = pattern.expression.exec(text);
        if (match) return this.filled(pattern, match);
      }
    }
    return null;
  }

  /**
   * @param {Pattern} pattern
   * @param {RegExpExecArray} match
   */
  filled({ names, translation }, match) {
    return translation.replace(PLACEHOLDER, (_, name) => {
      const caught = match[names.indexOf(name) + 1] ?? '';
      return OURS.has(name.replace(/\d+$/, '')) ? (this.find(caught) ?? this.list(caught) ?? caught) : caught;
    });
  }

  /**
   * A list of texts, such as "its loss is high and its confidence low"; null unless all are known.
   * @param {string} text
   */
  list(text) {
    const found = text.split(LIST_SEPARATOR).map((part) => this.find(part));
    return found.length < 2 || found.includes(null) ? null : found.join(this.exact.get(COMMA) ?? ', ');
  }

  /**
   * A text of several sentences, or of several parts with a dot between them.
   * @param {string} text
   * @param {{all: boolean}} need whether every part has to be known, or one of them
   */
  inParts(text, need) {
    const sentences = text.split(SENTENCE_END);
    if (sentences.length > 1) return this.joined(sentences, ' ', need);
    const parts = text.split(SEPARATOR);
    return parts.length > 1 ? this.joined(parts, SEPARATOR, need) : this.headAndTail(text, need);
  }

  /**
   * A sentence before one that begins with a name in lower case, such as that of a value.
   * @param {string} text
   * @param {{all: boolean}} need
   */
  headAndTail(text, need) {
    const start = LOWER_CASE_START.exec(text);
    if (!start) return null;
    return this.joined([text.slice(0, start.index), text.slice(start.index).trimStart()], ' ', need);
  }

  /**
   * @param {string[]} parts
   * @param {string} separator in English; none follows a full-width mark
   * @param {{all: boolean}} need
   */
  joined(parts, separator, { all }) {
    const found = parts.map((part) => this.find(part));
    if (all ? found.includes(null) : found.every((part) => part === null)) return null;
    return found
      .map((part, place) => part ?? parts[place])
      .reduce((sum, part) => sum + (separator === ' ' && /[。！？：；）”]$/.test(sum) ? '' : separator) + part);
  }
}

/**
 * The first word of a text, "" where it may go on: a key's first word is whole only if a blank follows.
 * @param {string} text
 * @param {boolean} isWhole
 */
function firstWord(text, isWhole) {
  return isWhole ? text.split(' ', 1)[0] : '';
}

/** @param {string} literal */
function escaped(literal) {
  return literal.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&');
}
