"""The Playground page: a conversation with the base model and the tuned one. Layout and thin handlers only."""

from __future__ import annotations

import secrets
from typing import Any

import gradio as gr

from geko_app.pages.components import ServerFunction, live_html, str_arg
from geko_app.pages.token_losses import start_job, token_loss_endpoints
from geko_app.services import Services
from geko_app.views.playground import default_run, generation_options, run_choice
from geko_app.views.serving import serving
from geko_app.workers.inference_jobs import SIDES, InferenceJobs, InferenceRequest, models_of
from geko_engine.exceptions import GekoError
from geko_engine.runs.folder import RunFolder

RUNS_LISTED = 100
MAX_REFERENCE = 40  # characters of the reference of an example
ROLES = ("user", "assistant")


def build(services: Services, _blocks: gr.Blocks) -> None:
    """Add the page to the open layout."""
    jobs = services.inference

    def begin_token_losses(query: Any) -> str:
        return jobs.token_losses(inference_request(query), sides_of(query))

    live_html(
        "playground",
        [_runs_endpoint(jobs), *_generation_endpoints(jobs), *token_loss_endpoints(jobs, begin_token_losses)],
    )


def _runs_endpoint(jobs: InferenceJobs) -> ServerFunction:
    bases: dict[str, str] = {}  # by run id; the base model of a run never changes

    def base_of(folder: RunFolder) -> str:
        if folder.id not in bases:
            bases[folder.id] = folder.config().model.name
        return bases[folder.id]

    def runs(_query: Any) -> dict[str, Any]:
        choices = []
        for entry in jobs.store.entries(RUNS_LISTED):
            try:
                folder = jobs.store.folder(entry.id)
                models = models_of(folder)
                if models:
                    choices.append(run_choice(entry, base_of(folder), models))
            except GekoError:
                continue  # a run that cannot be read has no model to ask
        return {"runs": choices, "default": default_run(choices)}

    return runs


def _generation_endpoints(jobs: InferenceJobs) -> list[ServerFunction]:
    def examples(query: Any) -> dict[str, Any]:
        return start_job(lambda: jobs.examples(str_arg(query, "run")))

    def ask(query: Any) -> dict[str, Any]:
        def submit() -> str:
            options = {**generation_options(query), "seed": secrets.randbelow(2**31)}
            return jobs.generate(inference_request(query), options, sides_of(query))

        return start_job(submit)

    def stop(query: Any) -> None:
        jobs.cancel(str_arg(query, "key"))

    def serve(query: Any) -> list[dict[str, Any]]:
        try:
            return serving(jobs.store.folder(str_arg(query, "run")))
        except GekoError:
            return []

    return [examples, ask, stop, serve]


def inference_request(query: Any) -> InferenceRequest:
    """The request that a script sent; run, model and lengths are checked when it is submitted."""
    return InferenceRequest(
        str_arg(query, "run"),
        str_arg(query, "which"),
        str_arg(query, "prompt"),
        str_arg(query, "answer"),
        str_arg(query, "example")[:MAX_REFERENCE],
        system=str_arg(query, "system"),
        turns=turns_of(query),
        chat=isinstance(query, dict) and query.get("chat") is True,
    )


def sides_of(query: Any) -> list[str]:
    """The sides that a script asks; both unless it says which."""
    wanted = query.get("sides") if isinstance(query, dict) else None
    return [side for side in SIDES if side in wanted] if isinstance(wanted, list) else list(SIDES)


def turns_of(query: Any) -> tuple[tuple[str, str], ...]:
    """The conversation before the prompt, as a script sent it: (role, text) of each turn; what is no turn is left out."""
    found = query.get("turns") if isinstance(query, dict) else None
    pairs = [turn for turn in found if isinstance(turn, list) and len(turn) == 2] if isinstance(found, list) else []
    return tuple((role, text) for role, text in pairs if role in ROLES and isinstance(text, str))
