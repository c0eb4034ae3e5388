"""What the section training offers by name: optimizers, schedules, trackers, and the words that some settings take."""

from __future__ import annotations

import importlib.util

ADAMW, ADAMW_8BIT, MUON = "adamw_torch_fused", "adamw_8bit", "muon"
PAGED = {"paged_adamw_8bit": ADAMW_8BIT, "paged_adamw_32bit": ADAMW}  # need a GPU -> what does without
OPTIMIZERS = (
    *(ADAMW, ADAMW_8BIT, *PAGED),
    *("adafactor", "lion_32bit", "lion_8bit", MUON, "sgd"),
)
TRACKERS = {  # name -> the package that it needs
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "trackio": "trackio",
    "comet_ml": "comet_ml",
    "clearml": "clearml",
    "swanlab": "swanlab",
    "aim": "aim",
}
ALL_GPUS = "all"
FSDP = ("none", "full_shard")
SHARDED_OPTIMIZERS = (ADAMW, "sgd")  # whose state is shared out with the weights
AUTO = "auto"  # num_epochs: the run finds its length by itself; padding_free: it chooses
ON = "on"
PADDING_FREE = (AUTO, ON, "off")
EVAL_LOSS, EXACT_MATCH = "eval_loss", "exact_match"
CONSTANT, CONSTANT_WITH_WARMUP = "constant", "constant_with_warmup"  # the first has no warm-up, as in transformers
SCHEDULES = ("linear", "cosine", CONSTANT, CONSTANT_WITH_WARMUP, "warmup_stable_decay")


def tracker_problem(names: list[str]) -> str:
    """Which of the experiment trackers `names` cannot be used here, and what to install; "" if all can."""
    for name in names:
        if name in TRACKERS and importlib.util.find_spec(TRACKERS[name]) is None:
            return f"The tracker {name} needs its package: install it with `pip install {TRACKERS[name]}`, or leave it out."
    return ""
