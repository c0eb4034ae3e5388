"""What the Review and the Changes of the Samples page may call: decide, undo, ask the model. Thin handlers only; knows no layout."""

from __future__ import annotations

from typing import Any

from geko_app.form.rerun_options import EndedRun, offered
from geko_app.pages.components import ServerFunction, int_arg, result_or_error, result_or_sentence, str_arg
from geko_app.pages.dashboard import start_variant
from geko_app.pages.sample_query import query_of
from geko_app.samples.corrections import can_edit, changes, decide
from geko_app.samples.exclusions import flagged_rows
from geko_app.samples.reruns import corrected_rows
from geko_app.samples.store import Samples, SampleStore
from geko_app.samples.suggested_answers import accept
from geko_app.views import corrections as correction_views
from geko_app.views import review as review_views
from geko_app.views.corrections import decided_of, newest_decisions
from geko_app.workers.inference_jobs import InferenceJobs, InferenceRequest, models_of
from geko_app.workers.supervisor import Supervisor
from geko_engine.data.corrections import DELETE, KEEP, ORIGINS, REPLACE, UNDO
from geko_engine.exceptions import RunError

MAX_IDS = 100_000  # that one call may name
ANSWER_OPTIONS = {"max_new_tokens": 512, "temperature": 0.0, "top_p": 1.0, "seed": 0}  # greedy: the model's own answer
RETRAINING = ("corrected", "corrected_anew")  # variants of geko_app.form.rerun_options
ALL_UNDONE = "There is no decision to undo any more: it was undone in another tab."
MADE_ELSEWHERE = (
    "The newest decision was made elsewhere, by a program or in another tab: press U again to undo it all the same."
)
CHANGED_MEANWHILE = "Other samples match by now, so nothing was done: look at them, and try again."
Result = dict[str, Any]


def review_endpoints(supervisor: Supervisor, store: SampleStore, jobs: InferenceJobs) -> list[ServerFunction]:
    """Each gets one object and is a public endpoint."""
    return [*_reading(store), *_deciding(store), *_working(supervisor, store, jobs)]


def _reading(store: SampleStore) -> list[ServerFunction]:
    def review(query: Any) -> Result:
        return result_or_sentence(lambda: _queue(store.samples(str_arg(query, "run")), query))

    def review_one(query: Any) -> Result:
        """One sample, wherever it is in the queue."""
        return result_or_sentence(lambda: {"card": _card(store.samples(str_arg(query, "run")), int_arg(query, "id"))})

    def corrections(query: Any) -> Result:
        return result_or_sentence(lambda: _changes(store.samples(str_arg(query, "run")), int_arg(query, "page")))

    def preview_all(query: Any) -> Result:
        """What a bulk action would do."""
        return result_or_sentence(lambda: _preview(store.samples(str_arg(query, "run")), query))

    return [review, review_one, corrections, preview_all]


def _deciding(store: SampleStore) -> list[ServerFunction]:
    def decide_sample(query: Any) -> Result:
        """Decide one sample; answers with the next ones."""
        return result_or_sentence(lambda: _decide(store, query))

    def decide_all(query: Any) -> Result:
        """Do a bulk action that was previewed."""
        return result_or_sentence(lambda: _decide_all(store.samples(str_arg(query, "run")), query))

    def undo(query: Any) -> Result:
        return result_or_sentence(lambda: _undo(store.samples(str_arg(query, "run")), query))

    def undo_newest(query: Any) -> Result:
        """Undo what was decided last, in whichever tab: one sample, or a bulk action as a whole."""
        return result_or_sentence(lambda: _undo_newest(store.samples(str_arg(query, "run")), _text(query, "newest")))

    return [decide_sample, decide_all, undo, undo_newest]


def _working(supervisor: Supervisor, store: SampleStore, jobs: InferenceJobs) -> list[ServerFunction]:
    def model_answer(query: Any) -> Result:
        """Let the newest model of the run answer a sample's prompt; `job` follows it."""
        return result_or_error(lambda: _ask_model(jobs, store.samples(str_arg(query, "run")), query), "key")

    def stop_answer(query: Any) -> None:
        jobs.cancel(str_arg(query, "key"))

    def retrain(query: Any) -> Result:
        name = str_arg(query, "name")
        if name not in RETRAINING:
            return {"error": f"There is no way {name!r} to retrain: choose one of {', '.join(RETRAINING)}."}
        return start_variant(supervisor, str_arg(query, "run"), name)

    return [model_answer, stop_answer, retrain]


# ---------------------------------------------------------------- reading


