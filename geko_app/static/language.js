// The language of the page. The code, run folders and logs are English; this translates what the page shows, before it is painted.
// English text is the key of a catalogue. What a user wrote stands inside translate="no" and is never touched.

import { Catalogue } from './language_catalogue.js';

/** @type {Record<string, string>} the languages that there are, in their own names; a folder of geko_app/languages for each but English */
export const LANGUAGES = { en: 'English', 'zh-CN': '简体中文' };
export const LANGUAGE_KEY = 'geko-language';

const ATTRIBUTES = ['aria-label', 'title', 'placeholder', 'alt', 'label'];
const WRITTEN = [
  '[translate="no"], script, style, code, pre, kbd, del, ins',
  '.d-scroll th .name, .d-scroll td, .l-text, .geko-log ol, .geko-answers .prompt, .geko-answers dd, ul.options', // Train; values of settings
  '.m-open, td.answer span, .m-group, .m-in-group span, .m-piece .learned, .m-piece .context, .v-prompt, .v-given, .v-suggested, .v-similar', // Samples
  '.c-side > span:not(.c-name)',
  '.r-open, .r-model, .r-tag, .o-name, .n-tag, .p-figures thead, .p-differences, .p-chart .legendtext', // Runs
  '.t-asked-text, .t-wanted, .t-text:not(.t-failed), .t-tokens, .t-tokens-list, .t-chip-prompt', // Playground
];
/** Whose title or placeholder is such a text as a whole. */
export const WRITTEN_TITLES = '.d-scroll td, .d-scroll .name, .r-open, .r-model, .t-chip, .n-input';
/** The name of a run, which is its user's, and its state. */
const RUNS = '.geko-runs option, .t-run option';
/** What users and models wrote, and code: its text stays as it is. */
export const UNTOUCHED = WRITTEN.join(', ');

/** @type {WeakMap<Node, {source: string, shown: string}>} English and translation of each text that was translated */
const translated = new WeakMap();
/** @type {WeakMap<Element, Record<string, string>>} what was put in the place of each attribute */
const translatedAttributes = new WeakMap();

const chosen = chosenLanguage();
const catalogue = chosen === 'en' ? null : await loadCatalogue(chosen);
export const language = catalogue ? chosen : 'en';
if (catalogue) translatePage();

/** What this browser was set to, or else the first of its languages that the page has. */
function chosenLanguage() {
  const wanted = [stored(), ...navigator.languages];
  for (const tag of wanted) {
    const found = Object.keys(LANGUAGES).find((name) => tag && spoken(name) === spoken(tag));
    if (found) return found;
  }
  return 'en';
}

/**
 * Language and script: Traditional Chinese is not Simplified Chinese.
 * @param {string} tag such as zh-CN
 */
function spoken(tag) {
  const { language: name, script } = new Intl.Locale(tag).maximize();
  return `${name}-${script}`;
}

function stored() {
  try {
    return window.localStorage.getItem(LANGUAGE_KEY) ?? '';
  } catch {
    return ''; // a private window keeps nothing
  }
}

/** @param {string} name */
async function loadCatalogue(name) {
  try {
    const response = await fetch(new URL(`languages/${name}.json`, import.meta.url));
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    return new Catalogue(await response.json());
  } catch (error) {
    console.warn(`The texts in ${LANGUAGES[name]} could not be loaded; the page stays English.`, error);
    return null;
  }
}

function translatePage() {
  visit(document.documentElement);
  new MutationObserver((changes) => {
    for (const { type, target, addedNodes, attributeName } of changes) {
      if (type === 'childList') addedNodes.forEach(translateTree);
      else if (type === 'characterData') translateTree(target);
      else if (target instanceof Element && attributeName && !target.parentElement?.closest(UNTOUCHED)) {
        translateAttribute(target, attributeName);
      }
    }
  }).observe(document.documentElement, {
    subtree: true,
    childList: true,
    characterData: true,
    attributeFilter: ATTRIBUTES,
  });
}

/**
 * @param {Node} root with all that is in it
 */
function translateTree(root) {
  if (!root.parentElement?.closest(UNTOUCHED)) visit(root);
}

/** @param {Node} found */
function visit(found) {
  if (found instanceof Text) translateText(found);
  if (!(found instanceof Element)) return;
  for (const name of ATTRIBUTES) translateAttribute(found, name);
  if (!found.matches(UNTOUCHED)) found.childNodes.forEach(visit);
}

/** @param {Text} text */
function translateText(text) {
  const source = text.data;
  if (translated.get(text)?.shown === source) return; // our own change
  if (text.parentElement instanceof HTMLTextAreaElement) return; // what somebody wrote
  const shown = text.parentElement?.matches(RUNS) ? withState(source) : translate(source);
  if (shown === source) {
    translated.delete(text);
    return;
  }
  translated.set(text, { source, shown });
  text.data = shown;
}

/**
 * The name of a run as it is, and its state translated.
 * @param {string} text
 */
function withState(text) {
  const [, name, state] = /^(.* · )?(.*)$/s.exec(text) ?? ['', '', text];
  return (name ?? '') + translate(state);
}

/**
 * @param {Element} element
 * @param {string} name
 */
function translateAttribute(element, name) {
  const source = element.getAttribute(name);
  const before = translatedAttributes.get(element) ?? {};
  if (
    !source ||
    before[name] === source ||
    (['title', 'placeholder'].includes(name) && element.matches(WRITTEN_TITLES))
  ) {
    return;
  }
  const shown = translate(source);
  if (shown === source) return;
  translatedAttributes.set(element, { ...before, [name]: shown });
  element.setAttribute(name, shown);
}

/**
 * A text in the language of the page, for what does not become part of the page.
 * @param {string} text English
 */
export function translate(text) {
  return catalogue ? catalogue.translate(text) : text;
}

/**
 * The text of an element as the code wrote it.
 * @param {Element} element
 */
export function englishText(element) {
  if (!catalogue) return element.textContent ?? '';
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  let english = '';
  for (let found = walker.nextNode(); found; found = walker.nextNode()) {
    english += translated.get(found)?.source ?? found.textContent ?? '';
  }
  return english;
}
