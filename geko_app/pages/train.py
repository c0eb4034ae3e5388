"""The Train page: the form on the left, the live dashboard on the right. Layout and thin handlers only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from geko_app.form import values as form
from geko_app.form.fields import FIELDS
from geko_app.form.rerun_options import changed
from geko_app.pages import train_form
from geko_app.pages.components import answer, live_html, text_of, whole_of
from geko_app.pages.train_form import Layout
from geko_app.services import Services
from geko_app.views import charts
from geko_app.views.dashboard import NOTHING, Cursor, payload, queue_line, queued_message, run_label
from geko_app.views.preview import card
from geko_app.workers.preview_jobs import PreviewJobs
from geko_app.workers.supervisor import Supervisor
from geko_engine.exceptions import GekoError

RUNS_LISTED = 50


def build(services: Services, blocks: gr.Blocks) -> None:
    """The page's components, inside whatever is open; `blocks` fills the form in when the page is loaded."""
    supervisor, previews = services.supervisor, services.previews
    shown = form.defaults(str(supervisor.store.root))
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320, elem_id="geko-form"):
            layout = train_form.build(supervisor.store, shown)
            with gr.Row(elem_classes="geko-start-row"):
                look = gr.Button("Preview data & memory", elem_id="geko-preview-button", min_width=120)
                start = gr.Button("Start training", variant="primary", elem_id="geko-start", min_width=120)
            message = gr.Markdown(elem_id="geko-message")
        with gr.Column(scale=9, min_width=320):
            live_html("preview", [_look_at(previews)])
            live_html("dashboard", _server_functions(supervisor), elem_id="geko-live")
    _wire(supervisor, layout, start, message)
    _wire_look(previews, layout, look, message)
    train_form.keep_draft(layout, blocks)


def _wire(supervisor: Supervisor, layout: Layout, start: gr.Button, message: gr.Markdown) -> None:
    inputs = layout.inputs
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    control = {"concurrency_id": "control", "concurrency_limit": 1}
    start.click(_starter(supervisor), inputs, message, validator=_validate, **control, **quiet)
    # The validator marks the fields, but a folded group would hide its mark.
    start.click(
        _shower(list(layout.folded)), inputs, [message, *layout.folded.values()], concurrency_limit=None, **quiet
    )


def _wire_look(previews: PreviewJobs, layout: Layout, look: gr.Button, message: gr.Markdown) -> None:
    inputs = layout.inputs
    key = gr.Textbox(visible=False)
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    look.click(
        _look_starter(previews), inputs, [key, message], validator=_validate, concurrency_limit=None, **quiet
    ).success(
        fn=None,
        inputs=key,
        js="(key) => { window.dispatchEvent(new CustomEvent('geko-preview', { detail: key })); }",
        **quiet,
    )
    look.click(
        _shower(list(layout.folded)), inputs, [message, *layout.folded.values()], concurrency_limit=None, **quiet
    )


def _validate(*values: Any) -> list[Any]:
    """Gradio's validator: one verdict a field, shown at the field."""
    problems = form.problems_of(values[:-1])
    verdicts = [gr.validate(field.key not in problems, problems.get(field.key, "")) for field in FIELDS]
    return [*verdicts, gr.validate(True, "")]  # the last one is the token's


def token_of(values: tuple[Any, ...]) -> str:
    """The Hub token among the values of the form; "" for what is none."""
    return values[-1].strip() if values and isinstance(values[-1], str) else ""


def _starter(supervisor: Supervisor) -> Callable[..., str]:
    def start(*values: Any) -> str:
        # The validator only guards the browser; whoever calls the endpoint is checked here.
        problems = form.problems_of(values[:-1])
        if problems:
            return "\n\n".join(f"{form.label_of(key)}: {text}" for key, text in problems.items())
        try:
            return lined_up(supervisor, supervisor.start(form.to_config(values[:-1]), token_of(values)))
        except GekoError as error:
            return str(error)

    return start


def lined_up(supervisor: Supervisor, run_id: str) -> str:
    """Where a run stands in the queue, in words; "" when it has begun."""
    after = supervisor.queued_after(run_id)
    if after is None:
        return ""
    place = len(supervisor.queue.ahead_of(run_id)) + 1
    return queued_message(place, after)


def _look_starter(previews: PreviewJobs) -> Callable[..., tuple[str, str]]:
    def look(*values: Any) -> tuple[str, str]:
        problems = form.problems_of(values[:-1])
        if problems:
            return "", "\n\n".join(f"{form.label_of(key)}: {text}" for key, text in problems.items())
        try:
            return previews.start(form.to_config(values[:-1]), token_of(values)), ""
        except GekoError as error:
            return "", str(error)

    return look


def _look_at(previews: PreviewJobs) -> Callable[[Any], dict[str, Any] | None]:
    """What the look's script asks; a public endpoint."""

    def look(query: Any) -> dict[str, Any] | None:
        events = previews.events(text_of(query, "key"))
        if events is None:
            return None
        shown = card(events)
        return {**shown, "samples": None} if isinstance(query, dict) and query.get("samples") is True else shown

    return look


def _shower(folded: list[str]) -> Callable[..., list[Any]]:
    """Says at the Start button which fields need a change, and unfolds the groups that hold one."""

    def show(*values: Any) -> list[Any]:
        problems = form.problems_of(values[:-1])
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
        supervisor.attach_or_close(run_id)
        feed, active = supervisor.feed(run_id), supervisor.active()
        cursor = _cursor(query) if text_of(query, "run") == run_id else Cursor()
        alive, after = supervisor.alive(run_id), supervisor.queued_after(run_id)
        shown = payload(feed.folder, feed.state(), cursor, alive=alive, after=after)
        waiting = queue_line([run.id for run in supervisor.queue.waiting()])
        return {**shown, "active": active, "waiting": waiting}

    def runs(_query: Any) -> list[list[str]]:
        return [[entry.id, run_label(entry)] for entry in supervisor.store.entries(RUNS_LISTED)]

    def stop(query: Any) -> dict[str, str]:
        return answer(lambda: supervisor.stop(text_of(query, "run")))

    def resume(query: Any) -> dict[str, str]:
        return answer(lambda: supervisor.resume(text_of(query, "run")))

    def variant(query: Any) -> dict[str, str]:
        return _begin_variant(supervisor, text_of(query, "run"), text_of(query, "name"))

    return [figures, pull, runs, stop, resume, variant]


def _begin_variant(supervisor: Supervisor, run_id: str, name: str) -> dict[str, str]:
    """Start a run again with a change, or line it up."""
    return answer(lambda: supervisor.start(changed(supervisor.store.folder(run_id).config(), name)))


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
