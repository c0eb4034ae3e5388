"""The configuration of a run again, with what was decided about its samples since. Knows no page and no process."""

from __future__ import annotations

from geko_app.form.rerun_options import EndedRun, Subset, changed
from geko_app.samples.correction_log import corrected_rows
from geko_engine.config.run_config import RunConfig
from geko_engine.runs.folder import RunFolder


def run_again(folder: RunFolder, name: str, subset: Subset | None = None) -> RunConfig:
    """A changed copy of a run's configuration.

    Args:
        folder: of the run.
        name: of the variant (geko_app.form.rerun_options).
        subset: the rows that it is to have; None for all.

    Raises:
        RunError: there is no such variant, or this run cannot be run again in this way; the message says why.
        ConfigError: its configuration cannot be read.
    """
    end = status.end if (status := folder.status()) is not None else ""
    return changed(EndedRun(folder.config(), end, corrected=corrected_rows(folder), subset=subset), name)
