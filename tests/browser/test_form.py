"""The form in a real Chromium: presets, exports, the draft, and the preview before a start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from geko_app.form import preset_results
from geko_app.form import values as form
from geko_app.runs.store import RunStore
from geko_engine.config.run_config import RunConfig
from geko_engine.config.selection import PRESETS
from geko_engine.runs.folder import RunFolder
from tests.app.views.test_runs import ended
from tests.browser.conftest import WAIT, Server
from tests.browser.test_train_page import fill, start, unfold, wait_for_phase

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SLIDER = "#field-geko-freeze_confidence input[type=number]"


def test_a_preset_sets_every_threshold_and_a_change_makes_it_custom(page: Page) -> None:
    unfold(page, "GEKO")
    page.locator("#field-geko-preset").get_by_text("Aggressive").click()
    expect(page.locator(SLIDER)).to_have_value("0.9")
    expect(page.locator("#field-geko-bucket_weights input, #field-geko-bucket_weights textarea")).to_have_value(
        "5, 2, 0"
    )
    page.locator(SLIDER).fill("0.7")
    expect(page.locator("#field-geko-preset input[value=custom]")).to_be_checked()
    page.locator("#field-geko-preset").get_by_text("Recommended").click()
    expect(page.locator(SLIDER)).to_have_value("0.85")
    expect(page.locator("#field-geko-preset input[value=recommended]")).to_be_checked()


CUT_OFF = """() => {
  const cut = [];
  for (const input of document.querySelectorAll('#geko-form :is(input, textarea, select)')) {
    const box = input.getBoundingClientRect();
    if (!box.height || input.type === 'file' || getComputedStyle(input).opacity === '0') continue;
    for (let around = input.parentElement; around && around.id !== 'geko-form'; around = around.parentElement) {
      const outer = around.getBoundingClientRect();
      if (getComputedStyle(around).overflowY === 'hidden' && outer.height && box.bottom > outer.bottom + 1)
        cut.push(input.closest('[id^=field-]')?.id + ': ' + Math.round(box.bottom - outer.bottom) + ' px');
    }
  }
  return cut;
}"""


def test_no_field_is_cut_off_by_the_box_around_it(page: Page) -> None:
    for group in ("GEKO", "Optimization", "Efficiency", "Advanced"):
        unfold(page, group)
    expect(page.locator(SLIDER)).to_be_visible()
    assert page.evaluate(CUT_OFF) == []


FRESH_DRAFT = """async () => {
  const loaded = performance.getEntriesByType('resource').map((entry) => entry.name);
  const script = loaded.find((name) => name.endsWith('/form_draft.js'));
  const { keepDraft, restoreDraft } = await import(`${script}?fresh`);
  const kept = () => JSON.parse(localStorage.getItem('geko-draft-2'))['model.name'];
  localStorage.setItem('geko-draft-2', JSON.stringify({ 'model.name': 'typed before' }));
  const keep = keepDraft(['model.name'], ['model.name']);
  delete document.body.dataset.form;
  keep('demo');
  const before = kept();
  const restored = restoreDraft(['model.name'])('demo');
  keep('demo');
  document.body.dataset.form = 'ready';
  restored.push(kept());
  keep('typed after');
  return [before, ...restored, kept()];
}"""


def test_a_field_filled_in_while_the_page_opens_does_not_overwrite_the_draft(page: Page) -> None:
    assert page.evaluate(FRESH_DRAFT) == ["typed before", "typed before", "typed before", "typed after"]


def test_a_preset_counts_while_its_fields_are_folded(page: Page, server: Server) -> None:
    page.locator("#field-geko-preset").get_by_text("Aggressive").click()
    aggressive = preset_results.preset_lines()["aggressive"]
    expect(page.locator("#field-geko-preset .geko-field-note")).to_have_text(aggressive)
    page.wait_for_function("JSON.parse(localStorage.getItem('geko-draft-2'))['geko.freeze_confidence'] === 0.9")
    start(page)
    expect(page.locator(".b-stop")).to_be_visible()  # the run is there
    (run,) = server.runs()
    assert RunFolder(run).config().geko == PRESETS["aggressive"]


def test_lora_brings_its_own_learning_rate_and_says_so(page: Page) -> None:
    rate = page.locator("#field-training-learning_rate input")
    note = page.locator("#field-training-learning_rate .geko-field-note")
    switch = page.locator("#field-lora-enabled input")
    usual, demo = (form.from_config(config)["training.learning_rate"] for config in (RunConfig(), RunConfig.demo()))
    expect(rate).to_have_value(demo)
    switch.check()
    expect(rate).to_have_value("0.0002")
    expect(note).to_have_text("0.0002, the default for LoRA")
    switch.uncheck()
    expect(rate).to_have_value(demo)
    fill(page, {"model.name": "owner/model"})
    expect(rate).to_have_value(usual)
    switch.check()
    expect(rate).to_have_value("0.0002")
    rate.fill("0.001")
    expect(note).to_have_count(0)
    switch.uncheck()
    expect(note).to_have_text(f"Yours is kept; the default without LoRA is {usual}")
    expect(rate).to_have_value("0.001")


def test_a_yaml_fills_the_form_in_and_a_wrong_one_is_answered(page: Page) -> None:
    unfold(page, "YAML, command")
    editor = page.locator("#geko-yaml .cm-content")
    expect(editor).to_contain_text("num_epochs: 4")
    expect(page.locator("#geko-command")).to_contain_text("geko-train --demo")
    editor.fill("training:\n  num_epoch: 3")
    page.locator("#geko-apply-yaml").click()
    expect(page.locator("#geko-yaml-message")).to_contain_text("Did you mean 'num_epochs'?")
    expect(page.locator("#field-training-num_epochs input")).to_have_value("4")
    editor.fill("model:\n  name: gpt2\ntraining:\n  num_epochs: 7")
    page.locator("#geko-apply-yaml").click()
    expect(page.locator("#field-training-num_epochs input")).to_have_value("7")
    expect(page.locator("#field-model-name input, #field-model-name textarea").first).to_have_value("gpt2")
    expect(page.locator("#geko-python")).to_contain_text("config.model.name = 'gpt2'")


def test_the_draft_survives_a_reload(page: Page) -> None:
    fill(page, {"training.num_epochs": "9", "data.sample_count": "77"})
    page.locator("#field-data-sample_count input, #field-data-sample_count textarea").first.blur()
    page.wait_for_function("JSON.parse(localStorage.getItem('geko-draft-2') || '{}')['data.sample_count'] === '77'")
    page.reload()
    expect(page.locator("#field-training-num_epochs input")).to_have_value("9")
    expect(page.locator("#field-data-sample_count input, #field-data-sample_count textarea").first).to_have_value("77")


def test_the_preview_shows_samples_findings_memory_and_time(page: Page, server: Server) -> None:
    rows = [{"prompt": f"{i} plus 1", "completion": str(i + 1)} for i in range(40)]
    rows += [rows[0], *[{"prompt": "nothing", "completion": ""}] * 5]
    path = server.folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    fill(page, {"data.train": str(path)})
    page.locator("#geko-preview-button").click()
    expect(page.locator(".l-text .learned").first).to_contain_text("1", timeout=WAIT)
    expect(page.locator(".l-verdict")).to_contain_text("it fits", timeout=WAIT)
    expect(page.locator(".l-figures")).to_contain_text("of 46 rows")
    expect(page.locator(".l-findings")).to_contain_text("1 row equal to an earlier one: 41")
    left_out = "5 rows without anything to learn, left out: 42, 43, 44, 45, 46"
    expect(page.locator(".l-findings")).to_contain_text(left_out)
    expect(page.locator(".geko-start-warnings")).to_have_text(left_out)  # more than a tenth of the rows
    page.locator(".l-after").click()
    expect(page.locator(".l-number")).to_have_text("2 of 20")
    assert server.runs() == []
    page.locator(".l-close").click()
    expect(page.locator(".geko-preview")).to_be_hidden()


def test_a_preview_that_fails_says_why(page: Page, server: Server) -> None:
    path = server.folder / "empty.jsonl"
    path.write_text('{"text": ""}\n', encoding="utf-8")
    fill(page, {"data.train": str(path)})
    page.locator("#geko-preview-button").click()
    expect(page.locator(".l-error")).to_contain_text("has nothing to learn", timeout=WAIT)


@pytest.mark.parametrize(
    ("row", "field", "sentence"),
    [
        ({"prompt": "far too long " * 500, "completion": "x"}, "data-max_length", "Raise it."),
        (
            {"prompt": "a", "completion": "", "answer": "b"},
            "data-completion_column",
            "another column than 'completion'",
        ),
    ],
)
def test_rows_that_teach_nothing_are_refused_at_the_field_to_change_and_the_form_stays(
    page: Page, server: Server, row: dict[str, str], field: str, sentence: str
) -> None:
    path = server.folder / "rows.jsonl"
    path.write_text((json.dumps(row) + "\n") * 1200, encoding="utf-8")
    fill(page, {"data.max_length": "100", "data.train": str(path), "training.num_epochs": "7"})
    start(page)
    message = page.locator(f"#field-{field} .geko-field-error")  # its group is unfolded
    expect(message).to_contain_text("None of the 1,000 first rows has anything to learn", timeout=WAIT)
    expect(message).to_contain_text(sentence)
    expect(message).to_be_in_viewport()
    wait_for_phase(page, "failed")
    expect(page.locator("#field-training-num_epochs input")).to_have_value("7")
    expect(page.locator("#field-data-train input, #field-data-train textarea").first).to_have_value(str(path))
    (run,) = server.runs()
    types = [event["type"] for _, event in RunFolder(run).events()]
    assert "RunStarted" not in types and "Traceback" not in page.locator("body").inner_text()
    page.locator(f"#field-{field} input, #field-{field} textarea").first.fill("9")
    expect(message).to_have_count(0)  # it is being changed


def test_the_charts_are_drawn_over_tokens_too_and_saved_as_a_table(page: Page, server: Server) -> None:
    config = RunConfig.demo()
    config.output_dir = str(server.folder / "runs")
    ended(RunStore(config.output_dir), config)
    xs = "Array.from(document.querySelector('[data-chart=loss]').data[0].x)"
    page.wait_for_function(f"document.querySelector('[data-chart=loss]').data && {xs}.length > 2")
    steps = page.evaluate(xs)
    page.locator(".t-axis").select_option("tokens")
    page.wait_for_function(f"{xs}.length === {len(steps)} && {xs}[0] !== {steps[0]}")
    assert page.evaluate("document.querySelector('[data-chart=loss]').layout.xaxis.title.text") == "trained tokens"
    page.locator(".t-log").click()
    page.wait_for_function("document.querySelector('[data-chart=loss]').layout.yaxis.type === 'log'")
    page.wait_for_function(f"{xs}.length === {len(steps)}")
    with page.expect_download() as download:
        page.locator("[data-csv=loss]").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "trained tokens,each step,smoothed,evaluation" and len(lines) > len(steps)
    with page.expect_download() as picture:
        page.locator("[data-png=loss]").click()
    assert Path(picture.value.path()).read_bytes().startswith(b"\x89PNG")
