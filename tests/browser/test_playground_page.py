"""What a user does on the Playground page and what they see, in a real Chromium with real models."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from geko_app.runs.store import RunStore
from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DEMO, DataConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.runs.folder import RunFolder
from tests.app.long_answers import run_that_does_not_end
from tests.browser.conftest import WAIT, Server
from tests.engine.export.conftest import trained, write_base, write_rows

pytestmark = [pytest.mark.browser, pytest.mark.slow]
expect.set_options(timeout=WAIT)  # a process that loads torch takes its time


def train(server: Server) -> str:
    """A short run of the demo model in a worker of its own."""
    store = RunStore(server.folder / "runs")
    config = RunConfig(
        data=DataConfig(eval=DEMO, sample_count=160, eval_count=16, max_length=128),
        training=GEKOTrainingArgs(num_epochs=2, batch_size=8, learning_rate=1e-3),
        output_dir=str(store.root),
    )
    folder = store.create(config)
    subprocess.run(
        [sys.executable, "-m", "geko_app.workers.training_worker", str(folder.path)],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return folder.id


@pytest.fixture(scope="module")
def chat_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that has learned four short conversations by heart; its base model talks nonsense."""
    folder = tmp_path_factory.mktemp("chat")
    base = write_base(folder / "base", tie_word_embeddings=False)
    training = {"num_epochs": 60, "learning_rate": 1e-2}
    return trained(folder, base, write_rows(folder / "rows.jsonl"), lora={"r": 16, "alpha": 32}, training=training)


def copied(run: RunFolder, server: Server) -> RunFolder:
    """The run among those of the server."""
    path = server.folder / "runs" / run.id
    shutil.copytree(run.path, path)
    return RunFolder(path)


def open_page(page: Page) -> None:
    page.get_by_role("tab", name="Playground").click()


def card(page: Page, side: str) -> str:
    return f'.t-card[data-side="{side}"]'


def test_an_example_is_answered_by_both_marked_and_survives_a_reload(page: Page, server: Server) -> None:
    open_page(page)
    expect(page.locator(".t-none")).to_be_visible()
    train(server)
    expect(page.locator(".t-run option")).to_have_count(1)
    example = page.locator(".t-group", has_text="Evaluation data").locator(".t-chip").first
    prompt = example.locator(".t-chip-prompt").inner_text()
    example.click()
    for side in ("base", "tuned"):
        expect(page.locator(f"{card(page, side)} .t-verdict")).to_have_text("Same as expected")
        expect(page.locator(f"{card(page, side)} .t-status")).to_contain_text("finished")
    expect(page.locator(".t-mode-hint")).to_contain_text("each turn is one prompt")
    expect(page.locator(".t-system")).to_be_disabled()
    expect(page.locator(".t-choice:visible")).to_have_count(0)
    answer = page.locator(".t-asked .geko-hint").inner_text().removeprefix("Expected: ")

    page.locator(".t-unsure summary").click()
    page.locator(".t-look").click()
    learnt = page.locator(".t-loss").nth(1).locator(".t-tokens span[class^=t-level]")
    expect(learnt.first).to_be_visible()
    assert (learnt.first.get_attribute("title") or "").startswith("loss 0.")
    assert "".join(learnt.all_inner_texts()) == answer + "<eos>"

    page.reload()
    open_page(page)
    expect(page.locator(".t-asked-text")).to_have_text(prompt)
    expect(page.locator(f"{card(page, 'tuned')} .t-text")).to_have_text(f"{answer}<eos>")
    assert prompt not in (server.folder / "server.log").read_text("utf-8")

    page.locator(".t-prompt").fill(prompt)
    page.locator(".t-prompt").press("Enter")
    expect(page.locator(".t-turn")).to_have_count(2)
    expect(page.locator(".t-turn").nth(1).locator(".t-read pre")).to_have_text(f"{prompt}\n")  # without the turn above
    page.locator(".t-which").select_option(index=1)  # what stands there was said by another model
    expect(page.locator(".t-turn")).to_have_count(0)


def test_a_conversation_goes_on_from_the_chosen_answer_and_begins_anew(
    page: Page, server: Server, chat_run: RunFolder
) -> None:
    run = copied(chat_run, server)
    open_page(page)
    expect(page.locator(".t-mode-hint")).to_contain_text("chat template")
    page.locator(".t-system").fill("Be brief.")
    page.locator(".t-longest").fill("12")
    ask(page, "Good morning!")
    expect(page.locator(".t-prompt")).to_have_value("")
    base, tuned = (plain_text(page, side) for side in ("base", "tuned"))
    assert tuned == "How can I help?" != base

    ask(page, "two plus two")
    read = page.locator(".t-turn").last.locator(".t-read pre")
    expect(read).to_contain_text("Be brief.")
    expect(read).to_contain_text(tuned)
    page.locator("#geko-theme").click()
    expect(page.locator(".t-turn")).to_have_count(2)

    page.locator(".t-turn").last.locator('[data-side="base"] .t-choice input').check()
    words = re.search(r"[A-Za-z]{3,}", plain_text(page, "base"))
    assert words is not None and words[0] not in read.inner_text()
    ask(page, "the capital of France?")
    expect(page.locator(".t-turn").last.locator(".t-read pre")).to_contain_text(words[0])

    page.get_by_role("button", name="Regenerate").last.click()
    expect(page.locator(".t-turn").last.locator('[data-side="tuned"] .t-status')).to_contain_text("tokens")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator(".t-turn").last.locator('[data-side="tuned"] .copy').click()
    expect(page.locator(".t-turn").last.locator('[data-side="tuned"] .copy')).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == plain_text(page, "tuned")

    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".t-turn")).to_have_count(0)
    expect(page.locator(".t-prompt")).to_be_focused()

    page.locator(".t-serve summary").click()
    expect(page.locator(".t-program").first).to_contain_text("Merge into one model")
    (run.exports_path / "merged").mkdir(parents=True)
    (run.exports_path / "merged" / "config.json").write_text("{}", encoding="utf-8")
    page.locator(".t-serve summary").click()
    page.locator(".t-serve summary").click()
    expect(page.locator(".t-program pre").first).to_have_text(f"vllm serve {(run.exports_path / 'merged').resolve()}")


