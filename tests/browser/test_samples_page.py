"""What a user does on the Samples page, in a real Chromium: watch, search, open, mark, take the cleaned dataset along."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from geko_app.runs.store import RunStore
from geko_app.samples.exclusions import flagged_rows
from tests.app.sample_runs import new_run, write_record
from tests.app.samples.test_slices import with_slices
from tests.browser.conftest import WAIT, Server
from tests.browser.test_access import violations
from tests.browser.test_playground_page import train
from tests.browser.test_train_page import fill, start, wait_for_phase

pytestmark = [pytest.mark.browser, pytest.mark.slow]
POINT = """(id) => {
  const chart = document.querySelector('.c-map'), box = chart.getBoundingClientRect();
  const trace = chart.data.find((t) => [...t.customdata].includes(id)), at = [...trace.customdata].indexOf(id);
  const { xaxis, yaxis } = chart._fullLayout;
  return [box.x + xaxis._offset + xaxis.d2p(trace.x[at]), box.y + yaxis._offset + yaxis.d2p(trace.y[at])];
}"""


def show_samples(page: Page) -> None:
    page.get_by_role("tab", name="Samples").click()


def shown_rows(page: Page) -> list[str]:
    return page.locator("#geko-samples tbody tr td:nth-child(2)").all_inner_texts()


def test_a_core_set_is_downloaded_as_unchecked_at_the_size_that_is_given(page: Page, server: Server) -> None:
    new_run(RunStore(server.folder / "runs"), count=120, epochs=3)
    page.reload()
    show_samples(page)
    page.locator(".core-card summary").click()
    expect(page.locator(".core-about")).to_contain_text("30 rows (25 % of the data)")
    expect(page.locator(".core-verdict")).to_contain_text("Not checked by a run yet")
    page.locator(".core-percent").fill("50")
    page.locator(".core-percent").press("Enter")
    expect(page.locator(".core-about")).to_contain_text("60 rows (50 % of the data)")
    with page.expect_download() as download:
        page.locator(".core-download").click()
    assert download.value.suggested_filename.endswith("-core-set-60-not-checked-by-a-run.jsonl")
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 60 and {"prompt": "question 2", "completion": "answer 2"} in map(json.loads, lines)
    page.locator(".core-percent").fill("200")
    page.locator(".core-percent").press("Enter")
    expect(page.locator(".core-error")).to_contain_text("The size 200 is no percentage")
    expect(page.locator(".core-download")).to_be_disabled()
    page.locator(".core-default").click()
    expect(page.locator(".core-about")).to_contain_text("30 rows (25 % of the data)")


def test_sort_filter_search_open_mark_and_take_the_cleaned_dataset_along(
    page: Page, server: Server, browser: Browser
) -> None:
    run = new_run(RunStore(server.folder / "runs"), count=120, epochs=3, contradicts=[0, 5, *[0] * 118])
    page.reload()
    show_samples(page)
    lines, found = page.locator("#geko-samples tbody tr"), page.locator(".m-found")
    expect(lines).to_have_count(50)
    expect(page.locator(".m-chip.hard .count")).to_have_text("30")
    page.get_by_role("button", name="Row", exact=False).first.click()  # sorts downwards
    expect(lines.first.locator("td").nth(1)).to_have_text("120")
    page.locator(".m-after").click()
    expect(lines.first.locator("td").nth(1)).to_have_text("70")
    page.locator(".m-search").fill("QUESTION 11")
    expect(found).to_have_text("11 samples")
    page.locator(".m-chip.hard").click()
    expect(found).to_have_text("2 samples")
    assert shown_rows(page) == ["118", "114"]

    page.locator(".m-open").first.click()
    expect(page.locator(".m-why")).to_have_text(
        "HARD, confidently wrong: the answer is wrong, but its confidence 0.90 is above 0.60."
    )
    expect(page.locator(".m-text .learned")).to_have_text("answer 117")
    expect(page.locator(".m-path circle")).to_have_count(6)

    page.locator(".m-all").click()
    expect(page.locator(".m-chip.flagged .count")).to_have_text("2")
    expect(page.locator("#geko-samples tbody input").first).to_be_checked()
    page.locator("#geko-samples tbody input").first.uncheck()
    expect(page.locator(".m-chip.flagged .count")).to_have_text("1")
    assert flagged_rows(run) == {114}
    page.reload()  # flags are the run's, not the tab's
    show_samples(page)
    expect(page.locator(".m-export-note")).to_contain_text("without the 1 flagged row;")
    with page.expect_download() as download:
        page.locator(".m-dataset").click()
    exported = [json.loads(line) for line in Path(download.value.path()).read_text(encoding="utf-8").splitlines()]
    assert len(exported) == 119 and {"prompt": "question 113", "completion": "answer 113"} not in exported
    with page.expect_download() as download:
        page.locator(".m-list").click()
    assert download.value.suggested_filename.endswith(".csv")


def test_groups_are_compared_and_one_of_them_is_opened(page: Page, server: Server) -> None:
    run = new_run(RunStore(server.folder / "runs"), count=40)
    with_slices(run, topic=["cards", "loans"] * 20, file=["a.jsonl"] * 10 + ["b.jsonl"] * 30)
    page.reload()
    show_samples(page)
    page.get_by_role("button", name="Groups").click()
    table = page.get_by_role("region", name="Groups of samples")
    expect(table.locator("tbody th")).to_have_text(["loans", "cards"])  # the highest loss first
    expect(table.locator("tbody tr").first.locator("td")).to_have_text(["20", "3.250", "50.0 %", "10", "0", "50.0 %"])
    assert violations(page, "light") == []
    page.get_by_label("Group by").select_option("file")
    page.get_by_role("button", name="a.jsonl").press("Enter")
    expect(page.locator(".m-found")).to_have_text("10 samples")
    expect(page.locator(".m-in-group")).to_contain_text("File: a.jsonl")
    page.locator(".m-chip.hard").click()
    expect(page.locator(".m-found")).to_have_text("3 samples")
    page.get_by_role("button", name="Show all groups").click()
    expect(page.locator(".m-found")).to_have_text("10 samples")


def test_flags_are_taken_along_to_the_next_run(page: Page, server: Server) -> None:
    run = new_run(RunStore(server.folder / "runs"))
    fill(page, {"training.num_epochs": "9"})
    show_samples(page)
    expect(page.locator(".m-use")).to_be_disabled()
    page.get_by_label("Flag row 2", exact=True).check()
    page.locator(".m-use").click()
    file = page.locator("#field-data-row_flags input, #field-data-row_flags textarea").first
    expect(file).to_be_visible()  # its group is unfolded
    expect(file).to_have_value(str(run.path / "row_flags.json"))
    expect(page.locator("#field-data-flag_action input")).to_have_value("exclude")
    expect(page.locator("#field-training-num_epochs input")).to_have_value("9")
    assert flagged_rows(run) == {2}


def test_the_tokens_of_the_opened_sample_are_coloured_by_both_models(page: Page, server: Server) -> None:
    train(server)
    show_samples(page)
    page.locator(".m-open").first.click()
    text = page.locator(".m-text .learned").inner_text()
    page.locator(".m-look").click()
    expect(page.locator(".m-losses .t-loss h4")).to_have_text(["Base model", "Tuned model"], timeout=WAIT)
    learnt = page.locator(".m-losses .t-loss").nth(1).locator(".t-tokens span[class^=t-level]")
    assert "".join(learnt.all_inner_texts()) == text + "<eos>"
    assert (learnt.first.get_attribute("title") or "").startswith("loss ")
    expect(page.locator(".m-unsure li")).to_have_count(5)
    page.locator(".m-open").nth(1).click()  # another sample: what was said of this one is gone
    expect(page.locator(".m-losses .t-loss")).to_have_count(0)


def test_a_click_on_the_map_opens_the_sample(page: Page, server: Server) -> None:
    run = new_run(RunStore(server.folder / "runs"), count=8, epochs=0)
    write_record(run, 8, 3, change=0.7)
    show_samples(page)
    page.get_by_role("button", name="Data map").click()
    page.locator(".c-map[data-wired]").wait_for()
    page.locator(".c-map").scroll_into_view_if_needed()
    page.mouse.move(*page.evaluate(POINT, 2), steps=8)  # a first move alone is taken for an entering
    page.locator(".c-map .hoverlayer .hovertext").wait_for()
    page.mouse.click(*page.evaluate(POINT, 2))
    expect(page.locator(".m-title")).to_contain_text("FOCUS")
    expect(page.locator(".m-map-note")).to_contain_text("All of them are shown")


def test_it_follows_a_training_run_and_keeps_what_the_tab_shows(page: Page, server: Server) -> None:
    fill(page, {"training.num_epochs": "30", "data.sample_count": "400"})
    start(page)
    show_samples(page)
    page.wait_for_function("document.querySelector('.m-at')?.textContent.includes('after epoch')", timeout=WAIT)
    page.locator(".m-chip.light").click()
    page.locator(".m-search").fill("letters")
    before = page.locator(".m-at").inner_text()
    page.wait_for_function(f"document.querySelector('.m-at').textContent !== {json.dumps(before)}", timeout=WAIT)
    expect(page.locator(".m-chip.light")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".m-search")).to_have_value("letters")
    page.get_by_role("tab", name="Train").click()
    page.locator(".b-stop").click()
    wait_for_phase(page, "stopped")


def test_runs_without_samples_say_so_and_a_phone_shows_no_sideways_page(page: Page, server: Server) -> None:
    store = RunStore(server.folder / "runs")
    old, new = new_run(store), new_run(store, epochs=0)
    for path in (old.rows_path, old.texts_path, old.history_path):
        path.unlink()
    page.set_viewport_size({"width": 390, "height": 844})
    show_samples(page)
    picker = page.locator("#geko-samples .geko-runs")
    picker.select_option(old.id)
    expect(page.locator(".m-sentence")).to_contain_text("made by an earlier version")
    picker.select_option(new.id)
    expect(page.locator(".m-at")).to_contain_text("known after the first epoch")
    write_record(new, 8, 2)
    expect(page.locator(".m-chip.hard .count")).to_have_text("2")
    page.locator(".m-open").first.click()
    expect(page.locator(".m-one")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
