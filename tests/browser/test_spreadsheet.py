"""A file from a spreadsheet program, as people have it: another encoding, semicolons, odd names of columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import WAIT, Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]


DROP = """(target, files) => {
    const data = new DataTransfer();
    for (const [name, text] of files) data.items.add(new File([text], name));
    const event = new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true });
    return !target.dispatchEvent(event);
}"""


def drop(target: Any, *files: tuple[str, str]) -> bool:
    """Drop files with a name and a text each on an element; returns whether the browser is kept from opening them."""
    taken: bool = target.evaluate(DROP, [list(file) for file in files])
    return taken


def test_dropped_files_go_to_the_field_under_them_and_never_replace_the_page(page: Page) -> None:
    pairs = "question,answer\n" + "".join(f"what is {n},it is {n}\n" for n in range(30))
    training, evaluation = (page.locator(f"#field-data-{name} input").first for name in ("train", "eval"))
    assert drop(page.locator("#geko-step-data .geko-data"), ("faq.csv", pairs), ("more.csv", pairs))
    expect(page.locator(".d-error")).to_contain_text("2 files were dropped: drop one, or give the path of a folder")
    assert training.input_value() == "demo"

    assert drop(page.locator("#geko-step-data .geko-data"), ("faq.csv", pairs))
    expect(page.get_by_label("Role of the column question", exact=True)).to_have_value("prompt", timeout=WAIT)
    assert Path(training.input_value()).name == "faq.csv" and evaluation.input_value() == ""

    assert drop(evaluation, ("test.csv", pairs))
    page.wait_for_function("document.querySelector('#field-data-eval input').value.endsWith('test.csv')")
    assert Path(training.input_value()).name == "faq.csv"

    assert drop(page.get_by_role("tab", name="Runs"), ("other.csv", pairs))
    assert Path(training.input_value()).name == "faq.csv"


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
