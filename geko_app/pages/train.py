"""The Train page: the form on the left, the live dashboard on the right. Layout and thin handlers only."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import gradio as gr

from geko_app import charts, form
from geko_app.look_view import card
from geko_app.looks import Looks
from geko_app.pages.parts import answer, asset, live_html, text_of, whole_of
from geko_app.supervisor import Supervisor
from geko_app.view import NOTHING, Cursor, payload, queue_line, run_label, run_name
from geko_engine.config import PRESETS
from geko_engine.exceptions import GekoError
from geko_engine.files import FILE_KINDS

OPEN_GROUPS = ("Model and data", "Training")
RUNS_LISTED = 50


def build(supervisor: Supervisor, looks: Looks) -> None:
    """The page's components, inside whatever is open: over one supervisor and the looks before a start."""
    shown = form.defaults(str(supervisor.store.root))
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320, elem_id="geko-form"):
            layout = _form(supervisor, shown)
            with gr.Row(elem_classes="geko-start-row"):
                look = gr.Button("Look at the data", elem_id="geko-look-button", min_width=120)
                start = gr.Button("Start training", variant="primary", elem_id="geko-start", min_width=120)
            message = gr.Markdown(elem_id="geko-message")
        with gr.Column(scale=9, min_width=320):
            live_html("look", [_look_at(looks)])
            live_html("dashboard", _server_functions(supervisor), elem_id="geko-live")
    _wire(supervisor, layout, start, message)
    _wire_look(looks, layout, look, message)


@dataclass
class _Layout:
    """The form's components: fields by key, folded groups by name."""

    fields: dict[str, gr.components.Component] = dataclass_field(default_factory=dict)
    folded: dict[str, gr.Accordion] = dataclass_field(default_factory=dict)


def _wire(supervisor: Supervisor, layout: _Layout, start: gr.Button, message: gr.Markdown) -> None:
    inputs = [layout.fields[field.key] for field in form.FIELDS]
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    control = {"concurrency_id": "control", "concurrency_limit": 1}
    start.click(_starter(supervisor), inputs, message, validator=_validate, **control, **quiet)
    # The validator marks the fields, but a folded group would hide its mark.
    start.click(
        _shower(list(layout.folded)), inputs, [message, *layout.folded.values()], concurrency_limit=None, **quiet
    )
    rules = form.demo_rules()
    keys = [rule["key"] for rule in rules]
    followed = sorted({key for rule in rules for key in rule["follows"]})
    script = f"({asset('form.js')})({json.dumps(rules)}, {json.dumps([*followed, *keys])})"
    gr.on(
        [layout.fields[key].change for key in followed],
        fn=None,
        inputs=[layout.fields[key] for key in [*followed, *keys]],
        outputs=[layout.fields[key] for key in keys],
        js=script,
        show_progress="hidden",
        api_visibility="private",
    )


def _wire_look(looks: Looks, layout: _Layout, look: gr.Button, message: gr.Markdown) -> None:
    inputs = [layout.fields[field.key] for field in form.FIELDS]
    key = gr.Textbox(visible=False)
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    look.click(
        _look_starter(looks), inputs, [key, message], validator=_validate, concurrency_limit=None, **quiet
    ).success(
        fn=None,
        inputs=key,
        js="(key) => { window.dispatchEvent(new CustomEvent('geko-look', { detail: key })); }",
        **quiet,
    )
    look.click(
        _shower(list(layout.folded)), inputs, [message, *layout.folded.values()], concurrency_limit=None, **quiet
    )


def _form(supervisor: Supervisor, shown: dict[str, Any]) -> _Layout:
    """All fields in the order of form.FIELDS; groups beyond the first ones are folded."""
    layout = _Layout()
    for group in form.GROUPS:
        fields = [field for field in form.FIELDS if field.group == group]
        if group in OPEN_GROUPS:
            gr.Markdown(f"### {group}")
            _fields(supervisor, fields, shown, layout)
        else:
            with gr.Accordion(group, open=False) as folded:
                _fields(supervisor, fields, shown, layout)
            layout.folded[group] = folded
    return layout


def _fields(supervisor: Supervisor, fields: list[form.FormField], shown: dict[str, Any], layout: _Layout) -> None:
    """Neighbours that are half as wide share a row; a field that takes files has its button beside it."""
    rows: list[list[form.FormField]] = []
    for field in fields:
        if field.half and rows and len(rows[-1]) == 1 and rows[-1][0].half:
            rows[-1].append(field)
        else:
            rows.append([field])
    for row in rows:
        with gr.Row(
            equal_height=not row[0].upload, elem_classes="geko-with-upload" if row[0].upload else "geko-fields"
        ):
            for field in row:
                layout.fields[field.key] = _component(field, shown[field.key])
                if field.upload:
                    _upload_button(supervisor, field, layout.fields[field.key])


