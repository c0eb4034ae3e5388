"""The page in Chinese: every text that a state of the page shows is in the catalogue, and a visitor gets it without asking."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from geko_app.languages import catalogue, languages
from geko_app.runs.labels import write_label
from geko_app.runs.store import RunStore
from tests.browser.conftest import WAIT, Server
from tests.browser.test_access import SHOWN, server  # noqa: F401  (the fixture of a page with a complete run)

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
    for (const name of ['aria-label', 'title', 'placeholder', 'alt', 'label'])
      if (!['title', 'placeholder'].includes(name) || !node.matches(WRITTEN_TITLES)) texts.add(node.getAttribute(name) ?? '');
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


@pytest.fixture
def chinese(browser: Browser, server: Server) -> Iterator[Page]:  # noqa: F811
    """A tab of a visitor whose browser prefers Chinese."""
    context = browser.new_context(locale="zh-CN", viewport={"width": 1440, "height": 1000})
    context.set_default_timeout(WAIT)
    errors: list[str] = []
    tab = context.new_page()
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(server.url)
    tab.wait_for_function("document.body.dataset.form === 'ready'")
    yield tab
    context.close()
    assert errors == []


def test_a_visitor_gets_the_language_of_the_browser_and_can_choose_another(chinese: Page) -> None:
    expect(chinese.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(chinese.locator("#geko-language")).to_have_value("zh-CN")
    expect(chinese.get_by_role("tab", name="训练")).to_be_visible()
    chinese.locator("#geko-language").select_option("en")
    expect(chinese.get_by_role("tab", name="Train")).to_be_visible()
    chinese.reload()
    expect(chinese.get_by_role("tab", name="Train")).to_be_visible()
    expect(chinese.locator("#geko-language")).to_have_value("en")
    expect(chinese.locator("html")).not_to_have_attribute("lang", "zh-CN")


def test_scripts_that_look_for_a_text_find_it(chinese: Page) -> None:
    """The group of a field with an error is unfolded, and buttons turn to other pages, by their English names."""
    group = chinese.locator("#geko-form button.label-wrap", has_text="优化")
    group.click()
    field = chinese.locator("#field-training-weight_decay input")
    expect(field).to_have_value(
        "0.01"
    )  # a group is built when it is first unfolded: what is typed before is overwritten
    field.fill("much")
    group.click()
    expect(field).to_be_hidden()
    chinese.locator("#geko-start").click()
    expect(field).to_be_visible()
    chinese.get_by_role("tab", name="运行记录").click()
    chinese.locator(".r-open").first.click()
    chinese.get_by_role("button", name="在“训练”页显示").click()
    expect(chinese.locator("#geko-start")).to_be_visible()


def test_what_a_user_wrote_is_not_translated(chinese: Page) -> None:
    chinese.evaluate(
        """document.body.insertAdjacentHTML('beforeend', `
        <p id="own">Ready</p><div id="written" class="v-prompt" title="Close">Ready</div><code id="code">Ready</code>
        <div translate="no"><p id="inside" title="Close">Ready</p></div><textarea id="area">Ready</textarea>`)"""
    )
    expect(chinese.locator("#own")).to_have_text("就绪")
    for name in ("written", "code", "inside"):
        expect(chinese.locator(f"#{name}")).to_have_text("Ready")
    expect(chinese.locator("#area")).to_have_value("Ready")
    expect(chinese.locator("#written")).to_have_attribute("title", "关闭")
    expect(chinese.locator("#inside")).to_have_attribute("title", "Close")


def test_a_run_named_like_a_word_of_the_page_keeps_its_name(chinese: Page, server: Server) -> None:  # noqa: F811
    store = RunStore(server.folder / "runs")
    write_label(store.folder(store.ids()[0]), "Training", ["Balanced"])
    chinese.reload()
    chinese.wait_for_function("document.body.dataset.form === 'ready'")
    expect(chinese.locator("#geko-live .geko-runs option").first).to_have_text("Training · 已完成")
    chinese.get_by_role("tab", name="样本").click()
    expect(chinese.locator("#geko-samples .geko-runs option").first).to_have_text("Training · 已完成")
    chinese.get_by_role("tab", name="运行记录").click()
    expect(chinese.locator(".r-open").first).to_have_text("Training")
    expect(chinese.locator(".r-tags").first).to_contain_text("Balanced")
    chinese.locator(".r-tick input").first.check()
    chinese.get_by_role("button", name="比较 (1)").click()
    expect(chinese.locator(".p-chart .legendtext").first).to_have_text("Training")
    chinese.get_by_role("tab", name="试用").click()
    expect(chinese.locator(".t-run option").first).to_contain_text("Training")


def test_an_expected_answer_stays_as_it_is(chinese: Page) -> None:
    chinese.get_by_role("tab", name="试用").click()
    chinese.locator(".t-prompt").fill("Ready. Training. Run")
    chinese.locator("summary", has_text="期望的回答").click()
    chinese.locator(".t-answer").fill("Ready. Training. Run")
    chinese.get_by_role("button", name="询问两者").click()
    expect(chinese.locator(".t-asked-text").first).to_have_text("Ready. Training. Run")
    expect(chinese.locator(".t-asked .geko-hint").first).to_contain_text("Ready. Training. Run")
    expect(chinese.locator(".t-asked .geko-hint span").first).to_contain_text("期望")


def test_a_text_that_is_set_again_changes_nothing(chinese: Page) -> None:
    """The page sets its texts with every poll: a screen reader must not hear them each time."""
    changes = chinese.evaluate(
        """async () => {
          const script = [...document.scripts].find((found) => found.src.endsWith('/language.js')).src;
          const { setText } = await import(script.replace('language.js', 'dom.js'));
          const line = document.body.appendChild(document.createElement('p'));
          setText(line, 'Ready');
          await new Promise(requestAnimationFrame);
          const before = line.textContent;
          let count = 0;
          new MutationObserver((found) => (count += found.length)).observe(line, { subtree: true, childList: true, characterData: true });
          for (let i = 0; i < 3; i++) { setText(line, 'Ready'); await new Promise(requestAnimationFrame); }
          return [before, line.textContent, count];
        }"""
    )
    assert changes == ["就绪", "就绪", 0]


def test_without_its_texts_the_page_stays_english(browser: Browser, server: Server) -> None:  # noqa: F811
    context = browser.new_context(locale="zh-CN")
    tab = context.new_page()
    tab.route("**/languages/*.json", lambda route: route.abort())
    tab.goto(server.url)
    expect(tab.get_by_role("tab", name="Train")).to_be_visible()
    expect(tab.locator("#geko-start")).to_be_visible()
    context.close()
