"""What a user sees when the disk is full, in a real Chromium: a real worker on a disk that a test can fill."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from geko_engine.runs.folder import RunFolder
from tests.browser.conftest import WAIT, Server
from tests.browser.test_train_page import MANY_STEPS, fill, start, status, unfold, wait_for_phase, wait_for_points
from tests.small_disk import SmallDisk

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_a_full_disk_pauses_the_run_and_it_goes_on_when_there_is_room(
    small_disk: SmallDisk, page: Page, server: Server
) -> None:
    fill(page, MANY_STEPS)
    start(page)
    wait_for_points(page, 3)
    small_disk.fill()
    wait_for_phase(page, "paused")
    expect(page.locator(".s-title")).to_have_text("Paused")
    expect(page.locator(".s-detail")).to_contain_text(f"The disk of '{small_disk.runs()[0]}' has 0.")
    expect(page.locator(".s-detail")).to_contain_text("free some space there, for example by deleting old runs")
    small_disk.free()
    wait_for_phase(page, "training")
    expect(page.locator(".geko-log li", has_text="There is room on the disk again")).to_have_count(1)
    page.locator(".b-stop").click()
    wait_for_phase(page, "stopped")
    assert "Traceback" not in (server.folder / "server.log").read_text(encoding="utf-8")


def test_a_stop_on_a_full_disk_ends_the_run_with_the_reason_and_resume_goes_on_when_there_is_room(
    small_disk: SmallDisk, page: Page, server: Server
) -> None:
    fill(page, MANY_STEPS)
    unfold(page, "Advanced")
    fill(page, {"training.save_steps": "10"})
    start(page)
    expect(page.locator(".geko-log li", has_text="Checkpoint at step").first).to_be_attached(timeout=WAIT)
    small_disk.fill()
    wait_for_phase(page, "paused")
    small_disk.free()
    small_disk.fill(leave=300_000)  # enough for the stop flag, too little for a checkpoint
    page.locator(".b-stop").click()
    wait_for_phase(page, "failed")
    (run,) = small_disk.runs()
    kept = RunFolder(run).latest_checkpoint()
    assert kept is not None
    card = page.locator(".geko-summary")
    expect(card).to_contain_text(f"The disk of '{small_disk.path}' is full")
    expect(card).to_contain_text("free some space there, for example by deleting old runs")
    expect(card).to_contain_text(f"the run continues from the checkpoint at step {kept.name.split('-')[-1]}")
    assert "Traceback" not in page.locator("body").inner_text()
    card.get_by_role("button", name="See the size of each run").click()
    expect(page.locator(".r-table tbody tr")).to_have_count(1)
    page.get_by_role("tab", name="Train").click()

    expect(page.locator(".b-start")).to_have_text("Start", timeout=WAIT)  # its worker is gone
    small_disk.fill()
    start(page)  # the page itself cannot write now, and says so instead of falling over
    expect(page.locator("#geko-message")).to_contain_text("is full", timeout=WAIT)
    page.locator(".b-resume").click()
    expect(page.locator("#geko-live .geko-error")).to_contain_text("is full")
    assert small_disk.runs() == [run]
    page.reload()
    wait_for_phase(page, "failed")

    small_disk.free()
    page.locator(".b-resume").click()
    wait_for_phase(page, "training")
    expect(page.locator(".geko-log li", has_text="resumed at step")).to_have_count(1)
    page.locator(".b-stop").click()
    wait_for_phase(page, "stopped")
    assert "Traceback" not in (server.folder / "server.log").read_text(encoding="utf-8")


def test_a_run_that_cannot_even_write_its_end_is_shown_as_ended_all_the_same(
    small_disk: SmallDisk, page: Page, server: Server
) -> None:
    fill(page, MANY_STEPS)
    start(page)
    wait_for_points(page, 3)
    (run,) = small_disk.runs()
    (run / ".reserve").unlink()  # somebody else has taken the space that it held back
    small_disk.fill()
    wait_for_phase(page, "interrupted")
    expect(page.locator(".geko-status")).to_contain_text("is full")
    expect(page.locator(".b-resume")).to_be_visible()
    assert status(run)["end"] == ""
    small_disk.free()
    page.reload()
    wait_for_phase(page, "interrupted")
    page.get_by_role("tab", name="Runs").click()
    expect(page.locator(".r-table tbody tr")).to_contain_text("Interrupted")
    assert "Traceback" not in Path(server.folder / "server.log").read_text(encoding="utf-8")
