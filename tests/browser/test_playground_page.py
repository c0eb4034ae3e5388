"""What a user does on the Playground page and what they see, in a real Chromium with real models."""

from __future__ import annotations

import os
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
from tests.app.long_answers import run_that_does_not_end
from tests.browser.conftest import WAIT, Server

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


def open_page(page: Page) -> None:
    page.get_by_role("tab", name="Playground").click()


def card(page: Page, side: str) -> str:
    return f'.t-card[data-side="{side}"]'


def test_an_example_is_answered_by_both_marked_and_coloured_and_survives_a_reload(page: Page, server: Server) -> None:
    open_page(page)
    expect(page.locator(".t-none")).to_be_visible()
    train(server)
    expect(page.locator(".t-run option")).to_have_count(1)
    example = page.locator(".t-group", has_text="Evaluation data").locator(".t-chip").first
    example.click()
    for side in ("base", "tuned"):
        expect(page.locator(f"{card(page, side)} .t-verdict")).to_have_text("right")
        expect(page.locator(f"{card(page, side)} .t-status")).to_contain_text("finished")
    answer = page.locator(".t-answer").input_value()
    expect(page.locator(f"{card(page, 'tuned')} .t-text")).to_have_text(answer)

    page.locator(".t-look").click()
    learnt = page.locator(".t-loss").nth(1).locator(".t-tokens span[class^=t-level]")
    expect(learnt.first).to_be_visible()
    assert (learnt.first.get_attribute("title") or "").startswith("loss 0.")
    assert "".join(learnt.all_inner_texts()) == answer + "<eos>"

    page.reload()
    open_page(page)
    expect(page.locator(".t-answer")).to_have_value(answer)
    expect(page.locator(f"{card(page, 'tuned')} .t-text")).to_have_text(answer)
    assert page.locator(".t-prompt").input_value() not in (server.folder / "server.log").read_text("utf-8")

    page.locator(".t-which").select_option(index=1)  # what stands there was said by another model
    expect(page.locator(f"{card(page, 'tuned')} .t-text")).to_have_text("")
    page.locator(".t-send").click()
    expect(page.locator(f"{card(page, 'tuned')} .t-text")).to_have_text(answer)


def test_a_stop_ends_both_and_a_killed_process_is_reported_and_replaced(page: Page, server: Server) -> None:
    run_that_does_not_end(RunStore(server.folder / "runs"))
    open_page(page)
    page.locator(".t-prompt").fill("ab")
    page.locator(".t-longest").fill("9999")
    page.locator(".t-send").click()
    expect(page.locator(".t-error")).to_contain_text("Max new tokens: give a number from 1 to 1024.")
    page.locator(".t-longest").fill("1024")
    page.locator(".t-send").click()
    expect(page.locator(f"{card(page, 'base')} .t-status")).to_contain_text("generating")
    page.locator(".t-stop").click()
    for side in ("base", "tuned"):
        expect(page.locator(f"{card(page, side)} .t-status")).to_contain_text("stopped")
    expect(page.locator(".t-stop")).to_be_hidden()

    page.locator(".t-send").click()
    expect(page.locator(f"{card(page, 'base')} .t-status")).to_contain_text("generating")
    (process,) = children(server)
    os.kill(process, signal.SIGKILL)
    expect(page.locator(".t-error")).to_contain_text("SIGKILL")
    page.locator(".t-longest").fill("2")
    page.locator(".t-send").click()
    for side in ("base", "tuned"):
        expect(page.locator(f"{card(page, side)} .t-status")).to_contain_text("stopped at the token limit · 2 tokens")
    assert children(server) != [process]
    assert server.end() == 0 and children(server) == []


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
    boxes = [tab.locator(card(tab, side)).bounding_box() for side in ("base", "tuned")]
    assert boxes[0] and boxes[1] and boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"]
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
