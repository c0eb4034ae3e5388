"""The Try it page: the same prompt to the base model and to the tuned one. Layout and thin handlers only."""

from __future__ import annotations

import secrets
from typing import Any

import gradio as gr

from geko_app.pages.components import ServerFunction, live_html, text_of
from geko_app.pages.token_losses import keyed, looking
from geko_app.services import Services
from geko_app.views.playground import default_run, generation_options, run_choice
from geko_app.workers.inference_jobs import SIDES, InferenceJobs, InferenceRequest, models_of
from geko_engine.exceptions import GekoError
from geko_engine.runs.folder import RunFolder

RUNS_LISTED = 100


def build(services: Services, _blocks: gr.Blocks) -> None:
    """The page's one live part, inside whatever is open."""
    jobs = services.inference
    live_html("playground", [_runs(jobs), *_questions(jobs), _unsure(jobs), looking(jobs), _stop(jobs)])


def _runs(jobs: InferenceJobs) -> ServerFunction:
    bases: dict[str, str] = {}  # by run: what a run began with never changes

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
                continue  # a run that cannot be read has nothing to ask
        return {"runs": choices, "default": default_run(choices)}

    return runs


def _questions(jobs: InferenceJobs) -> list[ServerFunction]:
    def examples(query: Any) -> dict[str, str]:
        return keyed(lambda: jobs.examples(text_of(query, "run")))

    def ask(query: Any) -> dict[str, str]:
        def begin() -> str:
            return jobs.generate(asked_text(query), {**generation_options(query), "seed": secrets.randbelow(2**31)})

        return keyed(begin)

    return [examples, ask]


def _unsure(jobs: InferenceJobs) -> ServerFunction:
    def unsure(query: Any) -> dict[str, str]:
        sides = query.get("sides") if isinstance(query, dict) else None
        chosen = [side for side in SIDES if side in sides] if isinstance(sides, list) else SIDES
        return keyed(lambda: jobs.token_losses(asked_text(query), chosen))

    return unsure


def _stop(jobs: InferenceJobs) -> ServerFunction:
    def stop(query: Any) -> None:
        jobs.cancel(text_of(query, "key"))

    return stop


def asked_text(query: Any) -> InferenceRequest:
    """What a script asks about; run, model and lengths are checked where it is asked."""
    return InferenceRequest(
        text_of(query, "run"),
        text_of(query, "which"),
        text_of(query, "prompt"),
        text_of(query, "answer"),
        text_of(query, "example")[:40],
    )
