"""The fields of the form: every setting of a run once, with its label, its kind and its group.

Knows no widget library and no values. Help, details, unit and range of a field are those declared with its setting.
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
        key: dotted name of its setting.
        label: what the field is called.
        kind: "text", "lines" (a text of several), "integer", "slider", "check", "choice", "preset" or "precision".
        group: heading that it stands under.
        placeholder: what an empty field means.
        half_width: whether two such fields share a row.
        upload: whether it takes a file too.
    """

    key: str
    label: str
    kind: str
    group: str
    placeholder: str = ""
    half_width: bool = False
    upload: bool = False

    @property
    def help(self) -> str:
        """What the setting does: the short line under the label."""
        return OWN_TEXTS[self.key][0] if self.key in OWN_TEXTS else self.spec.help

    @property
    def details(self) -> str:
        """When to change the setting and what it costs: shown behind the info icon."""
        return OWN_TEXTS[self.key][1] if self.key in OWN_TEXTS else self.spec.details

    @property
    def spec(self) -> Spec:
        """The declaration of its setting; only for fields that have one."""
        section, name = self.key.split(".")
        return spec_of(SECTIONS[section], name)

    @property
    def is_text(self) -> bool:
        """Whether its value is typed as text, whatever the type of the setting."""
        return self.kind in ("text", "lines")

    @property
    def choices(self) -> tuple[Any, ...]:
        """The only allowed values; () if there are others."""
        return self.spec.choices

    @property
    def optional(self) -> bool:
        """Whether the field may be empty, which means that nothing is set."""
        section, _, name = self.key.partition(".")
        return self.key not in (PRESET_KEY, PRECISION_KEY) and bool(name) and is_optional(SECTIONS[section], name)


def _group(name: str, *fields: tuple[Any, ...]) -> tuple[FormField, ...]:
    return tuple(FormField(key, label, kind, name, *rest) for key, label, kind, *rest in fields)


