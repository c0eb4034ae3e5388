"""The card at the end of a run: figures, where the model is, how to load it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geko_app.form.rerun_options import offered
from geko_app.runs.live_state import Snapshot
from geko_app.views.formatting import TITLES, compact, duration, number, percent
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.disk_space import tells_full


def summary(snapshot: Snapshot, folder: RunFolder) -> dict[str, Any]:
    """The card at the end: figures, where the model is, and how to load it."""
    model = str(folder.model_path.resolve()) if folder.model_path.is_dir() else ""
    return {
        "end": snapshot.end,
        "title": TITLES[snapshot.end],
        "reason": snapshot.reason,
        "rows": figures_at_the_end(snapshot),
        "folder": str(folder.path.resolve()),
        "model": model,
        "code": loading_code(model, adapter=(folder.model_path / "adapter_config.json").exists()) if model else "",
        "variants": [] if tells_full(snapshot.reason) else offered(folder.config(), snapshot.end, snapshot.field),
        "room": tells_full(snapshot.reason),
    }


def figures_at_the_end(snapshot: Snapshot) -> list[tuple[str, str]]:
    """(name, text) pairs from the report; from what was seen last where a killed worker wrote none."""
    report = snapshot.report or {}
    if not snapshot.step and not report.get("steps"):
        return []
    saved = report.get("compute_saved_ratio", snapshot.compute_saved_ratio)
    rows = [
        ("Evaluation loss", before_after(report, "eval_loss", snapshot.eval_loss, lambda v: f"{v:.3f}")),
        ("Exact match", before_after(report, "exact_match", snapshot.exact_match, lambda v: f"{100 * v:.1f} %")),
        ("Compute saved", percent(saved)),
        ("Loss on trained samples", number(report.get("train_loss") or snapshot.average_loss, ".3f")),
        ("Steps", f"{report.get('steps', snapshot.step):,}"),
        (
            "Tokens trained",
            f"{compact(report.get('tokens_backwarded', snapshot.tokens_backwarded))} of "
            f"{compact(report.get('plain_training_tokens', snapshot.plain_training_tokens))}",
        ),
    ]
    return rows + ([("Time", duration(report["seconds"]))] if report.get("seconds") is not None else [])


def before_after(report: dict[str, Any], name: str, last: float | None, shown: Callable[[float], str]) -> str:
    """ "before → after" of an evaluated figure, or the last one known."""
    before, after = report.get(f"{name}_before"), report.get(f"{name}_after")
    if before is None or after is None:
        value = last if after is None else after
        return "–" if value is None else shown(value)
    return f"{shown(before)} → {shown(after)}"


def loading_code(model: str, *, adapter: bool) -> str:
    """Three lines of Python that load what was trained."""
    package, kind = ("peft", "AutoPeftModelForCausalLM") if adapter else ("transformers", "AutoModelForCausalLM")
    imports = f"from {package} import {kind}\nfrom transformers import AutoTokenizer" if adapter else ""
    return (
        f"{imports or 'from transformers import AutoModelForCausalLM, AutoTokenizer'}\n"
        f"model = {kind}.from_pretrained({model!r})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({model!r})"
    )
