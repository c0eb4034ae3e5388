"""What the export card of the Train page may call. Thin handlers only."""

from __future__ import annotations

from typing import Any

from geko_app.pages.components import ServerFunction, result_or_error, str_arg
from geko_app.views.exports import export_card
from geko_app.workers.export_jobs import ExportJobs, ExportOptions
from geko_engine.exceptions import GekoError


def export_endpoints(jobs: ExportJobs) -> list[ServerFunction]:
    """Each gets one object and is a public endpoint."""

    def exports(query: Any) -> dict[str, Any] | None:
        run_id = str_arg(query, "run")
        try:
            return export_card(jobs.store.folder(run_id), jobs.job(run_id))
        except GekoError:
            return None

    def export(query: Any) -> dict[str, Any]:
        return result_or_error(lambda: jobs.start(str_arg(query, "run"), str_arg(query, "to"), options_of(query)))

    def stop_export(query: Any) -> dict[str, Any]:
        return result_or_error(lambda: jobs.stop(str_arg(query, "run")))

    return [exports, export, stop_export]


def options_of(query: Any) -> ExportOptions:
    """The options that a script sent."""
    values = query if isinstance(query, dict) else {}
    return ExportOptions(
        str_arg(query, "repo").strip(),
        merged=values.get("merged") is True,
        private=values.get("public") is not True,
        token=str_arg(query, "token").strip(),
    )
