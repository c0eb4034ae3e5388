"""A file from a spreadsheet program, as people have it: another encoding, semicolons, odd names of columns."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import WAIT, Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_a_csv_of_excel_is_uploaded_and_understood(page: Page, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "Kunden Fragen März.csv"
    lines = [f"Wo ist mein Päckchen Nummer {n}?;Es ist unterwegs für {n} €" for n in range(40)]
    path.write_bytes("\r\n".join(["customer_question;agent_reply", *lines]).encode("cp1252"))
    page.locator("#upload-data-train").locator("xpath=..").locator("input[type=file]").first.set_input_files(str(path))
    box = page.locator("#field-data-train input, #field-data-train textarea").first
    page.wait_for_function(
        "document.querySelector('#field-data-train input, #field-data-train textarea').value.endsWith('.csv')"
    )
    assert Path(box.input_value()).name == path.name
    page.locator("#geko-preview-button").click()
    expect(page.locator(".l-text .learned").first).to_contain_text("Es ist unterwegs für 0 €", timeout=WAIT)
    findings = page.locator(".l-findings")
    expect(findings).to_contain_text(f"{path.name} is not UTF-8 and was read as Windows-1252", timeout=WAIT)
    expect(findings).to_contain_text("separated by semicolons")
    expect(page.locator(".geko-preview")).to_contain_text("customer_question")