NUMBER_PAIR = ("", True)  # placeholder and half_width of two numbers in one row
FIELDS: tuple[FormField, ...] = (
    *_group(
        "Model",
        ("model.name", "Model", "text", "a folder, a Hub id, or demo"),
    ),
    *_group(
        "Model options",
        ("model.revision", "Model revision", "text", "main"),
        ("model.trust_remote_code", "Trust remote code", "check"),
        ("model.dtype", "Weights dtype", "choice"),
        ("model.attn_implementation", "Attention", "choice"),
    ),
    *_group(
        "Data",
        ("data.train", "Training data", "text", "a file, a folder, a Hub id, or demo", False, True),
        ("data.eval", "Evaluation data", "text", "none", False, True),
    ),
    *_group(
        "Columns and splits",
        ("data.prompt_column", "Prompt column", "text", "auto", True),
        ("data.completion_column", "Completion column", "text", "auto", True),
        ("data.text_column", "Text column", "text", "auto", True),
        ("data.messages_column", "Messages column", "text", "auto", True),
        ("data.context_column", "Context column", "text", "auto", True),
        ("data.system_column", "System prompt column", "text", "auto", True),
        ("data.label_column", "Label column", "text", "auto", True),
        ("data.weight_column", "Weight column", "text", "none", True),
        ("data.chat_template", "Chat template", "choice"),
        ("data.truncation_side", "Truncate on the", "choice"),
        ("data.eval_ratio", "Held-out share", "slider"),
        ("data.eval_count", "Evaluation samples", "text", "all"),
        ("data.retention", "General rows (forgetting)", "text", "none"),
        ("data.replay", "Continue from run", "text", "none"),
        ("data.replay_share", "Replay share of earlier rows", "slider"),
        ("data.row_flags", "Flagged rows file", "text", "none"),
        ("data.corrections", "Corrections file", "text", "none"),
        ("data.flag_action", "What to do with flagged rows", "choice"),
        ("data.train_config", "Training subset", "text", "default", True),
        ("data.train_split", "Training split", "text", *NUMBER_PAIR),
        ("data.eval_config", "Evaluation subset", "text", "default", True),
        ("data.eval_split", "Evaluation split", "text", *NUMBER_PAIR),
    ),
    *_group(
        "Train",
        (PRESET_KEY, "GEKO preset", "preset"),
        ("training.num_epochs", "Epochs", "text", *NUMBER_PAIR),
        ("training.learning_rate", "Learning rate", "text", *NUMBER_PAIR),
        ("training.batch_size", "Batch size", "integer", *NUMBER_PAIR),
        ("data.max_length", "Max length", "integer", *NUMBER_PAIR),
        ("data.sample_count", "Training samples", "text", "all", True),
        ("lora.enabled", "LoRA", "check", *NUMBER_PAIR),
    ),
    *_group(
        "LoRA",
        ("lora.r", "Rank", "integer", *NUMBER_PAIR),
        ("lora.alpha", "Alpha", "integer", *NUMBER_PAIR),
        ("lora.dropout", "Dropout", "slider"),
        ("lora.target_modules", "Target modules", "text", "auto"),
        ("lora.use_rslora", "rsLoRA", "check", *NUMBER_PAIR),
        ("lora.use_dora", "DoRA", "check", *NUMBER_PAIR),
        ("lora.init_lora_weights", "Begin with", "choice"),
        ("lora.modules_to_save", "Train whole layers", "text", "none"),
        ("model.quantization", "Quantization", "choice"),
    ),
    *_group(
        "GEKO",
        ("geko.enabled", "Enable GEKO", "check"),
        ("geko.freeze_confidence", "Freeze confidence", "slider"),
        ("geko.focus_confidence", "Focus confidence", "slider"),
        ("geko.prediction_confidence", "Skip before first visit above (predicted accuracy)", "slider"),
        ("geko.min_known_share", "Skip only if known beforehand (share)", "slider"),
        ("geko.stable_share", "Stable share (free text)", "slider"),
        ("geko.frozen_replay", "Replay share of FREEZE", "slider"),
        ("geko.recheck_ratio", "Re-check share of FREEZE", "slider"),
        ("geko.bucket_weights", "Loss weights of HARD, FOCUS, LIGHT", "text"),
        ("geko.noise_guard", "Noise guard", "check"),
        ("geko.initial_scan", "Initial scan", "check"),
        ("geko.final_scan", "Final scan", "check"),
        ("geko.use_curriculum", "Mountain curriculum", "check"),
        ("geko.mastery", "Mastery criterion", "choice"),
        ("geko.repartition_every", "Partition every (epochs)", "integer", *NUMBER_PAIR),
        ("geko.max_times_seen", "Max visits per sample", "integer", *NUMBER_PAIR),
        ("geko.prune_frozen_after", "Prune after (epochs)", "integer", *NUMBER_PAIR),
        ("geko.log_bucket_stats", "Print bucket counts", "check"),
        ("geko.pruned_replay", "Replay share of pruned samples", "slider"),
    ),
    *_group(
        "Legacy thresholds",
        ("geko.freeze_quality", "Freeze quality", "slider"),
        ("geko.min_q_for_freeze", "Minimum Q-value", "slider"),
        ("geko.q_value_lr", "Q-value rate", "text", *NUMBER_PAIR),
        ("geko.q_value_loss_scale", "Q-value loss scale", "text", *NUMBER_PAIR),
    ),
    *_group(
        "Optimization",
        ("training.optim", "Optimizer", "choice"),
        ("training.lr_scheduler_type", "Learning rate schedule", "choice"),
        ("training.warmup_steps", "Warmup steps", "integer", *NUMBER_PAIR),
        ("training.warmup_ratio", "Warmup share", "text", "by steps", True),
        ("training.gradient_accumulation_steps", "Accumulation steps", "integer", *NUMBER_PAIR),
        ("training.max_steps", "Steps at most", "text", "by epochs", True),
        ("training.weight_decay", "Weight decay", "text", *NUMBER_PAIR),
        ("training.max_grad_norm", "Max gradient norm", "text", *NUMBER_PAIR),
        ("training.neftune_noise_alpha", "NEFTune noise", "text", *NUMBER_PAIR),
        ("training.seed", "Seed", "integer", *NUMBER_PAIR),
    ),
    *_group(
        "Efficiency",
        (PRECISION_KEY, "Precision", "precision"),
        ("training.gradient_checkpointing", "Gradient checkpointing", "check"),
        ("training.use_8bit_optimizer", "8-bit optimizer", "check"),
        ("training.compile_model", "torch.compile", "check"),
        ("training.auto_find_batch_size", "Auto-reduce batch size on OOM", "check"),
        ("training.group_by_length", "Group by length", "check"),
        ("training.padding_free", "Padding-free batches", "choice"),
        ("training.max_tokens_per_batch", "Max tokens per batch (0: by samples)", "integer"),
        ("training.num_processes", "Processes", "integer", *NUMBER_PAIR),
        ("training.gpu_ids", "GPUs", "text", "the first ones", True),
        ("training.fsdp", "Share out weights (FSDP)", "choice"),
        ("training.dataloader_num_workers", "Data loader workers", "integer", *NUMBER_PAIR),
        ("training.dataloader_prefetch_factor", "Prefetch factor", "integer", *NUMBER_PAIR),
        ("training.dataloader_persistent_workers", "Persistent workers", "check"),
    ),
    *_group(
        "Advanced",
        ("training.eval_steps", "Evaluate every (steps)", "integer", *NUMBER_PAIR),
        ("training.save_steps", "Save every (steps)", "integer", *NUMBER_PAIR),
        ("training.logging_steps", "Print every (steps)", "integer", *NUMBER_PAIR),
        ("training.max_epochs", "Most epochs (auto)", "integer", *NUMBER_PAIR),
        ("training.max_minutes", "Time limit (minutes)", "text", *NUMBER_PAIR),
        ("training.max_cost", "Cost limit", "text", *NUMBER_PAIR),
        ("training.cost_per_hour", "Cost per hour", "text", *NUMBER_PAIR),
        ("training.early_stopping_patience", "Early stopping patience", "integer", *NUMBER_PAIR),
        ("training.load_best_model_at_end", "Keep the best model", "check"),
        ("training.average_weights", "Average the weights", "check"),
        ("training.metric_for_best_model", "Best by", "choice"),
        ("training.answers_per_epoch", "Answers per epoch", "integer", *NUMBER_PAIR),
        ("training.save_total_limit", "Max checkpoints", "integer", *NUMBER_PAIR),
        ("training.answer_prompts", "Own prompts to answer", "lines", "none"),
        ("training.report_to", "Experiment trackers", "text", "none"),
        ("training.webhook_url", "Webhook at the end", "text", "none"),
        ("training.save_at_end", "Save a last checkpoint", "check"),
        ("training.resume_from_checkpoint", "Resume from checkpoint", "text", "none"),
        ("output_dir", "Output folder", "text"),
    ),
)
GROUPS = tuple(dict.fromkeys(field.group for field in FIELDS))


@dataclass(frozen=True)
class Step:
    """One step of the form.

    Attributes:
        name: its heading.
        hint: a few words beside it.
        open: the group that is always shown, "" for none.
        folded: the groups that are folded at first.
    """

    name: str
    hint: str
    open: str = ""
    folded: tuple[str, ...] = ()


STEPS = (
    Step("Model", "what to fine-tune", "Model", ("Model options",)),
    Step("Data", "the rows to learn from", "Data", ("Columns and splits",)),
    Step("Check", "data, memory and time"),
    Step(
        "Train",
        "the numbers that matter",
        "Train",
        ("LoRA", "GEKO", "Legacy thresholds", "Optimization", "Efficiency", "Advanced"),
    ),
)
