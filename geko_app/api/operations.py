"""What a program may do with runs: start, list, watch, stop and resume them, read their samples, export their model.

The REST API and the MCP tools both call these functions. Plain values in, plain values out: knows no request and no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from geko_app.runs.queue import QUEUED
from geko_app.runs.summary import FactsReader, hide_webhook
from geko_app.samples.exclusions import flagged_rows
from geko_app.samples.store import Samples, SampleStore
from geko_app.services import Services
from geko_app.views import samples as sample_views
from geko_app.views.corrections import decided_of, mark_of
from geko_app.views.review import card as card_of
from geko_app.views.sample_filters import FILTERS, SORTS, Query, matching, ordered
from geko_app.views.sample_issues import check_sentence
from geko_app.workers.export_jobs import ExportOptions
from geko_app.workers.issue_checks import RUNNING
from geko_engine.config.declaration import raise_problems, shown
from geko_engine.config.renames import ignore
from geko_engine.config.run_config import RunConfig, apply_overrides
from geko_engine.data.corrections import Correction
from geko_engine.exceptions import ConfigError, GekoError, RunError
from geko_engine.runs.folder import RunFolder
from geko_engine.selection.buckets import Bucket

MOST_RUNS = 200  # of one answer
MOST_SAMPLES = 500
FACTS = (
    "model",
    "data",
    "reason",
    "progress",
    "samples",
    "epochs",
    "epochs_done",
    "steps",
    "tokens",
    "compute_saved_ratio",
    "eval_loss_before",
    "eval_loss_after",
    "exact_match_before",
    "exact_match_after",
    "train_loss",
    "seconds",
    "note",
)


class NotFound(RunError):
    """What was asked for is not here."""


class RunOperations:
    """The operations on the runs of a page.

    Args:
        services: of the page.
    """

    def __init__(self, services: Services) -> None:
        self._services, self._supervisor = services, services.supervisor
        self._reader, self._samples = FactsReader(), SampleStore(services.supervisor.store)

    # ------------------------------------------------------------ runs
    def start(self, config: Mapping[str, Any], *, demo: bool = False, hub_token: str = "") -> dict[str, Any]:
        """Start a run, or queue it until its GPUs are free.

        Args:
            config: sections, their settings and values, as in a YAML file for geko-train.
            demo: begin with the settings of the demo, and change those that `config` names.
            hub_token: of the Hugging Face Hub; passed to the worker, written nowhere.

        Returns:
            The state of the new run.

        Raises:
            GekoError: with the dotted name of every setting that is wrong.
        """
        begun: dict[str, Any] = RunConfig.demo().to_dict() if demo else {}
        return self.begin(begun, config, hub_token)

    def begin(self, values: Mapping[str, Any], changes: Mapping[str, Any], hub_token: str = "") -> dict[str, Any]:
        """Start a run with settings of which some are changed, or queue it; returns its state.

        Args:
            values: the settings, by section. changes: those that replace them, by section.
            hub_token: as for `start`.

        Raises:
            GekoError: with the dotted name of every setting that is wrong.
        """
        here = {**values, "output_dir": str(self._supervisor.store.root)}
        made = RunConfig.from_dict(_changed(here, changes), on_renamed=ignore)
        raise_problems(self._services.checks(made))
        return self.state(self._supervisor.start(made, hub_token))

    def runs(self, *, limit: int = 50, offset: int = 0) -> dict[str, Any]:
        """The states of runs, newest first.

        Args:
            limit: at most so many, up to MOST_RUNS.
            offset: how many to leave out.

        Returns:
            total, and runs.
        """
        ids = self._supervisor.store.ids()
        chosen = ids[max(0, offset) :][: min(max(1, limit), MOST_RUNS)]
        return {"total": len(ids), "runs": [state for run_id in chosen if (state := self._state_or_none(run_id))]}

    def state(self, run_id: str) -> dict[str, Any]:
        """How a run is going, or how it ended.

        Raises:
            NotFound: there is no such run.
        """
        folder = self.folder(run_id)
        self._supervisor.attach_or_close(run_id)
        facts = self._reader.facts(folder)
        waits = facts.phase == QUEUED
        place, words = self._supervisor.queue_place(run_id)
        return {
            "id": run_id,
            "state": facts.end or facts.phase,
            "ended": bool(facts.end) and not self._supervisor.alive(run_id),  # its process is gone, too
            "queue_position": place if waits else None,
            "waits_for": words if waits else "",
            "gpus": sorted(self._supervisor.given_gpus(run_id)),
            **{name: getattr(facts, name) for name in FACTS},
            "folder": str(folder.path.resolve()),
            "model_folder": str(folder.model_path.resolve()) if facts.has_model else None,
        }

    def config(self, run_id: str) -> dict[str, Any]:
        """All settings of a run, from which the same run can be started again; of the webhook's address only the host.

        Raises:
            NotFound: there is no such run.
            GekoError: its configuration cannot be read.
        """
        return hide_webhook(self.folder(run_id).config().to_dict())

    def stop(self, run_id: str, *, now: bool = False) -> dict[str, Any]:
        """Ask an active run to save a checkpoint and end, or take a queued one out of the queue; returns its state.

        A run that has ended is left as it is.

        Args:
            run_id: the run.
            now: whether an active one is ended by force, also in the middle of a checkpoint.

        Raises:
            NotFound: there is no such run.
        """
        self.folder(run_id)
        self._supervisor.attach_or_close(run_id)  # a run of the command line can be stopped, too
        self._supervisor.stop(run_id, now=now)
        return self.state(run_id)

    def resume(self, run_id: str) -> dict[str, Any]:
        """Continue a run from its newest checkpoint; returns its state.

        Raises:
            NotFound: there is no such run.
            RunError: it is active or complete.
        """
        self.folder(run_id)
        self._supervisor.resume(run_id)
        return self.state(run_id)

    # ------------------------------------------------------------ samples
    def samples(
        self,
        run_id: str,
        *,
        filter: str = "",
        search: str = "",
        sort: str = "row",
        descending: bool = False,
        limit: int = 50,
        offset: int = 0,
    ) -> dict[str, Any]:
        """Training samples of a run with what the record knows of them.

        Args:
            run_id: of the run.
            filter: a bucket, or a kind of suspicion; "" for all.
            search: a text that they contain, in any case.
            sort: a column.
            descending: the highest value first.
            limit: at most so many, up to MOST_SAMPLES.
            offset: how many to leave out.

        Returns:
            total: how many match. samples: those of this page. check_state, check: how far the check of the texts is, and
            what is known of it.

        Raises:
            NotFound: there is no such run.
            GekoError: there are no samples yet, or no such filter or column.
        """
        check_choice("filter", filter, FILTERS)
        check_choice("sort", sort, SORTS)
        samples = self.samples_of(run_id)
        flagged, decided = flagged_rows(samples.folder), decided_of(samples)
        query = Query(filter=filter, text=search.strip(), sort=sort, down=descending)
        ids = ordered(samples, matching(samples, query, flagged), query)
        chosen = ids[max(0, offset) :][: min(max(1, limit), MOST_SAMPLES)]
        texts = ["\n".join(part for part in pair if part) for pair in samples.texts.pairs(chosen)]
        pairs = zip(chosen.tolist(), texts, strict=True)
        found = [_sample(samples, index, text, flagged, decided) for index, text in pairs]
        return {"total": len(ids), **self._check_of(samples), "samples": found}

    def sample(self, run_id: str, sample_id: int) -> dict[str, Any]:
        """One training sample: its text, its state after each epoch, and why it is in its bucket.

        Raises:
            NotFound: there is no such run or sample.
        """
        samples = self.samples_of(run_id)
        check_sample(samples, sample_id, "sample_id")
        flagged, decided = flagged_rows(samples.folder), decided_of(samples)
        opened = sample_views.opened(samples, sample_id, flagged)
        card = card_of(samples, sample_id, decided)
        text = "".join(piece for piece, _ in opened["pieces"])
        return {
            **_sample(samples, sample_id, text, flagged, decided),
            **{name: card[name] for name in ("prompt", "answer")},
            "cannot_edit": card["fixed"],
            **{f"{name}_answer": (card[name] or {}).get("answer", "") for name in ("suggested", "similar")},
            "learned": [piece for piece, learned in opened["pieces"] if learned],
            "why": opened["why"],
            "history": opened["path"],
        }

    # ------------------------------------------------------------ exports
    def export(self, run_id: str, to: str, options: ExportOptions | None = None) -> dict[str, Any]:
        """Begin to export the model of a run; returns the state of the export.

        Args:
            run_id: of the run.
            to: merged, gguf, ollama or hub.
            options: for hub.

        Raises:
            NotFound: there is no such run.
            RunError: there is no such kind of export, or another export is running.
        """
        self.folder(run_id)
        self._services.exports.start(run_id, to, options or ExportOptions())
        return self.export_state(run_id)

    def export_state(self, run_id: str) -> dict[str, Any]:
        """How far the last export of a run has come.

        Raises:
            NotFound: there is no such run, or this page has not exported it.
        """
        self.folder(run_id)
        job = self._services.exports.job(run_id)
        if job is None:
            raise NotFound(f"The run {run_id} has not been exported since this page was started.")
        return asdict(job)

    # ------------------------------------------------------------ helpers
    def folder(self, run_id: str) -> RunFolder:
        """The folder of a run. Raises NotFound."""
        try:
            return self._supervisor.store.folder(run_id)
        except RunError as error:
            raise NotFound(f"There is no run {shown(run_id)}.") from error

    def _state_or_none(self, run_id: str) -> dict[str, Any] | None:
        try:
            return self.state(run_id)
        except GekoError:
            return None  # just deleted

    def _check_of(self, samples: Samples) -> dict[str, str]:
        """How far the check of a run's texts is."""
        state = self._services.issue_checks.look(samples.folder) or RUNNING  # just done, after the samples were read
        return {
            "check_state": state if samples.checked is None else "done",
            "check": check_sentence(samples, state),
        }

    def samples_of(self, run_id: str) -> Samples:
        """The samples of a run as its files are now, whose texts are checked from the first look on.

        Raises:
            NotFound: there is no such run. GekoError: there are no samples yet.
        """
        self._services.issue_checks.look(self.folder(run_id))
        return self._samples.samples(run_id)


