"""A whole job without a mouse: from the first Tab on the page to an answer of the tuned model, in a real Chromium."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import WAIT
from tests.browser.test_train_page import wait_for_phase

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MOST_TABS = 120  # from one place of the page to another
IS_FOCUSED = "element => element === document.activeElement || element.contains(document.activeElement)"


def tab_to(page: Page, target: Locator, *, back: bool = False) -> None:
    """Press Tab until `target`, or something in it, has the focus; it is then in view."""
    for _ in range(MOST_TABS):
        if target.evaluate(IS_FOCUSED):
            expect(target).to_be_in_viewport()
            return
        page.keyboard.press("Shift+Tab" if back else "Tab")
    raise AssertionError(f"{target} cannot be reached by Tab")


def retype(page: Page, field: str, text: str) -> None:
    tab_to(page, page.locator(f"{field} input, {field} textarea").first)
    page.keyboard.press("Control+A")
    page.keyboard.type(text)


def test_a_model_is_trained_and_asked_by_keyboard_alone(page: Page) -> None:
    expect(page.get_by_text("Built-in demo data")).to_be_visible()  # what comes later moves the fields below it
    retype(page, "#field-training-num_epochs", "1")
    retype(page, "#field-data-sample_count", "160")
    tab_to(page, page.locator("#geko-preview-button"))
    page.keyboard.press("Enter")
    expect(page.locator(".l-text .learned").first).to_be_visible(timeout=WAIT)
    tab_to(page, page.locator("#geko-start"))
    page.keyboard.press("Enter")
    wait_for_phase(page, "complete")

    tab_to(page, page.get_by_role("button", name="Try it"))
    page.keyboard.press("Enter")
    prompt = page.get_by_label("Prompt", exact=True)
    expect(prompt).to_be_visible(timeout=WAIT)
    tab_to(page, prompt)
    page.keyboard.type("How much is 2 plus 3?")
    page.keyboard.press("Enter")
    tuned = page.get_by_text("Tuned model", exact=True)
    expect(tuned).to_be_visible(timeout=WAIT)
    expect(page.get_by_role("button", name="Regenerate").first).to_be_enabled(timeout=WAIT)

    tab_to(page, page.get_by_role("tab", name="Runs"), back=True)
    page.keyboard.press("Enter")
    expect(page.locator(".r-table tbody tr")).to_have_count(1, timeout=WAIT)
