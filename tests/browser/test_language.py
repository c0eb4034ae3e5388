"""The page in Chinese: every text that a state of the page shows is in the catalogue, and a visitor gets it without asking."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from geko_app.languages import catalogue, languages
from tests.browser.test_access import SHOWN, server, show_train  # noqa: F401  (the fixture of a page with a complete run)

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# Names, units and values that are written alike in all languages.
ALIKE = re.compile(
    r"GEKO|GPU|CPU|LoRA|DoRA|rsLoRA|GGUF|Modelfile|Ollama|CSV|PNG|JSONL?|Python|Logits|Alpha|Top-p|cpu|compile|Dropout|Q-value|YAML|vLLM|transformers|tokens?|Esc|Ctrl|Enter|torch|"
    r"FREEZE|LIGHT|FOCUS|HARD|GB|MB|kB|main|auto|demo|[a-z]+(?:_[a-z0-9]+)+|[a-z]+\.[a-z_.]+|geko-train|fp32|bf16"
)
WORD = re.compile(r"[A-Za-z]{3,}|\byes\b|\bno\b")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
ENGLISH = re.compile(r"[a-z]{2,} [a-z]{2,} [a-z]{2,} [a-z]{2,}")  # a part of a sentence


LEFT_ENGLISH = """async (entries) => {
  const script = [...document.scripts].find((found) => found.src.endsWith('/language.js')).src;
  const { UNTOUCHED, WRITTEN_TITLES } = await import(script);
  const { Catalogue } = await import(script.replace('language.js', 'language_catalogue.js'));
  const catalogue = new Catalogue(entries);
  const texts = new Set();
  const visit = (node) => {
    if (node instanceof Text && !(node.parentElement instanceof HTMLTextAreaElement)) texts.add(node.data);
    if (!(node instanceof Element) || node.matches('noscript, footer')) return;
    for (const name of ['aria-label', 'title', 'placeholder', 'alt'])
      if (name !== 'title' || !node.matches(WRITTEN_TITLES)) texts.add(node.getAttribute(name) ?? '');
    if (!node.matches(UNTOUCHED)) node.childNodes.forEach(visit);
  };
  visit(document.body);
  return [...texts].map((text) => [text.replace(/\\s+/g, ' ').trim(), catalogue.translate(text)]);
}"""


def left_english(page: Page, language: str) -> list[str]:
    """The texts of the page, hidden ones too, that are not translated, or only in part."""
    pairs = page.evaluate(LEFT_ENGLISH, catalogue(language))
    return sorted({source for source, shown in pairs if is_english(shown)})


def is_english(shown: str) -> bool:
    """Whether a text that should be Chinese holds no Chinese, or some English words in a row."""
    rest = ALIKE.sub("", shown)
    return bool(ENGLISH.search(rest) or (WORD.search(rest) and not CHINESE.search(shown)))


@pytest.mark.parametrize("language", languages())
@pytest.mark.parametrize("show", SHOWN, ids=lambda show: show.__name__.removeprefix("show_"))
def test_no_text_of_the_page_is_left_english(show: Callable[[Page], None], language: str, page: Page) -> None:
    show(page)
    left = left_english(page, language)
    assert left == [], json.dumps(left, indent=1, ensure_ascii=False)
