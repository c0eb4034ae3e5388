"""What a user does on the Runs page, and a queue on the Train page, in a real Chromium."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from geko_app.runs.store import RunStore
from geko_engine.config.run_config import RunConfig
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.writer import RunWriter
from tests.app.views.test_dashboard import step
from tests.app.views.test_runs import ended, events
from tests.browser.conftest import Server
from tests.browser.test_train_page import MANY_STEPS, fill, start, status, wait_for_phase

pytestmark = [pytest.mark.browser, pytest.mark.slow]
POINTS = "(() => { const c = document.querySelector('.p-chart'); return c && c.data ? c.data[0].x.length : 0; })()"


def run(server: Server, end: str = "complete", **training: object) -> RunFolder:
    config = RunConfig.from_dict({**RunConfig.demo().to_dict(), "training": training})
    config.output_dir = str(server.folder / "runs")
    return ended(RunStore(config.output_dir), config, end)


def open_runs(page: Page, count: int) -> None:
    page.get_by_role("tab", name="Runs").click()
    expect(page.locator(".r-table tbody tr")).to_have_count(count)


def line(page: Page, folder: RunFolder):  # type: ignore[no-untyped-def]
    return page.locator(".r-table tbody tr", has_text=folder.id.rsplit("-", 1)[-1])


def test_a_live_run_beside_another_changes_in_list_and_chart_and_keeps_the_zoom(page: Page, server: Server) -> None:
    done = run(server, learning_rate=1e-4)
    going = run(server, learning_rate=2e-4)
    going.events_path.unlink()
    (going.path / "status.json").unlink()  # what is complete is not written again
    with RunWriter(going) as write:  # as a command line does it: the run belongs to another process
        for event in events(steps=10):
            write(event)
        open_runs(page, 2)
        expect(line(page, going)).to_contain_text("10 %")
        for folder in (going, done):
            line(page, folder).locator("input").check()
        page.wait_for_function(f"{POINTS} == 10")
        expect(page.locator(".p-differences tbody tr")).to_have_text(["training.learning_rate0.00020.0001"])
        expect(page.locator(".p-figures")).to_contain_text("0.800 → 0.500")
        tools = page.eval_on_selector_all(".p-chart .modebar-btn", "found => found.map((tool) => tool.dataset.title)")
        assert "Zoom" in tools and not any("hare" in tool for tool in tools)  # nothing that uploads the chart

        page.evaluate("Plotly.relayout(document.querySelector('.p-chart'), {'xaxis.range': [1, 4]})")
        write(step(11))
        page.wait_for_function(f"{POINTS} == 11")
        assert page.evaluate("document.querySelector('.p-chart').layout.xaxis.range") == [1, 4]
        expect(line(page, going)).to_contain_text("11 %")
        page.get_by_role("button", name="Trained tokens").click()
        page.wait_for_function("document.querySelector('.p-chart').data[0].x.at(-1) == 880")

    page.reload()  # what was chosen is still chosen
    open_runs(page, 2)
    expect(page.locator(".p-compare")).to_be_visible()
    page.get_by_role("button", name="Clear selection").click()
    expect(page.locator(".p-compare")).to_be_hidden()


def test_a_run_is_opened_noted_downloaded_shown_and_deleted(page: Page, server: Server, tmp_path: Path) -> None:
    kept, folder = run(server), run(server, "stopped")
    folder.model_path.mkdir()
    (folder.model_path / "weights").write_bytes(bytes(2_000_000))
    open_runs(page, 2)
    line(page, folder).locator(".r-open").click()
    card = page.locator(".o-run")
    expect(card).to_contain_text(f"geko-train {folder.config_path}")
    expect(card).to_contain_text(str(folder.model_path))
    expect(card.locator(".o-resume")).to_be_visible()

    card.get_by_label("Note").fill("too short")
    card.get_by_role("button", name="Save note").click()
    expect(line(page, folder)).to_contain_text("too short")
    assert (folder.path / "note.txt").read_text(encoding="utf-8") == "too short"

    with page.expect_download() as download:
        card.get_by_role("button", name="Download model (2 MB)").click()
    download.value.save_as(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert archive.namelist() == [f"{folder.id}-model/weights"] and archive.testzip() is None

    card.get_by_role("button", name="Show on the Train page").click()
    wait_for_phase(page, "stopped")
    expect(page.locator(".geko-runs")).to_have_value(folder.id)

    page.get_by_role("tab", name="Runs").click()
    card.get_by_role("button", name="Delete", exact=True).click()
    assert folder.path.is_dir()
    card.get_by_role("button", name="Delete 2.").click()
    expect(page.locator(".r-table tbody tr")).to_have_count(1)
    assert server.runs() == [kept.path] and not card.is_visible()


def test_a_second_start_is_queued_and_starts_when_the_first_is_stopped(page: Page, server: Server) -> None:
    fill(page, MANY_STEPS)
    start(page)
    wait_for_phase(page, "training")
    for place in (1, 2):
        start(page)
        expect(page.locator("#geko-message")).to_contain_text(f"Queued (position {place})")
    first, *queued = server.runs()
    second, third = sorted(queued, key=lambda folder: (folder / "queued").read_text(encoding="utf-8"))
    page.locator(".geko-runs").select_option(third.name)
    wait_for_phase(page, "queued")
    expect(page.locator(".geko-status")).to_contain_text("Queuedafter")
    page.locator(".b-stop").click()
    wait_for_phase(page, "stopped")

    page.locator(".geko-runs").select_option(first.name)
    wait_for_phase(page, "training")
    page.locator(".b-stop").click()
    expect(page.locator(".geko-runs")).to_have_value(second.name)  # the next one has begun, and the page turns to it
    assert (status(first)["end"], status(third)["end"]) == ("stopped", "stopped")
    page.locator(".b-stop").click()
    wait_for_phase(page, "stopped")


def test_a_runs_settings_fill_the_form_in_and_its_control_is_one_press_away(page: Page, server: Server) -> None:
    done = run(server, learning_rate=3e-4, num_epochs=7)
    open_runs(page, 1)
    line(page, done).locator("td").nth(2).click()
    page.get_by_role("button", name="Edit and run again").click()
    expect(page.locator("#field-training-num_epochs input")).to_have_value("7")
    expect(page.locator("#field-training-learning_rate input, #field-training-learning_rate textarea")).to_have_value(
        "0.0003"
    )
    page.get_by_role("button", name="Run the control").click()
    page.wait_for_function("document.querySelector('.geko-settings').textContent.includes('demo')")
    folders = [folder for folder in server.runs() if folder.name != done.id]
    assert [RunFolder(folder).config().geko.enabled for folder in folders] == [False]
    page.locator(".b-stop").click()
    wait_for_phase(page, "stopped")
