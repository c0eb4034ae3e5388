"""What every page that shows token losses asks the server for: to start a job, and how far it is. Knows no page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geko_app.pages.components import ServerFunction, int_arg, result_or_error, str_arg
from geko_app.views.playground import card
from geko_app.workers.inference_jobs import SIDES, InferenceJobs


def start_job(submit: Callable[[], str]) -> dict[str, Any]:
    """Submit a job: {"error": "", "key": of the job}, or the error and "" as the key."""
    return result_or_error(submit, "key")


def token_loss_endpoints(jobs: InferenceJobs, begin: Callable[[Any], str]) -> list[ServerFunction]:
    """What a script may call to show token losses; `job` follows jobs of every kind.

    Args:
        jobs: of the page.
        begin: submits the job for what a script sent, and returns its key.
    """

    def token_losses(query: Any) -> dict[str, Any]:
        return start_job(lambda: begin(query))

    def job(query: Any) -> dict[str, Any] | None:
        """The card of a job; None for an unknown key."""
        found = jobs.job(str_arg(query, "key"))
        drawn = query.get("drawn") if isinstance(query, dict) else None
        return card(found, {side: int_arg(drawn, side) for side in SIDES}) if found else None

    return [token_losses, job]
