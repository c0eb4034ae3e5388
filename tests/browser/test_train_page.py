"""What a user does on the Train page and what they see, in a real Chromium with real training runs."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from geko_app.runs.store import RunStore
from geko_engine.config.run_config import RunConfig
from geko_engine.reporting.events import RunEnded
from geko_engine.runs.writer import RunWriter
from tests.app.views.test_dashboard import step
from tests.app.views.test_runs import REPORT, events
from tests.browser.conftest import WAIT, Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]
POINTS = (
    "(() => { const c = document.querySelector('[data-chart=loss]'); return c && c.data ? c.data[0].x.length : 0; })()"
)
MANY_STEPS = {"training.num_epochs": "50", "data.sample_count": "2000"}
FEW_STEPS = {"training.num_epochs": "2", "data.sample_count": "320"}


def fill(page: Page, changes: dict[str, str]) -> None:
    for key, value in changes.items():
        page.locator(f"#field-{key.replace('.', '-')} input, #field-{key.replace('.', '-')} textarea").first.fill(value)


def unfold(page: Page, name: str) -> None:
    """Open a group of the form. Its fields are drawn only then, and what is filled in while they are is lost."""
    group = page.locator("#geko-form button.label-wrap", has_text=name).first
    group.click()
    fields = group.locator("xpath=following-sibling::*").locator("input, textarea, .cm-content")
    expect(fields.first).to_be_visible()
    page.evaluate("new Promise((done) => requestIdleCallback(() => requestAnimationFrame(() => setTimeout(done))))")


def start(page: Page, **_: Any) -> None:
    page.locator("#geko-start").click()


def wait_for_points(page: Page, count: int) -> None:
    page.wait_for_function(f"{POINTS} >= {count}", timeout=WAIT)


def wait_for_phase(page: Page, phase: str) -> None:
    expect(page.locator(".geko-status")).to_have_attribute("data-phase", phase, timeout=WAIT)


def status(run: Path) -> dict[str, Any]:
    return json.loads((run / "status.json").read_text(encoding="utf-8"))


def test_start_watch_reload_zoom_stop_and_resume(page: Page, server: Server) -> None:
    fill(page, MANY_STEPS)
    start(page)
    wait_for_points(page, 5)
    expect(page.locator(".b-start")).to_have_text("Start another")

    assert page.locator('[data-chart=loss] [data-title*="Share"]').count() == 0  # nothing offers to send a chart away
    page.evaluate("Plotly.relayout(document.querySelector('[data-chart=loss]'), {'xaxis.range': [1, 4]})")
    seen = page.evaluate(POINTS)
    wait_for_points(page, seen + 5)
    assert page.evaluate("document.querySelector('[data-chart=loss]').layout.xaxis.range") == [
        1,
        4,
    ]  # zoom survives updates

    seen = page.evaluate(POINTS)
    page.reload()
    wait_for_points(page, seen)  # the history is there again, and it goes on
    wait_for_points(page, seen + 5)
    numbers = page.evaluate("document.querySelector('[data-chart=loss]').data[0].x")
    assert numbers == sorted(set(numbers))  # no point twice

    page.locator(".b-stop").click()
    wait_for_phase(page, "stopped")
    (run,) = server.runs()
    assert status(run)["end"] == "stopped"
    (checkpoint,) = (run / "checkpoints").glob("checkpoint-*")
    assert (checkpoint / "manifest.json").is_file()

    stopped_at = int(checkpoint.name.split("-")[1])
    page.locator(".b-resume").click()
    wait_for_points(page, stopped_at + 3)
    steps = page.evaluate("document.querySelector('[data-chart=loss]').data[0].x")
    assert steps == list(range(1, len(steps) + 1))  # it went on where it stopped
    page.locator(".b-stop").click()
    wait_for_phase(page, "stopped")


def test_stop_is_heard_while_the_run_is_still_starting(page: Page, server: Server) -> None:
    start(page)
    page.locator(".b-stop").click()  # it is there before the worker has said a word
    wait_for_phase(page, "stopped")
    expect(page.locator(".geko-summary")).to_contain_text("before the training started")
    expect(page.locator(".b-resume")).to_be_visible()


def test_a_run_to_its_end_shows_the_summary_card_and_clear_empties_the_view(page: Page, server: Server) -> None:
    fill(page, FEW_STEPS)
    start(page)
    wait_for_phase(page, "complete")
    card = page.locator(".geko-summary")
    expect(card).to_contain_text("Complete")
    (run,) = server.runs()
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    expect(card).to_contain_text(f"{100 * report['compute_saved_ratio']:.1f} %")
    expect(card).to_contain_text(f"{report['eval_loss_before']:.3f} → {report['eval_loss_after']:.3f}")
    expect(card).to_contain_text(str(run.resolve() / "model"))
    boxes = page.locator(".geko-stats > div")
    expect(boxes).to_have_count(7)
    expect(boxes.nth(1)).to_contain_text(str(report["steps"]))
    assert page.evaluate(POINTS) == report["steps"]
    expect(page.locator("#geko-start")).to_be_enabled()
    expect(boxes.nth(5)).to_contain_text("Time")  # and no time left
    expect(page.locator(".s-compute")).to_contain_text("In total")
    expect(page.locator(".s-pace")).to_contain_text("Last learning rate")
    evaluations = page.locator("[data-chart=evaluation]")
    expect(evaluations).to_be_visible()
    assert evaluations.evaluate("chart => chart.data.map((trace) => trace.y.filter((y) => y !== null).length)") == [
        3,
        3,
    ]
    assert evaluations.evaluate("chart => chart.querySelector('.main-svg').clientWidth <= chart.clientWidth")

    page.locator(".b-clear").click()
    expect(page.locator(".geko-empty")).to_be_visible()
    assert (run / "model" / "config.json").is_file()  # only the view was cleared


def test_the_end_of_a_run_leads_on_to_its_baseline_its_export_and_the_playground(page: Page, server: Server) -> None:
    fill(page, FEW_STEPS)
    start(page)
    expect(page.locator(".geko-usage li").first).to_be_visible()
    wait_for_phase(page, "complete")
    (run,) = server.runs()
    card = page.locator(".geko-summary")
    card.get_by_role("button", name="Export").click()
    expect(page.locator(".e-start").first).to_be_focused()
    card.get_by_role("button", name="Push").click()
    expect(page.locator(".e-repo")).to_be_focused()
    card.get_by_role("button", name="Run the baseline").click()
    expect(page.locator(".geko-runs")).not_to_have_value(run.name)
    wait_for_phase(page, "complete")
    card.get_by_role("button", name="Compare with baseline").click()
    expect(page.locator(".p-control")).to_contain_text("compute than the baseline")
    expect(page.locator(".p-differences tbody tr")).to_have_text(["geko.enabledfalsetrue"])
    page.get_by_role("tab", name="Train").click()
    page.locator(".geko-runs").select_option(run.name)
    expect(card).to_contain_text(str(run.resolve()))
    card.get_by_role("button", name="Try it").click()
    expect(page.locator(".t-run")).to_have_value(run.name)


def test_a_worker_killed_with_9_leaves_the_page_alive_and_the_run_marked(page: Page, server: Server) -> None:
    fill(page, MANY_STEPS)
    start(page)
    wait_for_points(page, 3)
    (run,) = server.runs()
    os.kill(status(run)["pid"], signal.SIGKILL)
    wait_for_phase(page, "interrupted")
    expect(page.locator(".geko-status")).to_contain_text("memory")
    expect(page.locator(".b-resume")).to_be_visible()
    expect(page.locator("#geko-start")).to_be_enabled()


def test_a_second_tab_shows_the_same_run_and_can_stop_it(page: Page, server: Server, browser: Browser) -> None:
    fill(page, MANY_STEPS)
    start(page)
    wait_for_points(page, 3)
    other = browser.new_page()
    other.goto(server.url)
    wait_for_points(other, 3)
    other.locator(".b-stop").click()
    wait_for_phase(page, "stopped")
    wait_for_phase(other, "stopped")
    other.close()


def test_seven_tabs_of_one_browser_all_follow_the_same_run(page: Page, server: Server) -> None:
    """A browser opens six connections to a host at most: no tab may hold one. The run is another process's."""
    config = RunConfig.from_dict({**RunConfig.demo().to_dict(), "output_dir": str(server.folder / "runs")})
    folder = RunStore(config.output_dir).create(config)
    with RunWriter(folder) as write:
        for event in events(steps=10):
            write(event)
        tabs = [page, *(page.context.new_page() for _ in range(6))]
        for tab in tabs[1:]:
            tab.goto(server.url, wait_until="commit")
        for tab in tabs:
            wait_for_points(tab, 10)
        write(step(11))  # with all of them open, each goes on
        for tab in tabs:
            wait_for_points(tab, 11)
            expect(tab.locator(".geko-runs").first).to_have_value(folder.id)
        write(RunEnded("complete", "as ordered", REPORT))
    for tab in tabs:
        wait_for_phase(tab, "complete")


