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
from geko_app.views.sample_filters import FILTERS, SORTS, Query, matching, ordered
from geko_app.workers.export_jobs import ExportOptions
from geko_engine.config.declaration import raise_problems, shown
from geko_engine.config.renames import ignore
from geko_engine.config.run_config import RunConfig
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
        made = RunConfig.from_dict(self._complete(config, demo=demo), on_renamed=ignore)
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
        folder = self._folder(run_id)
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
        return hide_webhook(self._folder(run_id).config().to_dict())

    def stop(self, run_id: str) -> dict[str, Any]:
        """Ask an active run to save a checkpoint and end, or take a queued one out of the queue; returns its state.

        A run that has ended is left as it is.

        Raises:
            NotFound: there is no such run.
        """
        self._folder(run_id)
        self._supervisor.attach_or_close(run_id)  # a run of the command line can be stopped, too
        self._supervisor.stop(run_id)
        return self.state(run_id)

    def resume(self, run_id: str) -> dict[str, Any]:
        """Continue a run from its newest checkpoint; returns its state.

        Raises:
            NotFound: there is no such run.
            RunError: it is active or complete.
        """
        self._folder(run_id)
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
            total: how many match. samples: those of this page.

        Raises:
            NotFound: there is no such run.
            GekoError: there are no samples yet, or no such filter or column.
        """
        _check_choice("filter", filter, FILTERS)
        _check_choice("sort", sort, SORTS)
        samples = self._samples_of(run_id)
        flagged = flagged_rows(samples.folder)
        query = Query(filter=filter, text=search.strip(), sort=sort, down=descending)
        ids = ordered(samples, matching(samples, query, flagged), query)
        chosen = ids[max(0, offset) :][: min(max(1, limit), MOST_SAMPLES)]
        texts = ["\n".join(part for part in pair if part) for pair in samples.texts.pairs(chosen)]
        pairs = zip(chosen.tolist(), texts, strict=True)
        return {"total": len(ids), "samples": [_sample(samples, index, text, flagged) for index, text in pairs]}

    def sample(self, run_id: str, sample_id: int) -> dict[str, Any]:
        """One training sample: its text, its state after each epoch, and why it is in its bucket.

        Raises:
            NotFound: there is no such run or sample.
        """
        samples = self._samples_of(run_id)
        if not 0 <= sample_id < samples.count:
            raise NotFound(f"The run {run_id} has no sample {sample_id}: it has {samples.count:,}, counted from 0.")
        flagged = flagged_rows(samples.folder)
        opened = sample_views.opened(samples, sample_id, flagged)
        text = "".join(piece for piece, _ in opened["pieces"])
        return {
            **_sample(samples, sample_id, text, flagged),
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
        self._folder(run_id)
        self._services.exports.start(run_id, to, options or ExportOptions())
        return self.export_state(run_id)

    def export_state(self, run_id: str) -> dict[str, Any]:
        """How far the last export of a run has come.

        Raises:
            NotFound: there is no such run, or this page has not exported it.
        """
        self._folder(run_id)
        job = self._services.exports.job(run_id)
        if job is None:
            raise NotFound(f"The run {run_id} has not been exported since this page was started.")
        return asdict(job)

    # ------------------------------------------------------------ helpers
    def _complete(self, config: Mapping[str, Any], *, demo: bool) -> dict[str, Any]:
        """The settings to build a configuration from; invalid parts stay in, for the checks to name them."""
        values: dict[str, Any] = RunConfig.demo().to_dict() if demo else {}
        values["output_dir"] = str(self._supervisor.store.root)
        for name, section in config.items():
            both = isinstance(section, Mapping) and isinstance(values.get(name), dict)
            values[name] = {**values[name], **section} if both else section
        return values

    def _folder(self, run_id: str) -> RunFolder:
        try:
            return self._supervisor.store.folder(run_id)
        except RunError as error:
            raise NotFound(f"There is no run {shown(run_id)}.") from error

    def _state_or_none(self, run_id: str) -> dict[str, Any] | None:
        try:
            return self.state(run_id)
        except GekoError:
            return None  # just deleted

    def _samples_of(self, run_id: str) -> Samples:
        self._folder(run_id)
        return self._samples.samples(run_id)


def _check_choice(field: str, value: str, choices: Any) -> None:
    if value not in choices:
        known = ", ".join(choice for choice in choices if choice)
        raise ConfigError(f"{shown(value)} is not one of {known}.", field)


def _sample(samples: Samples, index: int, text: str, flagged: set[int]) -> dict[str, Any]:
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
        "suspicions": [issue["sentence"] for issue in sample_views.issues_of(samples, index)],
        "text": text,
    }
