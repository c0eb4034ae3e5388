"""What the card "Core set" of the Samples page may call: look at one, download it, train on it. Thin handlers only; knows no layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geko_app.form.rerun_options import SUBSETS, Subset
from geko_app.pages.components import ServerFunction, result_or_sentence, str_arg
from geko_app.pages.dashboard import start_variant
from geko_app.samples import core_set as core_sets
from geko_app.samples.store import Samples, SampleStore
from geko_app.views.core_set import file_name, overview
from geko_app.workers.supervisor import Supervisor
from geko_engine.exceptions import RunError

Result = dict[str, Any]


def core_set_endpoints(supervisor: Supervisor, store: SampleStore) -> list[ServerFunction]:
    """Each gets one object and is a public endpoint."""

    def core_set(query: Any) -> Result:
        """The core set at the size that was chosen, and what runs on it have shown."""
        return result_or_sentence(lambda: _overview(store.samples(str_arg(query, "run")), query))

    def train_on_set(query: Any) -> Result:
        """Start a run on the core set or on a random set of its size, or queue it."""
        run, name = str_arg(query, "run"), str_arg(query, "name")
        if name not in SUBSETS:
            return {"error": f"There is no set {name!r} to train on: choose one of {', '.join(SUBSETS)}."}
        return start_variant(supervisor, run, name, lambda: _chosen(store.samples(run), query, name))

    return [core_set, train_on_set]


def _overview(samples: Samples, query: Any) -> Result:
    return overview(samples, core_sets.core_set(samples, _share(query)))


def _chosen(samples: Samples, query: Any, kind: str) -> Subset:
    return core_sets.choose_subset(samples, kind, _share(query))


def export_core_set(samples: Samples, query: Any, folder: Path) -> tuple[Path, int]:
    """Write a core set as JSONL; its name says where no run has checked it.

    Returns:
        (its path, number left out because the run has not kept their whole text).

    Raises:
        RunError: no core set can be chosen. OSError: the file cannot be written.
    """
    chosen = core_sets.core_set(samples, _share(query))
    path = folder / file_name(samples, chosen)
    return path, core_sets.write_core_set(samples, chosen, path)[1]


def _share(query: Any) -> float | None:
    """The share that was chosen, sent as a percentage; None for the default. Raises RunError for anything else."""
    percent = query.get("percent") if isinstance(query, dict) else None
    if percent is None:
        return None
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 < percent <= 100:
        raise RunError(f"The size {percent!r} is no percentage: give one above 0 and at most 100.")
    return percent / 100
