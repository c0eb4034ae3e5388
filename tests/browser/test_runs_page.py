"""What a user does on the Runs page, and a queue on the Train page, in a real Chromium."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from geko_app.formatting import run_name
from geko_app.runs.labels import write_label
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
        page.get_by_role("button", name="Compare (2)").click()
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

    page.reload()  # what was compared still is
    open_runs(page, 2)
    expect(page.locator(".p-compare")).to_be_visible()
    page.get_by_role("button", name="All runs").click()
    expect(page.locator(".p-compare")).to_be_hidden()
    page.get_by_role("button", name="Clear selection").click()
    expect(page.get_by_role("button", name="Compare (0)")).to_be_disabled()


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
        expect(page.locator("#geko-message")).to_contain_text(f"Queued #{place}")
    first, *queued = server.runs()
    second, third = sorted(queued, key=lambda folder: (folder / "queued").read_text(encoding="utf-8"))
    page.locator(".geko-runs").select_option(third.name)
    wait_for_phase(page, "queued")
    expect(page.locator(".geko-status")).to_contain_text("Queued #2after")
    page.locator(".b-stop").click()
    wait_for_phase(page, "stopped")

    page.locator(".geko-runs").select_option(first.name)
    wait_for_phase(page, "training")
    page.locator(".b-stop").click()
    expect(page.locator(".geko-runs")).to_have_value(second.name)  # the next one has begun, and the page turns to it
    assert (status(first)["end"], status(third)["end"]) == ("stopped", "stopped")
    page.locator(".b-stop").click()
    wait_for_phase(page, "stopped")


def test_a_runs_settings_fill_the_form_in_and_its_baseline_is_one_press_away(page: Page, server: Server) -> None:
    done = run(server, learning_rate=3e-4, num_epochs=7)
    open_runs(page, 1)
    line(page, done).locator("td").nth(2).click()
    page.get_by_role("button", name="Edit and run again").click()
    expect(page.locator("#field-training-num_epochs input")).to_have_value("7")
    expect(page.locator("#field-training-learning_rate input, #field-training-learning_rate textarea")).to_have_value(
        "0.0003"
    )
    page.get_by_role("button", name="Run the baseline").click()
    page.wait_for_function("document.querySelector('.geko-settings').textContent.includes('demo')")
    folders = [folder for folder in server.runs() if folder.name != done.id]
    assert [RunFolder(folder).config().geko.enabled for folder in folders] == [False]
    page.locator(".b-stop").click()
    wait_for_phase(page, "stopped")


def test_an_empty_list_offers_the_next_step(page: Page) -> None:
    page.get_by_role("tab", name="Runs").click()
    expect(page.locator(".r-none")).to_contain_text("No runs yet")
    expect(page.locator(".r-tools")).to_be_hidden()
    page.get_by_role("button", name="Go to Train").click()
    expect(page.locator("#geko-start")).to_be_visible()


def test_a_run_is_named_tagged_found_grouped_and_opened_by_keyboard_alone(page: Page, server: Server) -> None:
    run(server, learning_rate=3e-4)
    folder = run(server, learning_rate=1e-4)
    plain = RunConfig.from_yaml(folder.config_path)
    plain.geko.enabled = False
    baseline = ended(RunStore(plain.output_dir), plain)
    open_runs(page, 3)
    keys = page.keyboard

    # The panel: Enter opens it, and the focus goes in; Escape gives it back.
    opener = line(page, folder).locator(".r-open")
    opener.focus()
    keys.press("Enter")
    panel = page.locator(".o-run")
    expect(panel).to_be_focused()
    keys.press("Tab")
    expect(panel.get_by_role("button", name="Rename")).to_be_focused()
    keys.press("Enter")
    keys.type("Support <b>v2</b>")
    keys.press("Enter")
    expect(panel.locator(".o-name")).to_have_text("Support <b>v2</b>")
    panel.get_by_label("Add a tag").focus()
    for tag in ("banking", "final"):
        keys.type(tag)
        keys.press("Enter")
        expect(panel.locator(".n-tag", has_text=tag)).to_be_visible()
    panel.get_by_role("button", name="Remove the tag final").focus()
    keys.press("Enter")
    expect(panel.locator(".n-tag")).to_have_count(1)
    keys.press("Escape")
    expect(panel).to_be_hidden()
    named = page.locator(".r-table tbody tr", has_text="Support")
    expect(named.locator(".r-open")).to_be_focused()
    assert json.loads((folder.path / "label.json").read_text("utf-8")) == {
        "name": "Support <b>v2</b>",
        "tags": ["banking"],
    }

    # The group: the baseline stands below its run, whatever the order.
    page.locator(".r-order").select_option(label="Run, Z to A")
    expect(page.locator("tr.r-child .r-baseline")).to_have_text("Plain baseline")
    ids = page.eval_on_selector_all(".r-table tbody tr", "all => all.map((one) => one.className)")
    assert "r-child" in ids[next(i for i, name in enumerate(ids) if "r-parent" in name) + 1]

    # The filter: every word, over names, tags and the rest.
    page.get_by_label("Filter runs").focus()
    keys.type("bank support")
    expect(page.locator(".r-table tbody tr:visible")).to_have_count(1)
    expect(page.locator(".r-count")).to_contain_text("1 of 3")
    keys.type(" nothing-like-it")
    expect(page.locator(".r-nothing")).to_be_visible()
    page.get_by_role("button", name="Clear filter").focus()
    keys.press("Enter")
    expect(page.locator(".r-table tbody tr:visible")).to_have_count(3)

    # The comparison: of a run with its baseline, in one press.
    page.get_by_role("button", name="Compare with baseline").focus()
    keys.press("Enter")
    expect(page.locator(".p-compare")).to_be_visible()
    expect(page.locator(".p-figures thead th")).to_have_text(["Support <b>v2</b>", run_name(baseline.id)])
    expect(page.locator(".p-differences tbody tr")).to_have_text(["geko.enabledtruefalse"])
    expect(page.locator(".p-control")).to_contain_text("compute than the baseline")

    # And wherever else a run is listed, it has its name.
    page.get_by_role("tab", name="Train").click()
    expect(page.locator(".geko-runs option", has_text="Support <b>v2</b>")).to_have_count(1)


def test_a_name_is_edited_in_the_line_too_and_escape_leaves_it(page: Page, server: Server) -> None:
    folder = run(server)
    open_runs(page, 1)
    only = page.locator(".r-table tbody tr")
    only.hover()
    only.get_by_role("button", name="Rename").click()
    page.keyboard.type("not this")
    page.keyboard.press("Escape")
    expect(only.locator(".r-open")).to_be_visible()
    assert not (folder.path / "label.json").exists()
    only.get_by_role("button", name="Rename").click()
    page.keyboard.type("first try")
    page.keyboard.press("Enter")
    expect(only.locator(".r-open")).to_contain_text("first try")
    expect(page.locator(".o-run")).to_be_hidden()  # editing does not open it


@pytest.mark.parametrize("width", [1024, 390])
def test_nothing_of_the_list_is_cut(page: Page, server: Server, width: int) -> None:
    folder = run(server, learning_rate=1e-4)
    plain = RunConfig.from_yaml(folder.config_path)
    plain.geko.enabled = False
    ended(RunStore(plain.output_dir), plain, "stopped")
    write_label(folder, "A long name that somebody gave this run to know it again", ["banking", "learning-rate"])
    page.set_viewport_size({"width": width, "height": 900})
    open_runs(page, 2)
    expect(page.locator("tr.r-child")).to_be_visible()
    table = page.locator(".r-scroll")
    assert table.evaluate("box => box.scrollWidth <= box.clientWidth")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("seconds", "when", "size"):
        cell = page.locator(f"tr.r-child .r-{name}")
        cell.scroll_into_view_if_needed()
        expect(cell).to_be_in_viewport(ratio=1)
    page.locator("tr.r-child .r-open").click()
    expect(page.locator(".o-run")).to_be_focused()
    assert page.locator(".o-body").evaluate("box => box.scrollWidth <= box.clientWidth")