def check_sample(samples: Samples, index: int, field: str) -> None:
    """Raise NotFound at the argument `field` if there is no sample `index`."""
    if not 0 <= index < samples.count:
        raise NotFound(
            f"The run {samples.folder.id} has no sample {index}: it has {samples.count:,}, counted from 0.", field
        )


def _changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some of them changed; invalid parts stay in, for the checks to name them."""
    result = dict(values)
    for name, section in changes.items():
        before = result.get(name)
        if isinstance(section, Mapping) and isinstance(before, Mapping) and "preset" not in section:
            dotted = {f"{name}.{key}": value for key, value in section.items()}
            result[name] = apply_overrides({name: before}, dotted)[name]
        else:
            result[name] = section  # a preset begins its section anew
    return result


def check_choice(field: str, value: str, choices: Any) -> None:
    """Raise ConfigError at `field` if `value` is none of `choices`."""
    if value not in choices:
        known = ", ".join(choice for choice in choices if choice)
        raise ConfigError(f"{shown(value)} is not one of {known}.", field)


def _sample(
    samples: Samples, index: int, text: str, flagged: set[int], decided: Mapping[int, Correction]
) -> dict[str, Any]:
    """One sample as plain values; None for what is not known before its first visit."""
    states, row = samples.states, int(samples.facts["row"][index])
    seen = bool(samples.visited[index])

    def value(array: np.ndarray[Any, Any]) -> float | None:
        return sample_views.known(array[index]) if seen else None

    return {
        "id": index,
        "row": row,
        "bucket": Bucket(states.bucket[index]).name.lower(),
        "loss": value(states.loss),
        "first_loss": value(states.first_loss),
        "confidence": value(states.confidence),
        "correct": bool(states.correct[index]) if seen else None,
        "q_value": value(samples.q),
        "times_seen": int(states.seen[index]),
        "flagged": row in flagged,
        "decision": mark_of(decided, index),
        "suspicions": [issue["sentence"] for issue in sample_views.issues_of(samples, index)],
        "text": text,
    }
