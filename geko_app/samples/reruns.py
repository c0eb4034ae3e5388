"""The configuration of a run again, with what was decided about its samples since. Knows no page and no process."""

from __future__ import annotations

from collections import Counter

from safetensors import SafetensorError
from safetensors.numpy import load_file

from geko_app.form.rerun_options import Corrected, EndedRun, Subset, changed
from geko_app.samples.correction_log import own_decisions
from geko_app.samples.exclusions import flagged_rows
from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DataConfig
from geko_engine.data.corrections import DELETE, REPLACE, current, read_corrections
from geko_engine.data.excluded_rows import EXCLUDE
from geko_engine.data.excluded_rows import flagged_rows as rows_to_exclude
from geko_engine.exceptions import GekoError, RunError
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.user_paths import expand


def run_again(folder: RunFolder, name: str, subset: Subset | None = None) -> RunConfig:
    """A changed copy of a run's configuration.

    Args:
        folder: of the run.
        name: of the variant (geko_app.form.rerun_options).
        subset: the rows that it is to have; None for all.

    Raises:
        RunError: there is no such variant, this run cannot be run again in this way, or no row would be left to train on; the
            message says why.
        ConfigError, DataError: its configuration, or a file that it names, cannot be read.
    """
    end = status.end if (status := folder.status()) is not None else ""
    config = changed(EndedRun(folder.config(), end, corrected=corrected_rows(folder), subset=subset), name)
    _require_rows(folder, config.data)
    return config


def corrected_rows(folder: RunFolder) -> Corrected | None:
    """The corrections of a run, for training again; None where they change nothing or cannot be read."""
    try:
        decided = own_decisions(folder).items()
    except GekoError:
        return None
    changing = [(row, made.action) for row, made in decided if made.action in (REPLACE, DELETE)]
    if not changing:
        return None
    flagged = flagged_rows(folder)  # these are left out, whatever was made of them
    actions = Counter(DELETE if row in flagged else action for row, action in changing)
    model = str(folder.model_path.resolve()) if folder.model_path.is_dir() else ""
    log = str(folder.corrections_path.absolute())
    flags = str(folder.saved_row_flags().absolute()) if folder.saved_row_flags().is_file() else ""
    return Corrected(str(folder.path.resolve()), model, log, actions[REPLACE], actions[DELETE], flags)


def _require_rows(folder: RunFolder, data: DataConfig) -> None:
    """Raise RunError where settings leave out every row that the run was trained on, and every one that it had left out."""
    try:
        trained = set(load_file(folder.rows_path)["row"].tolist())
    except (OSError, SafetensorError, KeyError):
        return  # it ended before it knew its rows
    left_out = _left_out(data)
    if trained <= left_out and _left_out(folder.config_with_saved_flags().data) <= left_out:
        rows = "The only row of this run is" if len(trained) == 1 else f"All {len(trained):,} rows of this run are"
        raise RunError(
            f"{rows} flagged or deleted, so nothing is left to train on: undo some of these decisions on the Samples page."
        )


def _left_out(data: DataConfig) -> set[int]:
    """The rows, from 1, that settings exclude or delete."""
    log = current(read_corrections(expand(data.corrections))) if data.corrections else {}
    deleted = {row for row, made in log.items() if made.action == DELETE}
    return deleted | {row + 1 for row in rows_to_exclude(data, EXCLUDE)}
