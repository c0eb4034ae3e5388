"""What every page that shows the losses of tokens asks the server: for a job's key, and how far a job is. Knows no page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geko_app.pages.components import ServerFunction, text_of, whole_of
from geko_app.views.playground import card
from geko_app.workers.inference_jobs import SIDES, InferenceJobs
from geko_engine.exceptions import GekoError


def keyed(begin: Callable[[], str]) -> dict[str, str]:
    """{"key": of the job, "error": ""}, or the sentence why there is none."""
    try:
        return {"key": begin(), "error": ""}
    except GekoError as error:
        return {"key": "", "error": str(error)}


def looking(jobs: InferenceJobs) -> ServerFunction:
    """The function `look`: how far any job is, None for a key that is not known any more."""

    def look(query: Any) -> dict[str, Any] | None:
        job = jobs.job(text_of(query, "key"))
        had = query.get("had") if isinstance(query, dict) else None
        return card(job, {side: whole_of(had, side) for side in SIDES}) if job else None

    return look
