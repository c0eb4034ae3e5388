"""The Train page: the form on the left, the live dashboard on the right. Layout and thin handlers only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from geko_app.form import values as form
from geko_app.form.fields import FIELDS
from geko_app.pages import train_form
from geko_app.pages.components import QUIET, ServerFunction, live_html, plain, script_call, str_arg
from geko_app.pages.dashboard import dashboard_endpoints
from geko_app.pages.exports import export_endpoints
from geko_app.pages.form_helpers import foot_message
from geko_app.pages.train_form import Layout
from geko_app.services import Services
from geko_app.telemetry import Telemetry
from geko_app.views.dashboard import queued_message
from geko_app.views.preview import card
from geko_app.workers.hub_token import check_token
from geko_app.workers.preview_jobs import PreviewJobs
from geko_app.workers.supervisor import Supervisor
from geko_engine.exceptions import GekoError

FieldErrors = list[dict[str, str]]  # key of the setting, group of its field ("" if it has none), reason
NOWHERE: FieldErrors = [{"key": "", "group": "", "reason": ""}]  # an error that belongs to no field
# The values as the browser sent them: Gradio's own checks would end the call before ours could name the field.
AS_SENT: dict[str, Any] = {"preprocess": False}


def build(services: Services, blocks: gr.Blocks) -> None:
    """Add the page to the open layout.

    Args:
        services: behind the page.
        blocks: of the whole page; loading them restores the draft of the form.
    """
    supervisor = services.supervisor
    shown = form.defaults(str(supervisor.store.root))
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320, elem_id="geko-form"):
            layout = train_form.build(services, shown)
            with gr.Column(elem_id="geko-foot"):
                message = foot_message()
                with gr.Row(elem_classes="geko-start-row"):
                    preview = gr.Button("Check", elem_id="geko-preview-button", min_width=100)
                    start = gr.Button("Start training", variant="primary", elem_id="geko-start", min_width=140)
        with gr.Column(scale=9, min_width=320):
            live_html("preview", [_preview_endpoint(services.previews)])
            endpoints = [*dashboard_endpoints(supervisor, Telemetry()), *export_endpoints(services.exports)]
            live_html("dashboard", endpoints, elem_id="geko-live")
    _wire_start(services, layout, start, message)
    _wire_preview(services, layout, preview, message)
    train_form.keep_draft(layout, blocks)


def _wire_start(services: Services, layout: Layout, start: gr.Button, message: gr.Markdown) -> None:
    errors = gr.JSON(visible=False)
    clicked = start.click(
        _on_start(services.supervisor, services.checks),
        layout.inputs,
        [message, errors],
        concurrency_limit=None,
        **AS_SENT,
        **QUIET,
    )
    _show_field_errors(clicked, errors)


def _wire_preview(services: Services, layout: Layout, preview: gr.Button, message: gr.Markdown) -> None:
    key, errors = gr.Textbox(visible=False), gr.JSON(visible=False)
    outputs = [key, message, errors]
    on_preview = _on_preview(services.previews, services.checks)
    clicked = preview.click(on_preview, layout.inputs, outputs, concurrency_limit=None, **AS_SENT, **QUIET)
    _show_field_errors(clicked, errors)
    clicked.success(
        fn=None,
        inputs=key,
        js="(key) => { window.dispatchEvent(new CustomEvent('geko-preview', { detail: key })); }",
        **QUIET,
    )


def _show_field_errors(clicked: Any, errors: gr.JSON) -> None:
    """After an event: show its errors at the fields, and unfold the groups that hold them."""
    clicked.then(fn=None, inputs=errors, js=script_call("form_errors", "fieldErrors"), **QUIET)


def _on_start(supervisor: Supervisor, check: form.Check) -> Callable[..., tuple[str, FieldErrors]]:
    def start(*values: Any) -> tuple[str, FieldErrors]:
        try:
            problems = _problems(values, check)
            if problems:
                return not_started(problems, "Not started."), field_errors(problems)
            run_id = supervisor.start(form.to_config(values[:-1]), hub_token(values))
        except GekoError as error:
            return plain(str(error)), NOWHERE
        return queue_message(supervisor, run_id), []

    return start


def _on_preview(previews: PreviewJobs, check: form.Check) -> Callable[..., tuple[str, str, FieldErrors]]:
    def preview(*values: Any) -> tuple[str, str, FieldErrors]:
        try:
            problems = _problems(values, check)
            if problems:
                return "", not_started(problems, "Not checked."), field_errors(problems)
            return previews.start(form.to_config(values[:-1]), hub_token(values)), "", []
        except GekoError as error:
            return "", plain(str(error)), NOWHERE

    return preview


def _problems(values: tuple[Any, ...], check: form.Check) -> dict[str, str]:
    """What is wrong with the form: its values, else its names and files, else what the Hub does not give.

    Asking the Hub here takes a moment; a run would say the same, after it has loaded its libraries.
    """
    token = hub_token(values)
    check_token(token)
    return form.problems_of(values[:-1], check) or form.hub_problems_of(values[:-1], token)


def hub_token(values: tuple[Any, ...]) -> str:
    """The Hub token, which is the last of the form's values; "" if there is none."""
    return values[-1].strip() if values and isinstance(values[-1], str) else ""


def not_started(problems: Mapping[str, str], begin: str) -> str:
    """What to say at the button: the first problem in the order of the form, and the labels of the others.

    Args:
        problems: message by key of a setting.
        begin: the first words.
    """
    first, *others = in_form_order(problems)
    also = f" Also wrong: {', '.join(map(form.label_of, others))}." if others else ""
    return f"**{begin}** {plain(f'{form.label_of(first)}: {problems[first]}{also}')}"


def field_errors(problems: Mapping[str, str]) -> FieldErrors:
    """The problems for the script that shows them at their fields, the first of the form first.

    Args:
        problems: message by key of a setting.
    """
    groups = {field.key: field.group for field in FIELDS}
    found = [(key, groups.get(key, ""), problems[key]) for key in in_form_order(problems)]
    return [{"key": key, "group": group, "reason": reason} for key, group, reason in found]


def in_form_order(problems: Mapping[str, str]) -> list[str]:
    """The keys of `problems` as their fields follow each other; settings without a field come last."""
    order = {field.key: number for number, field in enumerate(FIELDS)}
    return sorted(problems, key=lambda key: order.get(key, len(order)))


def queue_message(supervisor: Supervisor, run_id: str) -> str:
    """What to say of a run that was queued; "" if it has started."""
    place, waits = supervisor.queue_place(run_id)
    return queued_message(place, plain(waits)) if place else ""


def _preview_endpoint(previews: PreviewJobs) -> ServerFunction:
    def preview(query: Any) -> dict[str, Any] | None:
        """The card of a preview; None for an unknown key. Its samples are left out if the tab has them."""
        events = previews.events(str_arg(query, "key"))
        if events is None:
            return None
        shown = card(events)
        return {**shown, "samples": None} if isinstance(query, dict) and query.get("samples") is True else shown

    return preview