def test_a_killed_server_leaves_the_run_at_work_and_the_next_one_shows_it(page: Page, server: Server) -> None:
    fill(page, MANY_STEPS)
    start(page)
    wait_for_points(page, 3)
    server.end(signal.SIGKILL)
    seen = page.evaluate(POINTS)
    server.start()
    page.reload()
    wait_for_points(page, seen + 3)
    assert server.end(signal.SIGTERM) == 0  # and an orderly end lets the worker save
    (run,) = server.runs()
    assert status(run)["end"] == "stopped" and list((run / "checkpoints").glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("model.name", "", "No model is given"),
        ("model.name", "./nowhere", "There is no folder './nowhere'"),
        ("data.train", "none.jsonl", "There is no file 'none.jsonl'"),
        ("training.num_epochs", "0", "give at least 1"),
        ("data.sample_count", "-1", "give at least 1"),
        ("training.learning_rate", "abc", "'abc' is not a number"),
    ],
)
def test_bad_input_is_reported_at_its_field_and_starts_nothing(
    page: Page, server: Server, key: str, value: str, sentence: str
) -> None:
    fill(page, {key: value})
    start(page)
    expect(page.locator(f"#field-{key.replace('.', '-')}")).to_contain_text(sentence)
    expect(page.locator(".geko-status")).to_have_attribute("data-phase", "ready")
    assert server.runs() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_screen(browser: Browser, server: Server, scheme: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)  # type: ignore[arg-type]
    tab = context.new_page()
    tab.goto(server.url)
    tab.wait_for_selector("#geko-start")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
