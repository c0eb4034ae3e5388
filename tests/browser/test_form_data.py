"""The table of the data in the form: shown at once, with guessed roles, which a visitor can change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from geko_engine.runs.folder import RunFolder
from tests.browser.conftest import WAIT, Server
from tests.browser.test_train_page import fill, start, unfold

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def write(path: Path, columns: tuple[str, ...], count: int = 60) -> str:
    rows = [{name: f"{name} text {number}" for name in columns} for number in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def role(page: Page, column: str) -> Locator:
    return page.get_by_label(f"Role of the column {column}", exact=True)


def test_the_demo_is_shown_at_once(page: Page) -> None:
    expect(page.locator(".geko-data")).to_contain_text("Built-in demo data")
    expect(role(page, "prompt")).to_have_value("prompt")
    expect(role(page, "completion")).to_have_value("completion")
    expect(page.locator(".geko-data tbody tr")).to_have_count(3)


def test_columns_are_asked_for_where_they_are_not_clear_and_chosen_over_the_table(page: Page, server: Server) -> None:
    fill(page, {"data.train": write(server.folder / "odd.jsonl", ("left", "right", "more"))})
    error = page.locator(".geko-data .d-error")
    expect(error).to_contain_text("None of the columns left, right, more is known")
    role(page, "right").select_option("prompt")
    expect(error).to_contain_text("Name both the prompt column and the completion column")
    expect(role(page, "right")).to_have_value("prompt")
    role(page, "left").select_option("completion")
    expect(error).to_be_hidden()
    expect(role(page, "right")).to_have_value("prompt")
    expect(role(page, "left")).to_have_value("completion")
    start(page)
    expect(page.locator(".b-stop")).to_be_visible()  # the run is there
    (run,) = server.runs()
    data = RunFolder(run).config().data
    assert (data.prompt_column, data.completion_column, data.text_column) == ("right", "left", None)


def test_what_is_chosen_survives_a_reload_and_is_in_the_fields(page: Page, server: Server) -> None:
    fill(page, {"data.train": write(server.folder / "odd.jsonl", ("left", "right"))})
    role(page, "right").select_option("text")
    expect(page.locator(".geko-data th[data-role=text] .name")).to_have_text("right")
    page.reload()
    page.wait_for_function("document.body.dataset.form === 'ready'")
    expect(role(page, "right")).to_have_value("text")
    unfold(page, "Columns and splits")
    field = page.locator("#field-data-text_column input")
    expect(field).to_have_value("right")
    field.fill("left")
    expect(role(page, "left")).to_have_value("text")
    expect(role(page, "right")).to_have_value("")


def test_what_is_wrong_with_rows_is_said_beside_the_table(page: Page, server: Server) -> None:
    path = server.folder / "rows.jsonl"
    rows = [{"prompt": "a", "completion": "b"}] * 2 + [{"prompt": "c", "completion": ""}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    fill(page, {"data.train": str(path)})
    findings = page.locator(".geko-data .d-findings")
    expect(findings).to_contain_text("1 row without an answer: 3", timeout=WAIT)
    expect(findings).to_contain_text("1 row equal to an earlier row: 2")
    fill(page, {"data.train": str(server.folder / "none.csv")})
    expect(page.locator(".geko-data .d-error")).to_contain_text("There is no file", timeout=WAIT)
    expect(page.locator(".geko-data table")).to_be_hidden()


def test_text_in_the_data_is_text_on_the_page(page: Page, server: Server) -> None:
    path, html = server.folder / "rows.jsonl", "<img src=x onerror=alert(1)>"
    path.write_text(json.dumps({f"my question {html}": html, "answer": html}) + "\n", encoding="utf-8")
    fill(page, {"data.train": str(path)})
    expect(page.locator(".geko-data tbody")).to_contain_text(html, timeout=WAIT)
    expect(page.locator(".geko-data thead")).to_contain_text(html)
    expect(page.locator(".geko-data img")).to_have_count(0)