def test_the_probabilities_of_tokens_are_there_for_keys_and_pointer(
    page: Page, server: Server, chat_run: RunFolder
) -> None:
    copied(chat_run, server)
    open_page(page)
    ask(page, "two plus two")
    tokens = page.locator(f"{card(page, 'tuned')} .t-token")
    tokens.first.focus()
    tip = page.locator(".t-tip")
    expect(tip).to_be_visible()
    expect(tip.locator(".t-tip-row")).to_have_count(5)
    expect(tip.locator(".t-tip-head")).to_contain_text("%")
    page.keyboard.press("ArrowRight")
    expect(tokens.nth(1)).to_be_focused()
    expect(tokens.nth(1)).to_have_attribute("aria-describedby", "geko-token-tip")
    page.keyboard.press("End")
    expect(tokens.last).to_be_focused()
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    tokens.first.hover()
    expect(tip).to_be_visible()
    page.locator(".t-show-tokens").uncheck()
    expect(tokens).to_have_count(0)
    expect(page.locator(f"{card(page, 'tuned')} .t-text")).to_have_text("is four")  # as plain text


def test_one_answer_is_stopped_alone_and_a_killed_process_is_reported_and_replaced(page: Page, server: Server) -> None:
    run_that_does_not_end(RunStore(server.folder / "runs"))
    open_page(page)
    page.locator(".t-prompt").fill("ab")
    page.locator(".t-longest").fill("9999")
    page.locator(".t-send").click()
    expect(page.locator(".t-error")).to_contain_text("Max new tokens: give a number from 1 to 1024.")
    expect(page.locator(".t-turn")).to_have_count(0)
    expect(page.locator(".t-prompt")).to_have_value("ab")
    page.locator(".t-longest").fill("1024")
    page.locator(".t-send").click()
    expect(page.locator(f"{card(page, 'base')} .t-status")).to_contain_text("generating")
    page.locator(f"{card(page, 'base')} .t-stop-one").click()
    expect(page.locator(f"{card(page, 'base')} .t-status")).to_contain_text("stopped")
    expect(page.locator(f"{card(page, 'tuned')} .t-status")).to_contain_text("generating")  # the other goes on
    page.locator(".t-stop").click()
    expect(page.locator(f"{card(page, 'tuned')} .t-status")).to_contain_text("stopped")
    expect(page.locator(".t-stop")).to_be_hidden()

    page.locator(".t-prompt").fill("ab")
    page.locator(".t-send").click()
    expect(page.locator(".t-turn").last.locator('[data-side="base"] .t-status')).to_contain_text("generating")
    (process,) = children(server)
    os.kill(process, signal.SIGKILL)
    expect(page.locator(".t-error")).to_contain_text("SIGKILL")
    page.locator(".t-longest").fill("2")
    page.locator(".t-prompt").fill("ab")
    page.locator(".t-send").click()
    for side in ("base", "tuned"):
        status = page.locator(".t-turn").last.locator(f'[data-side="{side}"] .t-status')
        expect(status).to_contain_text("stopped at the token limit · 2 tokens")
    assert children(server) != [process]
    assert server.end() == 0 and children(server) == []


def ask(page: Page, prompt: str) -> None:
    """Ask both models, and wait for both answers."""
    page.locator(".t-prompt").fill(prompt)
    page.locator(".t-send").click()
    expect(page.locator(".t-asked-text").last).to_have_text(prompt)
    for side in ("base", "tuned"):
        expect(page.locator(".t-turn").last.locator(f'[data-side="{side}"] .t-status')).to_contain_text("token")
    expect(page.locator(".t-send")).to_be_enabled()


def plain_text(page: Page, side: str) -> str:
    """The last answer of a model, without its special tokens."""
    tokens = page.locator(".t-turn").last.locator(f'[data-side="{side}"] .t-token:not(.t-special)')
    return "".join(tokens.all_inner_texts()).strip()


def children(server: Server) -> list[int]:
    """The inference processes of this server."""
    assert server.process is not None
    try:
        found = psutil.Process(server.process.pid).children()
    except psutil.NoSuchProcess:
        return []
    return [child.pid for child in found if "geko_app.workers.inference_worker" in child.cmdline()]


def test_on_a_phone_the_cards_stand_below_each_other(browser: Browser, server: Server) -> None:
    run_that_does_not_end(RunStore(server.folder / "runs"))
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    tab = context.new_page()
    tab.goto(server.url)
    open_page(tab)
    expect(tab.locator(".t-chip").first).to_be_visible()
    tab.locator(".t-longest").fill("4")
    ask(tab, "ab")
    boxes = [tab.locator(card(tab, side)).bounding_box() for side in ("base", "tuned")]
    assert boxes[0] and boxes[1] and boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"]
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
