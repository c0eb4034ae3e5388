"""Reads what version 1 wrote into a checkpoint. Goes when nobody resumes such a run any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from geko_engine.selection.uniform_policy import prefixed
from geko_engine.storage.array_files import load_arrays

FORMAT = 3
LOOP = (
    *("step", "epoch", "step_in_plan", "epoch_loss", "epoch_targets", "train_loss", "planned", "seconds"),
    *("train_seconds", "finished", "evaluation_due", "reason", "counter", "evaluations"),
)


def read(path: Path, progress: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(values of TrainerState, the state of the policy) of the checkpoint at `path` with this `progress`."""
    loop = {name: progress[name] for name in LOOP} | {"epoch_plain_tokens": progress["epoch_due"]}
    loop["backward_cost"] = 2.0  # as it was taken to be then
    policy: dict[str, Any] = {
        "epoch": progress["epoch"],
        "epoch_start_step": progress["epoch_start_step"],
        "step": progress["step"],
        "partitions": progress["buckets"],
        "reason": progress["reason"] if progress["finished"] else "",
    }
    policy |= prefixed("states", load_arrays(path / "samples.safetensors"))
    policy |= prefixed("history", load_arrays(path / "history.safetensors"))
    left_out = 0
    if progress["planned"] and (path / "plan.safetensors").exists():
        plan = load_arrays(path / "plan.safetensors")
        replayed, passed_over, suspects, left_out = plan.pop("counts").tolist()
        plan["plain_tokens_per_step"] = plan.pop("due")
        counts = {"replayed": replayed, "left_out": passed_over, "suspects": suspects}
        policy |= prefixed("plan", {**plan, "share": float(plan["share"][0]), **counts})
    policy |= prefixed(
        "prediction",
        {
            "revision": progress["revision"],
            "left_out": left_out,
            "met": progress["epoch_predicted_met"],
            "right": progress["epoch_predicted_right"],
            "results": progress["predicted"],
        },
    )
    panel = path / "panel.safetensors"
    scans = [
        {
            "epoch": scan["epoch"],
            "stable": scan["settled"],
            "stable_churn": scan["settled_churn"],
            "others_churn": scan["others_churn"],
        }
        for scan in progress["churn"]
    ]
    policy |= prefixed(
        "stability",
        {
            "panel": load_arrays(panel)["probability"] if panel.exists() else np.zeros(0, np.float32),
            "asked": progress["panel_asked"],
            "results": scans,
        },
    )
    return loop, policy
