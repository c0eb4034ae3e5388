"""Suggestions for the model and the data in a real Chromium, by mouse and by keyboard; the Hub is offline."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Server
from tests.engine.models.test_inventory import write_model

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def options(page: Page, key: str) -> Locator:
    return page.locator(f"#field-{key.replace('.', '-')}-options .option")


def test_models_of_this_computer_are_offered_with_size_and_fit(page: Page, server: Server) -> None:
    write_model(server.folder / "my-model")
    box = page.get_by_role("combobox", name="Model", exact=True)
    box.click()
    found = options(page, "model.name")
    expect(found.first).to_contain_text("Built-in demo model")
    mine = found.filter(has_text="my-model")
    expect(mine).to_contain_text("6 parameters")
    expect(mine).to_contain_text("fits")
    mine.click()
    expect(box).to_have_value("my-model")
    expect(found.first).to_be_hidden()
    page.wait_for_function("JSON.parse(localStorage.getItem('geko-draft-2') || '{}')['model.name'] === 'my-model'")


def test_typing_filters_and_says_that_the_hub_is_out_of_reach(page: Page, server: Server) -> None:
    write_model(server.folder / "my-model")
    box = page.get_by_role("combobox", name="Model", exact=True)
    box.fill("")
    box.press_sequentially("my-")
    expect(options(page, "model.name")).to_have_count(1)
    expect(page.locator("#field-model-name-options")).to_contain_text("The Hub cannot be reached")
    expect(box).to_have_attribute("aria-expanded", "true")
    box.press("ArrowDown")
    box.press("Enter")
    expect(box).to_have_value("my-model")
    expect(box).to_have_attribute("aria-expanded", "false")
    box.press("ArrowDown")
    expect(options(page, "model.name").first).to_be_visible()
    box.press("Escape")
    expect(options(page, "model.name").first).to_be_hidden()
    expect(box).to_have_value("my-model")


def test_files_are_offered_as_data_and_what_is_typed_counts(page: Page, server: Server) -> None:
    (server.folder / "talks.csv").write_text("question,answer\na,b\n", encoding="utf-8")
    box = page.get_by_role("combobox", name="Training data", exact=True)
    box.click()
    options(page, "data.train").filter(has_text="talks.csv").click()
    expect(box).to_have_value("talks.csv")
    expect(page.get_by_label("Role of the column question")).to_have_value("prompt")
    box.fill("something else")
    box.press("Tab")
    expect(box).to_have_value("something else")
