"""The card at the end of a run: what comes next, figures, where the model is, how to load it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from geko_app.form.rerun_options import EndedRun, offered
from geko_app.formatting import (
    UNKNOWN,
    end_words,
    format_count,
    format_duration,
    format_loss,
    format_percent,
)
from geko_app.runs.live_state import Snapshot
from geko_app.runs.saved_config import saved_config
from geko_app.samples.reruns import corrected_rows
from geko_app.views.worth import worth
from geko_app.workers.inference_jobs import models_of
from geko_engine.models.names import ADAPTER, is_rounded_base
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.disk_space import says_disk_is_full

FREE_TEXT_BELOW = 0.05  # exact match, at best
LOAD_IN_4BIT = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer, BitsAndBytesConfig
bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
model = AutoPeftModelForCausalLM.from_pretrained({model!r}, quantization_config=bits)
tokenizer = AutoTokenizer.from_pretrained({model!r})"""  # an adapter of LoftQ


def summary(snapshot: Snapshot, folder: RunFolder) -> dict[str, Any]:
    """The whole card, for the page's script.

    Args:
        snapshot: the ended run.
        folder: its files.
    """
    model = str(folder.model_path.resolve()) if folder.model_path.is_dir() else ""
    disk_is_full = says_disk_is_full(snapshot.reason)
    title, reason = end_words(snapshot.end, snapshot.reason)
    return {
        "end": snapshot.end,
        "title": title,
        "reason": reason,
        "rows": final_figures(snapshot),
        "exact": exact_sentence(snapshot),
        "can_try": bool(models_of(folder)),
        "can_export": any((folder.model_path / name).is_file() for name in ("config.json", "adapter_config.json")),
        "folder": str(folder.path.resolve()),
        "model": model,
        "code": loading_code(folder.model_path) if model else "",
        "variants": [] if disk_is_full else _offered(snapshot, folder),
        "worth": worth(folder),
        "room": disk_is_full,
    }


def _offered(snapshot: Snapshot, folder: RunFolder) -> list[dict[str, str]]:
    return offered(EndedRun(saved_config(folder), snapshot.end, snapshot.field, corrected_rows(folder)))


def final_figures(snapshot: Snapshot) -> list[tuple[str, str]]:
    """(name, text) pairs from the report, or from the last events if the worker was killed before writing one."""
    report = snapshot.report or {}
    if not snapshot.step and not report.get("steps"):
        return []
    trained = format_count(report.get("tokens_backwarded", snapshot.tokens_backwarded))
    plain = format_count(report.get("plain_training_tokens", snapshot.plain_training_tokens))
    rows = [
        ("Evaluation loss", before_after(report, "eval_loss", snapshot.eval_loss, format_loss)),
        ("Compute saved", format_percent(report.get("compute_saved_ratio", snapshot.compute_saved_ratio))),
        ("Time saved (estimate)", format_percent(report.get("seconds_saved_ratio", snapshot.seconds_saved_ratio))),
        ("Training loss", format_loss(report.get("train_loss") or snapshot.average_loss)),
        ("Steps", f"{report.get('steps', snapshot.step):,}"),
        ("Trained tokens", f"{trained} of {plain}"),
    ]
    if not is_free_text(snapshot):
        rows.insert(1, ("Exact match", before_after(report, "exact_match", snapshot.exact_match, format_percent)))
    return rows + ([("Time", format_duration(report["seconds"]))] if report.get("seconds") is not None else [])


def is_free_text(snapshot: Snapshot) -> bool:
    """Whether hardly any answer is exactly right, before or after: exact match says nothing of how good it is then."""
    report = snapshot.report or {}
    known = [report.get("exact_match_before"), report.get("exact_match_after"), snapshot.exact_match]
    shares = [share for share in known if share is not None]
    return bool(shares) and max(shares) < FREE_TEXT_BELOW


def exact_sentence(snapshot: Snapshot) -> str:
    """The exact match of free text, where it is no figure of its own; "" otherwise."""
    if not is_free_text(snapshot):
        return ""
    shares = before_after(snapshot.report or {}, "exact_match", snapshot.exact_match, format_percent)
    return (
        f"Exact match {shares}: free text is hardly ever written word for word, so judge it by the loss and by answers."
    )


def before_after(report: dict[str, Any], name: str, last: float | None, shown: Callable[[float], str]) -> str:
    """ "before → after" of an evaluated figure, or the last known value if one of them is missing.

    Args:
        report: of the run.
        name: of the figure; the report has it with _before and _after.
        last: value of the last evaluation.
        shown: formats a value.
    """
    before, after = report.get(f"{name}_before"), report.get(f"{name}_after")
    if before is None or after is None:
        value = last if after is None else after
        return UNKNOWN if value is None else shown(value)
    return f"{shown(before)} → {shown(after)}"


def loading_code(path: Path) -> str:
    """Python code that loads the trained model.

    Args:
        path: its folder, with a LoRA adapter or a whole model.
    """
    model, adapter = str(path.resolve()), (path / ADAPTER).exists()
    if is_rounded_base(path):
        return LOAD_IN_4BIT.format(model=model)
    package, kind = ("peft", "AutoPeftModelForCausalLM") if adapter else ("transformers", "AutoModelForCausalLM")
    imports = f"from {package} import {kind}\nfrom transformers import AutoTokenizer" if adapter else ""
    return (
        f"{imports or 'from transformers import AutoModelForCausalLM, AutoTokenizer'}\n"
        f"model = {kind}.from_pretrained({model!r})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({model!r})"
    )
