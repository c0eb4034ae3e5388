"""The Export card at the end of a run, in a real Chromium, with a real worker and a small model."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from geko_engine.config.sections import ModelConfig
from geko_engine.models.loading import load_model_and_tokenizer
from tests.browser.conftest import WAIT, Server
from tests.browser.test_access import violations
from tests.engine.export.conftest import trained, write_base, write_rows

pytestmark = [pytest.mark.browser, pytest.mark.slow]
expect.set_options(timeout=WAIT)  # a process that loads torch takes its time


def test_an_adapter_is_merged_and_what_is_missing_is_said(page: Page, server: Server) -> None:
    rows = write_rows(server.folder / "rows.jsonl")
    run = trained(server.folder, write_base(server.folder / "base"), rows)
    card = page.locator(".geko-export")
    expect(card).to_contain_text("Export")
    card.get_by_role("button", name="Merge into one model").click()
    expect(card).to_contain_text("4 of 4 are the same")
    merged = run.exports_path / "merged"
    expect(card.locator(".geko-path code")).to_have_text(str(merged.resolve()))
    expect(card.locator("pre")).to_have_text(f"transformers serve {merged.resolve()}\nvllm serve {merged.resolve()}")
    assert load_model_and_tokenizer(ModelConfig(str(merged)))[0].config.model_type == "llama"

    card.get_by_role("button", name="Push to the Hub").click()
    assert violations(page, "light") == []
    card.locator(".e-repo").fill("ada/answers")
    card.locator(".e-token").fill("hf_0123456789")
    card.get_by_role("button", name="Push", exact=True).click()
    expect(card.get_by_role("alert")).to_contain_text("The base model 'base' is a folder on this machine")

    card.get_by_role("button", name="Train on from this model").click()
    model = str(run.model_path.resolve())
    expect(page.locator("#field-model-name").locator("input, textarea")).to_have_value(model)
    page.wait_for_function("(model) => (localStorage.getItem('geko-draft-2') ?? '').includes(model)", arg=model)

    card.get_by_role("button", name="Train on, new rows only").click()
    expect(page.locator("#field-data-replay").locator("input, textarea")).to_have_value(str(run.path.resolve()))

    page.reload()  # what came of the last export is still known
    expect(card.get_by_role("alert")).to_contain_text("The base model 'base' is a folder on this machine")
    assert "hf_0123456789" not in (Path(server.folder) / "server.log").read_text("utf-8")
