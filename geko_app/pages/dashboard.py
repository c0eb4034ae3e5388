"""What the dashboard of the Train page may call: the run that it shows, live, and what can be done with it. Thin handlers only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geko_app.form.rerun_options import Subset
from geko_app.pages.components import ServerFunction, int_arg, result_or_error, str_arg
from geko_app.runs.summary import FactsReader, RunFacts
from geko_app.samples.reruns import run_again
from geko_app.telemetry import Telemetry
from geko_app.views import charts
from geko_app.views.dashboard import NOTHING, Cursor, payload, queue_line, run_label, with_gpus
from geko_app.views.runs import baselines
from geko_app.views.usage import usage_charts
from geko_app.workers.supervisor import Supervisor
from geko_engine.exceptions import RunError

RUNS_LISTED = 50


def dashboard_endpoints(supervisor: Supervisor, telemetry: Telemetry) -> list[ServerFunction]:
    """Each gets one object and is a public endpoint."""
    reader = FactsReader()

    def figures(_query: Any) -> dict[str, Any]:
        return charts.figures()

    def pull(query: Any) -> dict[str, Any]:
        run_id = current_run(supervisor, shown=str_arg(query, "shown"), cleared=str_arg(query, "cleared"))
        if run_id is None:
            return {**NOTHING, "active": None, "all_active": []}
        supervisor.attach_or_close(run_id)
        feed, active = supervisor.feed(run_id), supervisor.all_active()
        cursor = _cursor(query) if str_arg(query, "run") == run_id else Cursor()
        place = supervisor.queue_place(run_id)
        shown = payload(feed.folder, feed.state(), cursor, alive=supervisor.alive(run_id), queued=place)
        waiting = queue_line([supervisor.store.name(run.id) for run in supervisor.queue.waiting()], len(active))
        status = feed.folder.status() if shown["running"] else None
        usage = telemetry.history(status.pid) if status is not None and status.pid else []
        both = {"active": active[0] if active else None, "all_active": active}
        settings = with_gpus(shown["settings"], supervisor.given_gpus(run_id))
        return {**shown, **both, "settings": settings, "waiting": waiting, "usage": usage_charts(usage)}

    def runs(_query: Any) -> list[list[str]]:
        return [[entry.id, run_label(entry)] for entry in supervisor.store.entries(RUNS_LISTED)]

    def stop(query: Any) -> dict[str, str]:
        return result_or_error(lambda: supervisor.stop(str_arg(query, "run"), now=query.get("now") is True))

    def resume(query: Any) -> dict[str, str]:
        return result_or_error(lambda: supervisor.resume(str_arg(query, "run")))

    def variant(query: Any) -> dict[str, str]:
        return start_variant(supervisor, str_arg(query, "run"), str_arg(query, "name"))

    def partner(query: Any) -> dict[str, str]:
        """The run to compare a run with, and how it ended: its plain baseline, or the run that it is the baseline of."""
        facts = partner_of(supervisor, reader, str_arg(query, "run"))
        return {"run": facts.id, "end": facts.end} if facts else {"run": "", "end": ""}

    return [figures, pull, runs, stop, resume, variant, partner]


def start_variant(
    supervisor: Supervisor, run_id: str, name: str, subset: Callable[[], Subset] | None = None
) -> dict[str, str]:
    """Start a changed copy of a run, or queue it.

    Args:
        subset: writes the file of the rows that the run is to have; None for all rows.
    """

    def start() -> str:
        folder = supervisor.store.folder(run_id)
        part = subset() if subset is not None else None
        return supervisor.start(run_again(folder, name, part))

    return result_or_error(start)


def partner_of(supervisor: Supervisor, reader: FactsReader, run_id: str) -> RunFacts | None:
    """The run that differs from this one in nothing but GEKO on or off, the newest if there are several; None without one."""
    known: dict[str, RunFacts] = {}
    for other in supervisor.store.ids():  # newest first
        try:
            known[other] = reader.facts(supervisor.store.folder(other))
        except RunError:
            continue  # just deleted
    twins = baselines(known.values())
    if run_id in twins:
        return known[twins[run_id]]
    return next((known[plain] for plain in known if twins.get(plain) == run_id), None)


def current_run(supervisor: Supervisor, *, shown: str, cleared: str) -> str | None:
    """The run that a tab shows: the one chosen, else the active one, else the newest one.

    Args:
        supervisor: of the runs.
        shown: id of the run that was chosen, "" for none.
        cleared: id of the newest run if the tab has cleared it from view.
    """
    ids = supervisor.store.ids()
    if shown in ids:
        return shown
    newest = ids[0] if ids and ids[0] != cleared else None
    return supervisor.active() or newest


def _cursor(query: dict[str, Any]) -> Cursor:
    had = query.get("cursor")
    names = ("generation", "points", "evaluations", "log", "answers")
    return Cursor(**{name: int_arg(had, name) for name in names})