def _upload_button(supervisor: Supervisor, field: form.FormField, target: gr.components.Component) -> None:
    """A file from the visitor's machine: kept beside the runs, its path put into `target`."""

    def keep(path: str) -> str:
        try:
            return str(supervisor.store.keep_upload(path))
        except GekoError as error:
            raise gr.Error(str(error), print_exception=False) from error

    button = gr.UploadButton(
        "Upload",
        file_types=list(FILE_KINDS),
        size="sm",
        scale=0,
        min_width=88,
        elem_id="upload-" + field.key.replace(".", "-"),
    )
    button.upload(keep, button, target, show_progress="hidden", api_visibility="private")


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
    if field.kind == "choice":
        return gr.Dropdown([(str(choice), choice) for choice in field.choices], value=value, **common)
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
            return lined_up(supervisor, supervisor.start(form.to_config(values)))
        except GekoError as error:
            return str(error)

    return start


def lined_up(supervisor: Supervisor, run_id: str) -> str:
    """Where a run stands in the queue, in words; "" when it has begun."""
    after = supervisor.waits_for(run_id)
    if after is None:
        return ""
    place = len(supervisor.queue.ahead_of(run_id)) + 1
    return f"*Lined up as number {place}: it begins after {run_name(after)}. The Runs page lists it.*"


def _look_starter(looks: Looks) -> Callable[..., tuple[str, str]]:
    def look(*values: Any) -> tuple[str, str]:
        problems = form.problems_of(values)
        if problems:
            return "", "\n\n".join(f"{form.label_of(key)}: {text}" for key, text in problems.items())
        return looks.start(form.to_config(values), os.environ), ""

    return look


def _look_at(looks: Looks) -> Callable[[Any], dict[str, Any] | None]:
    """What the look's script asks; a public endpoint."""

    def look(query: Any) -> dict[str, Any] | None:
        events = looks.events(text_of(query, "key"))
        if events is None:
            return None
        shown = card(events)
        return {**shown, "samples": None} if isinstance(query, dict) and query.get("samples") is True else shown

    return look


def _shower(folded: list[str]) -> Callable[..., list[Any]]:
    """Says at the Start button which fields need a change, and unfolds the groups that hold one."""

    def show(*values: Any) -> list[Any]:
        problems = form.problems_of(values)
        if not problems:
            return [gr.skip() for _ in range(1 + len(folded))]
        labels = ", ".join(form.label_of(key) for key in problems)
        groups = form.groups_of(problems)
        return [
            f"Not started. Please check: {labels}.",
            *(gr.update(open=True) if g in groups else gr.skip() for g in folded),
        ]

    return show


def _server_functions(supervisor: Supervisor) -> list[Callable[[Any], Any]]:
    """What the dashboard's script may call; each gets one object, and each is a public endpoint."""

    def figures(_query: Any) -> dict[str, Any]:
        return charts.figures()

    def pull(query: Any) -> dict[str, Any]:
        run_id = current_run(supervisor, shown=text_of(query, "shown"), cleared=text_of(query, "cleared"))
        if run_id is None:
            return {**NOTHING, "active": None}
        supervisor.look(run_id)
        feed, active = supervisor.feed(run_id), supervisor.active()
        cursor = _cursor(query) if text_of(query, "run") == run_id else Cursor()
        alive, after = supervisor.alive(run_id), supervisor.waits_for(run_id)
        shown = payload(feed.folder, feed.state(), cursor, alive=alive, after=after)
        waiting = queue_line([run.id for run in supervisor.queue.waiting()])
        return {**shown, "active": active, "waiting": waiting}

    def runs(_query: Any) -> list[list[str]]:
        return [[entry.id, run_label(entry)] for entry in supervisor.store.entries(RUNS_LISTED)]

    def stop(query: Any) -> dict[str, str]:
        return answer(lambda: supervisor.stop(text_of(query, "run")))

    def resume(query: Any) -> dict[str, str]:
        return answer(lambda: supervisor.resume(text_of(query, "run")))

    return [figures, pull, runs, stop, resume]


def current_run(supervisor: Supervisor, *, shown: str, cleared: str) -> str | None:
    """The run that the page shows: the one chosen, else the one at work, else the newest unless it was cleared here."""
    ids = supervisor.store.ids()
    if shown in ids:
        return shown
    newest = ids[0] if ids and ids[0] != cleared else None
    return supervisor.active() or newest


def _cursor(query: dict[str, Any]) -> Cursor:
    """The tab's cursor; what is no cursor counts as the beginning."""
    had = query.get("cursor")
    names = ("generation", "points", "evaluations", "log")
    return Cursor(**{name: whole_of(had, name) for name in names})
