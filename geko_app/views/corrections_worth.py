"""What corrections were worth: a run with them against the run that they were made after. Reads files, knows no page."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from geko_app.formatting import format_share
from geko_app.runs.saved_config import saved_config
from geko_app.runs.summary import flat
from geko_app.samples.correction_log import started_with
from geko_app.samples.paired_runs import paired_difference
from geko_app.views.paired import NO_DIFFERENCE, exact_change, loss_change
from geko_engine.config.run_config import RunConfig
from geko_engine.data.corrections import DELETE, REPLACE, Correction, current
from geko_engine.exceptions import GekoError
from geko_engine.runs.evaluation_scores import PairedDifference
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.user_paths import expand

NO_EVALUATION = "What they were worth is not known: both runs need the same evaluation data (data.eval)."
APART = {"data.corrections", "output_dir", "training.webhook_url"}  # else the runs are the same
FURTHER = APART | {  # what going on from the earlier run's model changes
    "model.name",
    "data.eval_ratio",
    "data.replay",
    "data.replay_share",
    "training.learning_rate",
    "training.max_steps",
    "training.num_epochs",
    "training.resume_from_checkpoint",
}


def worth_sentence(folder: RunFolder) -> str:
    """What the corrections that a run was started with were worth; "" for a run without, or whose earlier run cannot be read.

    Where more was changed than the corrections, the sentence says so: the difference is not theirs alone.

    Args:
        folder: of the ended run.
    """
    earlier = corrected_run(folder)
    if earlier is None:
        return ""
    try:
        counts, besides = _new_corrections(folder, earlier), _besides(saved_config(folder), earlier)
    except GekoError:
        return ""
    if not (counts[REPLACE] or counts[DELETE]):
        return ""
    what = f"{_what(counts[REPLACE], counts[DELETE])}{besides}"
    share = compute_share(folder, earlier)
    cost = "" if share is None else f", for {format_share(share)} of the compute of the run {earlier.id}"
    found = paired_difference(earlier, folder)
    return f"{what}: {_gain(found)}{cost}." if found else f"{what}. {NO_EVALUATION}"


def corrected_run(folder: RunFolder) -> RunFolder | None:
    """The run whose corrections a run was started with; None for a run without, or one that cannot be read."""
    try:
        config = saved_config(folder)
        earlier = RunFolder(expand(config.data.corrections or "").parent)
        is_other = bool(config.data.corrections) and earlier.path.resolve() != folder.path.resolve()
    except (GekoError, ValueError):  # the latter for a path that no system has
        return None
    return earlier if is_other else None


def _besides(config: RunConfig, earlier: RunFolder) -> str:
    """What was changed besides the corrections: " and further training", " and other settings", or "".

    Raises:
        ConfigError: the configuration of the earlier run cannot be read.
    """
    changed = changed_settings(config, saved_config(earlier))
    if changed <= APART:
        return ""
    goes_on = _same(config.data.replay, earlier.path) and _same(config.model.name, earlier.model_path)
    return " and further training" if goes_on and changed <= FURTHER else " and other settings"


def changed_settings(now: RunConfig, before: RunConfig) -> set[str]:
    """Dotted keys of the settings in which two configurations differ."""
    values, others = flat(now.to_dict()), flat(before.to_dict())
    return {name for name in values if values[name] != others[name]}


def _same(name: str | None, path: Path) -> bool:
    return bool(name) and expand(name or "").resolve() == path.resolve()


def _new_corrections(folder: RunFolder, earlier: RunFolder) -> Counter[str]:
    """How many rows are corrected as they were not in the earlier run, by action: only these can make the difference."""
    now, before = applied_corrections(folder), applied_corrections(earlier)
    return Counter(made.action for row, made in now.items() if made != before.get(row))


def applied_corrections(folder: RunFolder) -> dict[int, Correction]:
    """Those of `used_corrections` that changed the training data; all where the run has not written that down.

    Raises:
        DataError: the log cannot be read.
    """
    used, applied = used_corrections(folder), folder.applied_corrections()
    return used if applied is None else {row: made for row, made in used.items() if row in applied}


def used_corrections(folder: RunFolder) -> dict[int, Correction]:
    """The rows that a run was started with edited or deleted, with the decision of each, without its time.

    Raises:
        DataError: the log cannot be read.
    """
    log = current(started_with(folder))
    return {row: replace(made, at="") for row, made in log.items() if made.action in (REPLACE, DELETE)}


def _what(edited: int, deleted: int) -> str:
    if not deleted:
        return f"{edited:,} edited {'row' if edited == 1 else 'rows'}"
    if not edited:
        return f"{deleted:,} deleted {'row' if deleted == 1 else 'rows'}"
    return f"{edited:,} edited and {deleted:,} deleted rows"


def _gain(found: PairedDifference) -> str:
    clear = "" if found.exact_match.is_clear or found.loss.is_clear else f"; {NO_DIFFERENCE}"
    return f"{exact_change(found.exact_match)}, loss {loss_change(found.loss)} on {found.rows:,} evaluation rows{clear}"


def compute_share(folder: RunFolder, earlier: RunFolder) -> float | None:
    """Compute of a run as a share of the earlier one's: a token forward counts 1, backward 2; None where it is not known."""
    spent, before = (_compute(_report(run)) for run in (folder, earlier))
    return spent / before if spent and before else None


def _compute(report: dict[str, Any]) -> float:
    forward, backward = report.get("tokens_forwarded"), report.get("tokens_backwarded")
    return float(forward + 2 * backward) if isinstance(forward, int) and isinstance(backward, int) else 0.0


def _report(folder: RunFolder) -> dict[str, Any]:
    try:
        found = json.loads((folder.path / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
