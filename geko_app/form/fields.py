"""The declared fields of the form: every setting of a run once, with its label, its kind and the group it stands in.

Knows no widget library and no values. Help, unit and range of a field are those declared with the setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from geko_engine.config.declaration import Spec, is_optional, spec_of
from geko_engine.config.run_config import SECTIONS

PRESET_KEY, PRECISION_KEY = "geko.preset", "training.precision"  # on the form only: each stands for other settings
OWN_TEXTS = {  # (help, details) of the fields that are not declared in a section
    PRESET_KEY: (
        "Sets all GEKO settings at once.",
        "Start with the first one. Changing any GEKO setting makes the preset custom.",
    ),
    PRECISION_KEY: (
        "Number format of the computation.",
        "BF16 is fast on Ampere or newer GPUs and recent CPUs and halves the memory of activations. FP16 is for older "
        "GPUs. FP32 is the most precise.",
    ),
    "output_dir": (
        "Folder for runs, with their checkpoints and models.",
        "Choose another disk if this one is small: a run takes about seven times the size of the trained weights.",
    ),
}


@dataclass(frozen=True)
class FormField:
    """One field.

    Attributes:
        key: dotted name of its setting. kind: text, integer, slider, check, choice, preset or precision.
        placeholder: what an empty field means. half: two such fields share a row. upload: takes a file too.
    """

    key: str
    label: str
    kind: str
    group: str
    placeholder: str = ""
    half: bool = False
    upload: bool = False

    @property
    def help(self) -> str:
        """The line under the label."""
        return OWN_TEXTS[self.key][0] if self.key in OWN_TEXTS else self.spec.help

    @property
    def details(self) -> str:
        """When to change it and what it costs: for the info icon and the settings reference."""
        return OWN_TEXTS[self.key][1] if self.key in OWN_TEXTS else self.spec.details

    @property
    def spec(self) -> Spec:
        """What is declared about its setting; only for fields that have one."""
        section, name = self.key.split(".")
        return spec_of(SECTIONS[section], name)

    @property
    def choices(self) -> tuple[Any, ...]:
        """The only allowed values, empty where there are more."""
        return self.spec.choices

    @property
    def optional(self) -> bool:
        """Whether an empty field means that nothing is set."""
        section, _, name = self.key.partition(".")
        return self.key not in (PRESET_KEY, PRECISION_KEY) and bool(name) and is_optional(SECTIONS[section], name)


def _group(name: str, *fields: tuple[Any, ...]) -> tuple[FormField, ...]:
    return tuple(FormField(key, label, kind, name, *rest) for key, label, kind, *rest in fields)


HALF = ("", True)  # placeholder and half of a field
FIELDS: tuple[FormField, ...] = (
    *_group(
        "Model and data",
        ("model.name", "Model", "text"),
        ("data.train", "Training data", "text", "", False, True),
        ("data.sample_count", "Training samples", "text", "all"),
        ("data.eval", "Evaluation data", "text", "none", False, True),
    ),
    *_group(
        "Training",
        ("training.num_epochs", "Epochs", "integer", *HALF),
        ("training.learning_rate", "Learning rate", "text", *HALF),
        ("training.batch_size", "Batch size", "integer", *HALF),
        ("training.gradient_accumulation_steps", "Accumulation steps", "integer", *HALF),
        (PRECISION_KEY, "Precision", "precision"),
        (PRESET_KEY, "GEKO preset", "preset"),
    ),
    *_group(
        "GEKO",
        ("geko.enabled", "GEKO on", "check"),
        ("geko.freeze_confidence", "Freeze confidence", "slider"),
        ("geko.focus_confidence", "Focus confidence", "slider"),
        ("geko.freeze_quality", "Freeze quality", "slider"),
        ("geko.min_q_for_freeze", "Minimum Q-value", "slider"),
        ("geko.bucket_weights", "Weights of HARD, FOCUS, LIGHT", "text"),
        ("geko.use_curriculum", "Mountain curriculum", "check"),
        ("geko.frozen_replay", "Replay of FREEZE", "slider"),
        ("geko.prediction_confidence", "Look-alikes from", "slider"),
        ("geko.stable_share", "Stable share (free text)", "slider"),
        ("geko.recheck_ratio", "Re-check of FREEZE", "slider"),
        ("geko.prune_frozen_after", "Prune after", "integer", *HALF),
        ("geko.repartition_every", "Sort again every", "integer", *HALF),
        ("geko.pruned_replay", "Replay of pruned ones", "slider"),
        ("geko.noise_guard", "Noise guard", "check"),
        ("geko.initial_scan", "Initial scan", "check"),
        ("geko.mastery", "Mastery", "choice"),
        ("geko.q_value_lr", "Q-value rate", "text", *HALF),
        ("geko.q_value_loss_scale", "Q-value loss scale", "text", *HALF),
        ("geko.max_times_seen", "Most visits", "integer", *HALF),
        ("geko.log_bucket_stats", "Print buckets", "check", *HALF),
    ),
    *_group(
        "LoRA",
        ("lora.enabled", "LoRA", "check"),
        ("lora.r", "Rank", "integer", *HALF),
        ("lora.alpha", "Alpha", "integer", *HALF),
        ("lora.dropout", "Dropout", "slider"),
        ("lora.target_modules", "Target layers", "text", "by the model's family"),
        ("model.quantization", "Quantised base", "choice"),
    ),
    *_group(
        "Columns and splits",
        ("data.prompt_column", "Prompt column", "text", "recognised", True),
        ("data.completion_column", "Completion column", "text", "recognised", True),
        ("data.text_column", "Text column", "text", "recognised", True),
        ("data.messages_column", "Conversation column", "text", "recognised", True),
        ("data.chat_template", "Chat template for prompts", "check"),
        ("data.max_length", "Longest sample", "integer"),
        ("data.eval_ratio", "Held-out share", "slider"),
        ("data.eval_count", "Evaluation samples", "text", "all"),
        ("data.row_flags", "Flagged rows file", "text", "none"),
        ("data.flag_action", "What to do with flagged rows", "choice"),
        ("data.train_config", "Training configuration", "text", "default", True),
        ("data.train_split", "Training split", "text", *HALF),
        ("data.eval_config", "Evaluation configuration", "text", "default", True),
        ("data.eval_split", "Evaluation split", "text", *HALF),
    ),
    *_group(
        "Efficiency",
        ("training.gradient_checkpointing", "Gradient checkpointing", "check"),
        ("training.use_8bit_optimizer", "8-bit optimizer", "check"),
        ("training.compile_model", "torch.compile", "check"),
        ("training.auto_find_batch_size", "Smaller batches when memory runs out", "check"),
        ("training.dataloader_num_workers", "Loader processes", "integer", *HALF),
        ("training.dataloader_prefetch_factor", "Prefetched batches", "integer", *HALF),
        ("training.dataloader_persistent_workers", "Keep loader processes", "check"),
    ),
    *_group(
        "Advanced",
        ("training.warmup_steps", "Warm-up steps", "integer", *HALF),
        ("training.weight_decay", "Weight decay", "text", *HALF),
        ("training.max_grad_norm", "Max gradient norm", "text", *HALF),
        ("training.seed", "Seed", "integer", *HALF),
        ("training.eval_steps", "Evaluate every", "integer", *HALF),
        ("training.save_steps", "Save every", "integer", *HALF),
        ("training.logging_steps", "Print every", "integer", *HALF),
        ("training.save_total_limit", "Checkpoints kept", "integer", *HALF),
        ("training.save_at_end", "Save the model when stopped", "check"),
        ("model.revision", "Model revision", "text", "main"),
        ("model.trust_remote_code", "Trust remote code", "check"),
        ("training.resume_from_checkpoint", "Resume from checkpoint", "text", "none"),
        ("output_dir", "Output folder", "text"),
    ),
)
GROUPS = tuple(dict.fromkeys(field.group for field in FIELDS))
