"""The Train page: the form on the left, the live dashboard on the right. Layout and thin handlers only."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from geko_app import charts, form
from geko_app.hardware import hardware_strip
from geko_app.supervisor import Supervisor
from geko_app.view import payload
from geko_engine.assets import assets_path
from geko_engine.config import PRESETS
from geko_engine.exceptions import GekoError

OPEN_GROUPS = ("Model and data", "Training")
PULL_LIMIT = 16  # polls served at once


def build(supervisor: Supervisor) -> gr.Blocks:
    """The page as Gradio blocks, over one supervisor."""
    shown = form.defaults(str(supervisor.store.root))
    with gr.Blocks(title="GEKO", fill_width=True, analytics_enabled=False) as page:
        gr.HTML(_head(), padding=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=320, elem_id="geko-form"):
                inputs = _form(shown)
                start = gr.Button("Start training", variant="primary", elem_id="geko-start")
                message = gr.Markdown(elem_id="geko-message")
            with gr.Column(scale=9, min_width=320):
                gr.HTML(
                    html_template=_asset("dashboard.html"),
                    js_on_load=_asset("dashboard.js"),
                    elem_id="geko-live",
                    server_functions=_server_functions(supervisor),
                    padding=False,
                )
        start.click(
            _starter(supervisor),
            inputs,
            message,
            validator=_validate,
            concurrency_id="control",
            concurrency_limit=1,
            show_progress="hidden",
            api_visibility="private",
        )
    return page


def _asset(name: str) -> str:
    return (assets_path() / name).read_text(encoding="utf-8")


def _head() -> str:
    torch, machine = hardware_strip()
    return (
        f'<header class="geko-head">{_asset("logo.svg")}<div><h1>GEKO</h1>'
        "<p>Fine-tune a language model, and spend the compute where it counts.</p></div>"
        f'<div class="hardware" id="geko-hardware">{escape(torch)}<br>{escape(machine)}</div>'
        '<button type="button" id="geko-theme" aria-label="Switch between light and dark">◐</button></header>'
    )


def _form(shown: dict[str, Any]) -> list[gr.components.Component]:
    """All fields in the order of form.FIELDS; groups beyond the first ones are folded."""
    made: dict[str, gr.components.Component] = {}
    for group in form.GROUPS:
        fields = [field for field in form.FIELDS if field.group == group]
        if group in OPEN_GROUPS:
            gr.Markdown(f"### {group}")
            _fields(fields, shown, made)
        else:
            with gr.Accordion(group, open=False):
                _fields(fields, shown, made)
    return [made[field.key] for field in form.FIELDS]


def _fields(fields: list[form.FormField], shown: dict[str, Any], made: dict[str, Any]) -> None:
    """Neighbours that are half as wide share a row."""
    rows: list[list[form.FormField]] = []
    for field in fields:
        if field.half and rows and len(rows[-1]) == 1 and rows[-1][0].half:
            rows[-1].append(field)
        else:
            rows.append([field])
    for row in rows:
        with gr.Row(equal_height=True):
            for field in row:
                made[field.key] = _component(field, shown[field.key])


def _component(field: form.FormField, value: Any) -> gr.components.Component:
    common = {
        "label": field.label,
        "info": field.help,
        "elem_id": "field-" + field.key.replace(".", "-"),
        "min_width": 130,
    }
    if field.kind == "integer":
        return gr.Number(value, precision=None, placeholder=field.placeholder or None, **common)
    if field.kind == "check":
        return gr.Checkbox(value, **common)
    if field.kind == "preset":
        return gr.Dropdown([(name.capitalize(), name) for name in PRESETS], value=value, **common)
    return gr.Textbox(value, placeholder=field.placeholder or None, max_lines=1, **common)


def _validate(*values: Any) -> list[Any]:
    """Gradio's validator: one verdict a field, shown at the field."""
    problems = form.problems_of(values)
    return [gr.validate(field.key not in problems, problems.get(field.key, "")) for field in form.FIELDS]


def _starter(supervisor: Supervisor) -> Callable[..., str]:
    def start(*values: Any) -> str:
        # The validator only guards the browser; whoever calls the endpoint is checked here.
        problems = form.problems_of(values)
        if problems:
            return "\n\n".join(f"{form.label_of(key)}: {text}" for key, text in problems.items())
        try:
            supervisor.start(form.to_config(values))
        except GekoError as error:
            return str(error)
        return ""

    return start


def _server_functions(supervisor: Supervisor) -> list[Callable[[Any], Any]]:
    """What the dashboard's script may call; each gets one object, and each is a public endpoint."""

    def figures(_query: Any) -> dict[str, Any]:
        return charts.figures()

    def pull(query: Any) -> dict[str, Any]:
        run_id = current_run(supervisor, _text(query, "cleared"))
        if run_id is None:
            return {
                "run": None,
                "phase": "ready",
                "running": False,
                "resumable": False,
                "progress": 0,
                "status": {"title": "Ready", "detail": "", "life": ""},
            }
        feed = supervisor.feed(run_id)
        same = _text(query, "run") == run_id
        since, generation = (_whole(query, "since"), _whole(query, "generation")) if same else (0, -1)
        return payload(
            feed.folder, feed.state(), since=since, generation=generation, alive=supervisor.active() == run_id
        )

    def stop(query: Any) -> dict[str, str]:
        return _answer(lambda: supervisor.stop(_text(query, "run")))

    def resume(query: Any) -> dict[str, str]:
        return _answer(lambda: supervisor.resume(_text(query, "run")))

    return [figures, pull, stop, resume]


def current_run(supervisor: Supervisor, cleared: str) -> str | None:
    """The run that the page shows: the one at work, else the newest, unless this browser has cleared it."""
    active = supervisor.active()
    if active:
        return active
    newest = next(iter(supervisor.store.ids()), None)
    return newest if newest != cleared else None


def _answer(action: Callable[[], Any]) -> dict[str, str]:
    try:
        action()
    except GekoError as error:
        return {"error": str(error)}
    return {"error": ""}


def _text(query: Any, name: str) -> str:
    value = query.get(name) if isinstance(query, dict) else None
    return value if isinstance(value, str) else ""


def _whole(query: Any, name: str) -> int:
    value = query.get(name) if isinstance(query, dict) else None
    return value if isinstance(value, int) and value >= 0 else 0
