"""What a user does in the Review of the Samples page, in a real Chromium: mend rows by keyboard, see the diff, undo, export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from geko_app.runs.store import RunStore
from geko_engine.data.corrections import KEEP, REPLACE, current, read_corrections
from geko_engine.quality.issues import CONFLICT, NEAR_DUPLICATE, Issue
from geko_engine.quality.label_issues import LIKELY, LOOK
from geko_engine.runs.folder import RunFolder
from tests.app.sample_runs import new_run, write_issues, write_texts
from tests.browser.conftest import WAIT, Server
from tests.browser.test_playground_page import train
from tests.browser.test_unreachable import SENTENCE, refuse

pytestmark = [pytest.mark.browser, pytest.mark.slow]
ISSUES = [
    Issue(0, LIKELY, 0.96, note="blue"),
    Issue(3, LIKELY, 0.92, note="red"),
    Issue(5, LOOK, 0.4, note="red"),
    Issue(6, CONFLICT, other=7),
    Issue(2, NEAR_DUPLICATE, other=1),
]


def wrong_labels(server: Server) -> RunFolder:
    """A run of twelve samples; rows 7, 1, 4, 6 and 3 have an issue, in this order of severity."""
    folder = new_run(RunStore(server.folder / "runs"), count=12, epochs=0)
    write_texts(folder, [(f"question {i}", ("red", "blue")[i % 2]) for i in range(12)])
    write_issues(folder, 12, ISSUES, expected_precision=0.94)
    return folder


def show_review(page: Page) -> None:
    """By keyboard alone."""
    page.get_by_role("tab", name="Samples").press("Enter")
    page.get_by_role("button", name="Review", exact=True).press("Enter")


def is_shown(page: Page, row: int) -> None:
    title = page.locator(".v-title")
    expect(title).to_have_text(f"Row {row}")
    expect(title).to_be_visible()


def log_of(run: RunFolder) -> dict[int, str]:
    return {row: found.action for row, found in current(read_corrections(run.path / "corrections.jsonl")).items()}


def test_five_rows_are_mended_by_keyboard_alone_seen_in_the_diff_and_exported(page: Page, server: Server) -> None:
    run = wrong_labels(server)
    page.reload()
    show_review(page)
    is_shown(page, 7)
    page.keyboard.press("1")
    expect(page.locator(".v-said")).to_have_text("The label check suggests no other answer for this sample.")
    page.keyboard.press("2")
    is_shown(page, 1)
    expect(page.locator(".v-said")).to_have_text("Row 7 has the answer of the similar sample now.")
    expect(page.locator(".v-suggested")).to_have_text("blue")
    page.keyboard.press("1")
    is_shown(page, 4)
    page.keyboard.press("k")
    is_shown(page, 6)
    page.keyboard.press("e")
    expect(page.locator(".v-new-answer")).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("a dark blue")
    page.keyboard.press("Control+Enter")
    is_shown(page, 3)
    expect(page.locator(".v-reviewed")).to_have_text("4 of 5 reviewed")
    page.keyboard.press("d")
    expect(page.locator(".v-done-title")).to_have_text("Nothing is left to review")
    expect(page.locator(".v-reviewed")).to_have_text("5 of 5 reviewed")
    expect(page.locator(".v-counts dd")).to_have_text(["1", "3", "1"])
    assert log_of(run) == {7: REPLACE, 1: REPLACE, 4: KEEP, 6: REPLACE, 3: "delete"}

    page.get_by_role("button", name="Changes").press("Enter")
    changes = page.locator(".c-change")
    expect(changes.locator("strong")).to_have_text(["Row 3", "Row 6", "Row 4", "Row 1", "Row 7"])
    expect(changes.nth(1).locator("ins")).to_have_text("a dark ")
    page.get_by_role("button", name="Undo the decision on row 3").press("Enter")
    expect(changes).to_have_count(4)
    page.get_by_role("button", name="Review", exact=True).press("Enter")
    is_shown(page, 3)

    page.get_by_role("button", name="Table").press("Enter")
    page.locator(".m-chip.edited").press("Enter")
    expect(page.locator("#geko-samples tbody .m-decision")).to_have_text(["Edited"] * 3)
    expect(page.locator(".m-export-note")).to_contain_text("3 rows corrected")
    with page.expect_download() as download:
        page.locator(".m-dataset").press("Enter")
    lines = [json.loads(line) for line in Path(download.value.path()).read_text(encoding="utf-8").splitlines()]
    answers = {line["prompt"]: line["completion"] for line in lines}
    assert len(lines) == 12 and answers["question 0"] == answers["question 6"] == "blue"
    assert answers["question 5"] == "a dark blue" and answers["question 3"] == "blue"


def test_a_sample_is_skipped_and_a_decision_undone(page: Page, server: Server) -> None:
    run = wrong_labels(server)
    page.reload()
    show_review(page)
    is_shown(page, 7)
    page.keyboard.press("j")
    is_shown(page, 1)
    page.keyboard.press("ArrowRight")
    is_shown(page, 4)
    page.keyboard.press("ArrowLeft")
    is_shown(page, 1)
    page.keyboard.press("d")
    is_shown(page, 4)
    page.keyboard.press("u")
    is_shown(page, 1)
    expect(page.locator(".v-said")).to_have_text("Undone: Row 1 deleted.")
    assert log_of(run) == {}
    for row in (1, 4, 6, 3):
        is_shown(page, row)
        page.keyboard.press("j")
    expect(page.locator(".v-done-title")).to_have_text("Only skipped samples are left")
    page.get_by_role("button", name="Review the skipped samples").press("Enter")
    is_shown(page, 7)


def test_keys_do_nothing_while_typing_with_modifiers_or_in_another_view(page: Page, server: Server) -> None:
    run = wrong_labels(server)
    page.reload()
    show_review(page)
    is_shown(page, 7)
    for keys in ("Control+d", "Alt+k", "Meta+d"):
        page.keyboard.press(keys)
    page.locator(".m-search").press_sequentially("question d")
    page.locator(".m-search").fill("")
    is_shown(page, 7)
    page.keyboard.press("Tab")
    page.locator(".v-title").focus()
    page.keyboard.press("e")
    page.keyboard.type("kd1")
    page.keyboard.press("Escape")
    expect(page.locator(".v-editor")).to_be_hidden()
    is_shown(page, 7)
    page.get_by_role("button", name="Table").click()
    page.keyboard.press("d")
    page.get_by_role("button", name="Review", exact=True).click()
    page.keyboard.press("k")  # the first that does something
    is_shown(page, 1)
    expect(page.locator(".v-reviewed")).to_have_text("1 of 5 reviewed")
    assert log_of(run) == {7: KEEP}


def test_a_bulk_action_is_confirmed_and_undone_in_one_step(page: Page, server: Server) -> None:
    run = wrong_labels(server)
    page.reload()
    show_review(page)
    page.locator(".m-chip.likely_mislabeled").click()
    is_shown(page, 1)
    page.get_by_role("button", name="Delete all 2 rows").press("Enter")
    expect(page.locator(".v-would")).to_have_text(
        "2 rows would be deleted. Expected precision 94 %: less than one of these answers is right as it is."
    )
    assert log_of(run) == {}
    page.get_by_role("button", name="Delete 2 rows").press("Enter")
    expect(page.locator(".v-said")).to_have_text("2 rows deleted.")
    expect(page.locator(".v-done-title")).to_have_text("Nothing is left to review")
    assert log_of(run) == {1: "delete", 4: "delete"}
    page.keyboard.press("u")
    is_shown(page, 1)
    expect(page.locator(".v-said")).to_have_text("Undone: 2 rows deleted.")
    assert log_of(run) == {}


def test_decisions_are_undone_after_a_reload_too(page: Page, server: Server) -> None:
    run = wrong_labels(server)
    page.reload()
    show_review(page)
    is_shown(page, 7)
    expect(page.locator(".v-undo")).to_be_disabled()
    page.keyboard.press("u")
    expect(page.locator(".v-said")).to_have_text("No row has a decision, so there is nothing to undo.")
    page.keyboard.press("d")
    is_shown(page, 1)
    page.keyboard.press("1")
    is_shown(page, 4)
    page.get_by_role("button", name="Keep all 3 rows").press("Enter")
    page.get_by_role("button", name="Keep 3 rows").press("Enter")
    expect(page.locator(".v-done-title")).to_have_text("Nothing is left to review")
    assert log_of(run) == {7: "delete", 1: REPLACE, 4: KEEP, 6: KEEP, 3: KEEP}
    page.reload()
    show_review(page)
    expect(page.locator(".v-done-title")).to_have_text("Nothing is left to review")
    page.locator(".v-undo").press("Enter")
    expect(page.locator(".v-said")).to_have_text("Undone: 3 rows kept as they are.")
    is_shown(page, 4)
    page.keyboard.press("u")
    expect(page.locator(".v-said")).to_have_text("Undone: Row 1 has the suggested answer now.")
    is_shown(page, 1)
    page.keyboard.press("u")
    expect(page.locator(".v-said")).to_have_text("Undone: Row 7 deleted.")
    is_shown(page, 7)
    expect(page.locator(".v-undo")).to_be_disabled()
    assert log_of(run) == {}


def test_what_was_typed_is_not_lost_when_it_cannot_be_saved(page: Page, server: Server) -> None:
    run = wrong_labels(server)
    page.reload()
    show_review(page)
    is_shown(page, 7)
    refuse(page, "decide_sample")
    page.keyboard.press("e")
    page.keyboard.type(" and green")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#geko-samples .m-error")).to_have_text(SENTENCE)
    is_shown(page, 7)
    page.keyboard.press("e")
    expect(page.locator(".v-new-answer")).to_have_value("red and green")
    page.unroute_all()
    page.keyboard.press("Control+Enter")
    is_shown(page, 1)
    expect(page.locator(".v-reviewed")).to_have_text("1 of 5 reviewed")
    assert log_of(run) == {7: REPLACE}


def test_two_tabs_see_each_others_decisions(page: Page, server: Server, browser: Browser) -> None:
    wrong_labels(server)
    page.reload()
    show_review(page)
    is_shown(page, 7)
    other = browser.new_page()
    other.set_default_timeout(WAIT)
    other.goto(server.url)
    other.wait_for_selector("#geko-start")
    other.wait_for_function("window.Plotly !== undefined && document.body.dataset.form === 'ready'")
    show_review(other)
    is_shown(other, 7)
    other.keyboard.press("d")
    is_shown(other, 1)
    is_shown(page, 1)
    expect(page.locator(".v-reviewed")).to_have_text("1 of 5 reviewed")
    other.close()


def test_a_visitor_of_a_space_looks_and_does_not_decide(page: Page, server: Server) -> None:
    run = wrong_labels(server)
    page.reload()
    page.evaluate("document.body.dataset.role = 'visitor'")
    show_review(page)
    is_shown(page, 7)
    expect(page.locator(".v-keep")).to_be_hidden()
    expect(page.locator(".v-bulk")).to_be_hidden()
    page.keyboard.press("d")
    expect(page.locator(".v-said")).to_have_text("Only the owner of this Space may decide.")
    page.keyboard.press("j")
    is_shown(page, 1)
    assert log_of(run) == {}


def test_the_models_own_answer_fills_the_editor_and_is_confirmed(page: Page, server: Server) -> None:
    run = RunFolder(server.folder / "runs" / train(server))
    page.get_by_role("tab", name="Samples").click()
    page.locator(".m-open").first.click()
    page.get_by_role("button", name="Review this sample").click()
    is_shown(page, 1)
    page.locator(".v-title").focus()
    page.keyboard.press("m")
    expect(page.locator(".v-new-answer")).not_to_be_editable()
    expect(page.locator(".v-writing")).to_contain_text("This is the model's own answer", timeout=WAIT)
    page.locator(".v-new-answer").press_sequentially(" ")  # whatever the model says, it is a change now
    page.keyboard.press("Control+Enter")
    expect(page.locator(".v-said")).to_contain_text("Row 1 edited")
    page.wait_for_function("document.querySelector('.m-changed').textContent === '1'")
    assert log_of(run) == {1: REPLACE}


def test_what_changed_is_retrained_and_it_says_what_that_was_worth(page: Page, server: Server) -> None:
    run = RunFolder(server.folder / "runs" / train(server))
    page.reload()
    page.get_by_role("tab", name="Samples").press("Enter")
    expect(page.locator(".m-retrain button")).to_have_count(0)
    page.get_by_role("button", name="Review", exact=True).press("Enter")
    everything = page.locator('.m-chip[data-filter=""]')  # whatever the checks find in this data
    everything.press("Enter")
    expect(page.locator(".v-reviewed")).to_have_text(f"0 of {everything.locator('.count').inner_text()} reviewed")
    title = page.locator(".v-title")
    for number in range(5):
        row = title.inner_text()
        page.keyboard.press("e")
        expect(page.locator(".v-new-answer")).to_be_focused()
        page.keyboard.press("Control+A")
        page.keyboard.type(f"a better answer {number}")
        page.keyboard.press("Control+Enter")
        expect(title).not_to_have_text(row)
    expect(page.locator(".m-export-note")).to_contain_text("5 rows corrected")
    expect(page.locator(".m-retrain button")).to_have_text(["Retrain what changed", "Retrain anew"])
    page.get_by_role("button", name="Retrain what changed").press("Enter")
    worth = page.locator("#geko-live .geko-worth")
    expect(worth).to_contain_text("5 edited rows and further training: ", timeout=4 * WAIT)
    expect(worth).to_contain_text(f"of the compute of the run {run.id}.")
    expect(worth).to_contain_text("exact match (±")