def _queue(samples: Samples, query: Any) -> Result:
    skipped = set(_ids(query, "skipped"))
    return review_views.queue(samples, query_of(query), flagged_rows(samples.folder), decided_of(samples), skipped)


def _card(samples: Samples, index: int) -> Result:
    return review_views.card(samples, min(index, samples.count - 1), decided_of(samples))


def _changes(samples: Samples, page: int) -> Result:
    return correction_views.changes_page(changes(samples), page, samples.first_of_row)


def _bulk(samples: Samples, query: Any) -> review_views.Bulk:
    action = str_arg(query, "action")
    if action not in (KEEP, DELETE, review_views.ACCEPT):
        raise RunError(f"There is no bulk action {action!r}: choose keep, delete or accept.")
    left = review_views.undecided(samples, query_of(query), flagged_rows(samples.folder), decided_of(samples))
    return review_views.bulk(samples, left.tolist(), action)


def _preview(samples: Samples, query: Any) -> Result:
    bulk = _bulk(samples, query)
    return {"said": bulk.sentence, "key": bulk.key, "count": len(bulk.ids)}


# ---------------------------------------------------------------- deciding


def _decide(store: SampleStore, query: Any) -> Result:
    run = str_arg(query, "run")
    samples, index, action = store.samples(run), int_arg(query, "id"), str_arg(query, "action")
    if index >= samples.count or action not in (KEEP, DELETE, REPLACE):
        raise RunError("This decision is not possible: reload the page.")
    if action == REPLACE:
        origin = str_arg(query, "origin")
        if origin not in ORIGINS:
            raise RunError(f"There is no origin {origin!r}: choose one of {', '.join(ORIGINS)}.")
        decide(samples, [index], action, prompt=_text(query, "prompt"), answer=_text(query, "answer"), origin=origin)
    else:
        decide(samples, [index], action)
    return _queue(store.samples(run), query)


def _text(query: Any, name: str) -> str | None:
    """A text of what a script sent; None where it sent none, so that it stays as it was."""
    return str_arg(query, name) if isinstance(query, dict) and isinstance(query.get(name), str) else None


def _decide_all(samples: Samples, query: Any) -> Result:
    bulk = _bulk(samples, query)
    if bulk.key != str_arg(query, "key"):
        raise RunError(CHANGED_MEANWHILE)
    action = str_arg(query, "action")
    if action == review_views.ACCEPT:
        accept(samples, bulk.ids)
    else:
        decide(samples, bulk.ids, action)
    return {"ids": bulk.ids}


def _undo(samples: Samples, query: Any) -> Result:
    decided = decided_of(samples)
    ids = [index for index in _ids(query, "ids") if index in decided]
    if not ids:
        raise RunError(ALL_UNDONE)
    decide(samples, ids, UNDO)
    return {"ids": ids}


def _undo_newest(samples: Samples, seen: str | None) -> Result:
    """`seen`: when the newest decision was made that the tab knows of; a later one is not undone unseen."""
    newest = newest_decisions(samples)
    if not newest:
        raise RunError(ALL_UNDONE)
    made = next(iter(newest.values()))
    if seen is not None and seen != made.at:
        raise RunError(MADE_ELSEWHERE)
    decide(samples, newest, UNDO)
    return {"ids": list(newest), "row": made.row, "action": made.action, "origin": made.origin}


def _ids(query: Any, name: str) -> list[int]:
    given = query.get(name) if isinstance(query, dict) else None
    return [i for i in given[:MAX_IDS] if type(i) is int and i >= 0] if isinstance(given, list) else []


# ---------------------------------------------------------------- the model's own answer


def _ask_model(jobs: InferenceJobs, samples: Samples, query: Any) -> str:
    index = min(int_arg(query, "id"), samples.count - 1)
    models = models_of(samples.folder)
    if not models:
        raise RunError("The run has no model and no checkpoint yet, so there is nobody to ask.")
    if fixed := can_edit(samples, index):
        raise RunError(fixed)
    asked = review_views.asked(samples, index)
    request = InferenceRequest(samples.folder.id, models[0], asked.prompt, system=asked.system, turns=asked.turns)
    return jobs.generate(request, ANSWER_OPTIONS, sides=("tuned",))


def offered_retraining(samples: Samples) -> list[Result]:
    """The ways to train again with the decisions of a run, as its dashboard offers them too; [] if they change nothing."""
    end = status.end if (status := samples.folder.status()) is not None else ""
    ended = EndedRun(samples.config, end, corrected=corrected_rows(samples.folder))
    return [variant for variant in offered(ended) if variant["name"] in RETRAINING]
