"""Every field that can be wrong, wrong once, in a real Chromium: whoever presses Start sees why nothing starts."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Locator, Page, expect

from geko_app.form import values as form
from geko_app.form.fields import FIELDS, FormField
from geko_app.pages.train_form import OPEN_GROUPS
from tests.browser.conftest import Server
from tests.browser.test_train_page import unfold

pytestmark = [pytest.mark.browser, pytest.mark.slow]
BAD = {"text": ("two words", ""), "integer": (1.5,), "slider": (7,)}
DEFAULTS = form.defaults("/tmp/geko-runs-that-nobody-writes")


def wrong_value(field: FormField) -> str | None:
    """What a visitor could type into a field so that it alone is wrong; None if nothing is."""
    for value in BAD.get(field.kind, ()):
        values = [{**DEFAULTS, field.key: value}[f.key] for f in FIELDS]
        if list(form.problems_of(values)) == [field.key]:
            return str(value)
    return None


WRONG = {field: value for field in FIELDS if (value := wrong_value(field)) is not None}
START = {"bottom": "#geko-start", "top": ".geko-status .b-start", "check": "#geko-preview-button"}


def field_part(page: Page, field: FormField) -> Locator:
    return page.locator(f"#field-{field.key.replace('.', '-')}")


def box(page: Page, field: FormField) -> Locator:
    return field_part(page, field).locator("input:not([type=range]), textarea").first


def group_head(page: Page, field: FormField) -> Locator:
    return page.locator("#geko-form button.label-wrap", has_text=field.group).first


def attention(page: Page) -> Locator:
    return page.locator("#geko-foot .geko-attention")


def press_with(page: Page, field: FormField, value: str, button: Locator) -> str:
    """Type `value`, fold the field's group again, and press the button. Returns the value before."""
    folded = field.group not in OPEN_GROUPS
    if folded and not box(page, field).is_visible():
        unfold(page, field.group)
    before = box(page, field).input_value()
    box(page, field).fill(value)
    if field.kind == "slider":  # it corrects itself when the focus leaves it, so it is wrong only as long as it has it
        button.evaluate("button => button.click()")
        return before
    box(page, field).blur()
    if folded:
        group_head(page, field).click()
        expect(field_part(page, field)).to_be_hidden()
    button.click()
    return before


@pytest.mark.parametrize("press", START)
def test_a_wrong_field_is_shown_wherever_it_is(page: Page, server: Server, press: str) -> None:
    assert len(WRONG) > 35
    button = page.locator(START[press])
    for field, value in WRONG.items():
        before = press_with(page, field, value, button)
        message = field_part(page, field).locator(".geko-field-error")
        expect(message, f"{field.key} = {value!r}").to_be_in_viewport()
        expect(page.locator("#geko-message")).to_contain_text(f"{field.label}: {message.inner_text()[:20]}")
        expect(page.locator("#geko-message")).to_be_in_viewport()  # beside the button, wherever the form is scrolled
        expect(attention(page)).to_have_text("1 field needs attention")
        expect(box(page, field)).to_be_focused()
        box(page, field).fill(before)
        expect(message).to_have_count(0)
        expect(attention(page)).to_be_hidden()
    assert server.runs() == []


@pytest.mark.parametrize("press", START)
def test_of_several_wrong_fields_the_first_of_the_form_is_in_view(page: Page, press: str) -> None:
    unfold(page, "Optimization")
    for key in ("training.seed", "training.batch_size", "model.name"):
        field = next(field for field in WRONG if field.key == key)
        box(page, field).fill("" if key == "model.name" else "1.5")
    group_head(page, next(field for field in WRONG if field.key == "training.seed")).click()
    page.locator(START[press]).click()
    model = next(field for field in WRONG if field.key == "model.name")
    expect(field_part(page, model).locator(".geko-field-error")).to_be_in_viewport()
    expect(page.locator(".geko-field-error")).to_have_count(3)
    expect(page.locator("#geko-message")).to_contain_text("Model: ")
    expect(page.locator("#geko-message")).to_contain_text("Also wrong: Batch size, Seed.")
    box(page, model).fill("demo")
    expect(attention(page)).to_have_text("2 fields need attention")
    attention(page).click()
    batch = next(field for field in WRONG if field.key == "training.batch_size")
    expect(box(page, batch)).to_be_focused()


def test_a_model_that_is_nowhere_is_answered_at_its_field_and_starts_nothing(page: Page, server: Server) -> None:
    """The Hub is offline here: no process of a run is started to find that out."""
    model = next(field for field in FIELDS if field.key == "model.name")
    box(page, model).fill("owner/nowhere")
    for press in START.values():
        page.locator(press).click()
        message = field_part(page, model).locator(".geko-field-error")
        expect(message).to_contain_text("is not completely on this machine")
        expect(message).to_be_in_viewport()
        box(page, model).fill("owner/nowhere")
        expect(message).to_have_count(0)
    assert server.runs() == []


@pytest.mark.parametrize("key", ["data.chat_template", "training.precision", "geko.mastery"])
def test_a_choice_that_no_longer_exists_is_named(page: Page, server: Server, key: str) -> None:
    """It may come from the draft that the browser kept, which an earlier version wrote."""
    field = next(field for field in FIELDS if field.key == key)
    # Written as the page opens: the page that is there may still keep what its own form holds.
    page.add_init_script(f"localStorage.setItem('geko-draft-2', '{json.dumps({key: 'of yesterday'})}')")
    page.reload()
    page.wait_for_function("document.body.dataset.form === 'ready'")
    page.locator("#geko-start").click()
    expect(field_part(page, field).locator(".geko-field-error")).to_be_in_viewport()
    expect(page.locator("#geko-message")).to_contain_text(f"{field.label}: ")
    assert server.runs() == []
