"""What a core set is worth, by runs on it and on a random set of its size; and what its card says before. Reads files, knows no page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geko_app.form.rerun_options import CORE_SET, RANDOM_SET, SUBSETS, EndedRun, offered
from geko_app.formatting import format_share
from geko_app.runs.saved_config import saved_config
from geko_app.samples.core_set import (
    SubsetFile,
    read_subset,
    rows_of_set,
    runs_on,
    subset_file,
)
from geko_app.samples.paired_runs import paired_difference
from geko_app.samples.store import Samples
from geko_app.views.corrections_worth import APART, changed_settings, compute_share, used_corrections
from geko_app.views.paired import CAUTION, INTERVAL, NO_DIFFERENCE, loss_change
from geko_engine.exceptions import GekoError
from geko_engine.runs.evaluation_scores import Difference, PairedDifference
from geko_engine.runs.folder import RunFolder
from geko_engine.selection.core_set import CoreSet
from geko_engine.storage.user_paths import expand

DRAWN = " Drawn at random: {drawn:,} of the {of:,}. At a quarter of the rows, those that took longest were worse alone than a random set."
NAMES = {CORE_SET: "core set", RANDOM_SET: "random set"}
OTHER = {CORE_SET: RANDOM_SET, RANDOM_SET: CORE_SET}
# In which a run on a set may differ; corrections are compared by what they change, not by the path of their log.
BY_THE_SET = APART | {"data.row_flags", "data.flag_action", "training.max_steps"}
CORRECTED_TOO = (
    " The two runs had different corrections too, so not all of the difference is due to the choice of the rows."
)
OTHER_CORRECTIONS = (
    "A run on a {} of the same size is complete, but it had other corrections: the two are not compared."
)
NOT_COMPARED = "What it is worth is not known: both runs need the same evaluation rows (data.eval or data.eval_ratio)."
NO_OTHER = "No run on a {} of the same size is complete yet, so it is not known whether the choice of the rows matters."
UNCHECKED = "Not checked by a run yet: whether these rows reach the evaluation loss of all rows is not known."
NO_TEXT_CHECK = " The check of the texts has not ended yet, so likely mislabeled rows and near-duplicates may be in it."


def verdict(folder: RunFolder) -> str:
    """What a run on a core set or a random set reached, against the run on all rows and the other set; "" for other runs.

    Args:
        folder: of the ended run.
    """
    try:
        file = _subset_of(folder)
        if file is None:
            return ""
        besides = _besides(folder, file.source)
    except GekoError:
        return ""
    cost = compute_share(folder, file.source)
    spent = "" if cost is None else f", {format_share(cost)} of the compute of the run on all rows"
    what = f"{NAMES[file.kind].capitalize()} of {_size(file)}{spent}"
    found = paired_difference(file.source, folder)
    if found is None:
        return f"{what}. {NOT_COMPARED}"
    against = f"{what}: {_difference(found)}: {_judged(found.loss)}."
    return f"{against}{besides} {_beside(folder, file)} {CAUTION}"


def source_run(folder: RunFolder) -> RunFolder | None:
    """The run on all rows whose core set or random set a run was started with; None for other runs."""
    file = _subset_of(folder)
    return None if file is None else file.source


def _subset_of(folder: RunFolder) -> SubsetFile | None:
    try:
        flags = saved_config(folder).data.row_flags
        return read_subset(expand(flags)) if flags else None
    except (GekoError, ValueError):  # the latter for a path that no system has
        return None


def _besides(folder: RunFolder, source: RunFolder) -> str:
    """What a run on a set changed besides the rows: sentences that begin with a space, or "".

    Raises:
        ConfigError, DataError: a configuration or a log of corrections cannot be read.
    """
    others = changed_settings(saved_config(folder), saved_config(source)) - BY_THE_SET
    settings = f" Other settings were changed too: {', '.join(sorted(others))}." if others else ""
    return settings if used_corrections(folder) == used_corrections(source) else f"{settings}{CORRECTED_TOO}"


def _same_corrections(first: RunFolder, second: RunFolder) -> bool:
    try:
        return used_corrections(first) == used_corrections(second)
    except GekoError:
        return False


def _beside(folder: RunFolder, file: SubsetFile) -> str:
    """What the newest comparable run on the other set of the same size reached."""
    name = NAMES[OTHER[file.kind]]
    found = runs_on(folder.path.parent, file.source.path.glob(f"{OTHER[file.kind]}-{file.kept}-*.json"))
    comparable = [other for other in found if _same_corrections(folder, other)]
    for other in comparable:
        against_all, against_it = paired_difference(file.source, other), paired_difference(other, folder)
        if against_all is not None and against_it is not None:
            return (
                f"With the {name} of the same size it is {loss_change(against_all.loss)}; against that, the loss of this run is "
                f"{loss_change(against_it.loss)}: {_judged(against_it.loss)}."
            )
    return (OTHER_CORRECTIONS if found and not comparable else NO_OTHER).format(name)


def _size(file: SubsetFile) -> str:
    return f"{file.kept:,} rows ({format_share(file.share)} of the data)"


def _drawn(chosen: CoreSet) -> str:
    """How many samples of a small set are there by chance, or ""."""
    drawn = len(chosen.ids) - chosen.by_record
    return DRAWN.format(drawn=drawn, of=len(chosen.ids)) if drawn else ""


def _difference(found: PairedDifference) -> str:
    return f"evaluation loss {loss_change(found.loss, INTERVAL)} on {found.rows:,} evaluation rows"


def _judged(loss: Difference) -> str:
    if not loss.is_clear:
        return NO_DIFFERENCE
    return "better" if loss.value < 0 else "worse"


def overview(samples: Samples, chosen: CoreSet) -> dict[str, Any]:
    """A core set of a run for its card: its size, what is known of it, and the runs that would check it."""
    files = {kind: subset_file(samples, rows_of_set(samples, chosen, kind), kind) for kind in SUBSETS}
    checked = checks(samples.folder, files[CORE_SET])
    end = status.end if (status := samples.folder.status()) is not None else ""
    run = EndedRun(samples.config, end, subset=files[CORE_SET].as_subset)
    kinds = SUBSETS if chosen.by_record else (RANDOM_SET,)  # else both are the same: a random set
    runs = [variant for variant in offered(run) if variant["name"] in kinds]
    note = "" if samples.checked is not None else NO_TEXT_CHECK
    return {
        "size": f"{_size(files[CORE_SET])}; by the record, {chosen.carried:,} of {samples.count:,} samples carried the training."
        f"{_drawn(chosen)}{note}",
        "verdict": " ".join(checked) or UNCHECKED,
        "checked": bool(checked),
        "percent": round(100 * files[CORE_SET].share, 1),
        "runs": runs,
    }


def file_name(samples: Samples, chosen: CoreSet) -> str:
    """The name of the file that a core set is exported to: it says where no run has checked it."""
    file = subset_file(samples, rows_of_set(samples, chosen, CORE_SET), CORE_SET)
    checked = "" if checks(samples.folder, file) else "-not-checked-by-a-run"
    return f"{samples.folder.id}-core-set-{file.kept}{checked}.jsonl"


def checks(folder: RunFolder, file: SubsetFile) -> Sequence[str]:
    """What the newest complete run on a set has shown; empty without one.

    Args:
        folder: of the run whose rows they are. file: of the set.
    """
    return [f"Checked by the run {run.id}. {verdict(run)}" for run in runs_on(folder.path.parent, [file.path])[:1]]
