"""Every setting of a run: RunConfig = model + data + lora + training + geko + output_dir.

One declaration per setting (name, type, default, unit, range, help). Reads and writes YAML. Knows no model,
no data and no torch, so a page can import it in milliseconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from geko_engine.exceptions import ConfigError
from geko_engine.settings import Problem, build, check, raise_problems, setting, unknown_key

DEMO = "demo"
QUANTIZED_NEEDS_LORA = (
    "Quantised weights cannot be trained themselves: switch LoRA on (lora.enabled), or set quantization to none."
)
ALL_LINEAR = "all-linear"  # as a LoRA target: every linear layer but the output


@dataclass
class ModelConfig:
    """Which model is fine-tuned."""

    name: str = setting(
        DEMO,
        "Hub id, local folder, or 'demo' for the small model that ships with GEKO. A larger model answers better; memory and time grow with its size.",
    )
    revision: str | None = setting(
        None,
        "Branch, tag or commit on the Hub; empty for its main branch. Give a commit when the run must be repeatable later. Costs nothing.",
    )
    trust_remote_code: bool = setting(
        False,
        "Run Python code from the model's repository, for models that do not load without it. That code can do anything on this machine: only for authors that you trust.",
    )
    quantization: str = setting(
        "none",
        "Hold the frozen weights in 4 or 8 bits beside LoRA (QLoRA), when the model does not fit into memory. Costs slower steps and a little quality; needs bitsandbytes.",
        choices=("none", "4bit", "8bit"),
    )


@dataclass
class DataConfig:
    """Which rows are trained on, which are evaluated on, and how they are read."""

    train: str = setting(
        DEMO,
        "What is learnt: Hub id, local JSONL, JSON, CSV, TSV, Parquet, Arrow or TXT file, or 'demo'. Time grows with its tokens.",
    )
    train_config: str | None = setting(
        None,
        "Configuration (subset) of a Hub dataset; empty for its default. Needed only where a dataset has several. Costs nothing.",
    )
    train_split: str = setting(
        "train",
        "Split of a Hub dataset to train on. Change it where the dataset names it differently. Time grows with its tokens.",
    )
    sample_count: int | None = setting(
        None,
        "Train on the first so many rows; empty for all. A few hundred make a quick trial; fewer rows teach less.",
        unit="rows",
        minimum=1,
    )
    eval: str | None = setting(
        None,
        "Rows that are never trained on: they tell how good the result is. Hub id, local file, or 'demo'; empty for none. Each evaluation costs a forward pass over them.",
    )
    eval_config: str | None = setting(
        None,
        "Configuration (subset) of the evaluation dataset on the Hub; empty for its default. Needed only where it has several. Costs nothing.",
    )
    eval_split: str = setting(
        "test",
        "Split of a Hub dataset to evaluate on. Change it where the dataset names it differently, often validation. Time of an evaluation grows with it.",
    )
    eval_count: int | None = setting(
        None,
        "Evaluate on the first so many rows; empty for all. Lower it when evaluating takes long; fewer rows give a rougher figure.",
        unit="rows",
        minimum=1,
    )
    eval_ratio: float = setting(
        0.0,
        "Share of the training data held out as evaluation data, where none is named; 0.05 is a good start. What is held out is not learnt.",
        minimum=0,
        maximum=0.5,
    )
    marks: str | None = setting(
        None,
        "A marks.json: rows that were marked on the Samples page of an earlier run on the same data; empty for none. Give it to leave out what looked wrong. Costs nothing.",
    )
    marked: str = setting(
        "exclude",
        "What becomes of the marked rows: exclude leaves wrong ones out; never freeze goes on training important ones, however well they are known, at their full cost.",
        choices=("exclude", "never freeze"),
    )
    prompt_column: str | None = setting(
        None,
        "Column that is shown to the model and not learnt; empty to recognise it. Give it when a look at the data shows the wrong one. Costs nothing.",
    )
    completion_column: str | None = setting(
        None,
        "Column that the model learns to write; empty to recognise it. Give it when a look at the data shows the wrong one. Costs nothing.",
    )
    text_column: str | None = setting(
        None,
        "Column of plain text, learnt whole; empty to recognise it. Give it for texts without question and answer; to learn every token takes more memory.",
    )
    messages_column: str | None = setting(
        None,
        "Column of conversations (role and content, or from and value); empty to recognise it. Give it when a look at the data shows the wrong one. Costs nothing.",
    )
    chat_template: bool = setting(
        False,
        "Put prompt and completion into the model's chat template, as conversations always are. On for a chat model; costs a few tokens in each sample.",
    )
    max_length: int = setting(
        512,
        "Longer samples are cut here. Raise it when a look at the data finds cut ones; memory and time grow with the longest sample.",
        unit="tokens",
        minimum=4,
        maximum=1_000_000,
    )


@dataclass
class LoraSettings:
    """Low-rank adaptation: train small matrices beside the frozen weights (peft.LoraConfig's names)."""

    enabled: bool = setting(
        False,
        "Train small adapters instead of all weights: far less memory and small files. On when the model is too large to train whole; may cost a little quality.",
    )
    r: int = setting(
        16,
        "Rank of the adapters: how much they can learn. Double it when the loss stays high; their memory doubles too.",
        minimum=1,
        maximum=1024,
    )
    alpha: int = setting(
        32,
        "Scale of the adapters; twice the rank is a good start. Lower it if the loss jumps. Costs nothing.",
        minimum=1,
    )
    dropout: float = setting(
        0.05,
        "Share of the adapters' inputs that is left out at random. Raise it when the evaluation loss rises while the training loss falls; learning gets slower.",
        minimum=0,
        maximum=0.9,
    )
    target_modules: list[str] = setting(
        [],
        "Names of the layers that get adapters, or all-linear; empty to choose by the model's family. More layers learn more and take more memory.",
    )


@dataclass
class GEKOTrainingArgs:
    """How a run is trained; the names of transformers.TrainingArguments where there is one.

    In a RunConfig `output_dir` is the top-level key; here it serves scripts that use GEKOTrainer alone.
    """

    output_dir: str = "./geko_output"
    num_epochs: int = setting(
        3,
        "Passes over the data. More while the evaluation loss still falls, fewer when it rises again; time grows with each.",
        unit="epochs",
        minimum=1,
        maximum=10_000,
    )
    batch_size: int = setting(
        32,
        "Samples in one forward pass. When memory runs out, halve it and double the accumulation steps: the same result, slower.",
        unit="samples",
        minimum=1,
        maximum=65_536,
    )
    learning_rate: float = setting(
        5e-5,
        "Peak learning rate; it falls linearly to zero. Lower it if the loss jumps, raise it if the loss hardly falls (LoRA likes 2e-4). Costs nothing.",
        minimum=0,
        exclusive=True,
        maximum=10,
    )
    weight_decay: float = setting(
        0.01,
        "AdamW's decay of weight matrices, against overfitting. Rarely worth a change; 0 for none. Costs nothing.",
        minimum=0,
        maximum=10,
    )
    warmup_steps: int = setting(
        100,
        "Steps in which the learning rate rises from zero, at most a tenth of the run. More if the loss jumps at the beginning. Costs no time.",
        unit="steps",
        minimum=0,
    )
    logging_steps: int = setting(
        100,
        "The command line prints the loss every so many steps; the page shows every step anyway. Costs nothing.",
        unit="steps",
        minimum=1,
    )
    save_steps: int = setting(
        1000,
        "Write a checkpoint every so many steps; 0 for none in between. Lower it where a run may be cut off; each takes time and about three times the trained weights on disk.",
        unit="steps",
        minimum=0,
    )
    eval_steps: int = setting(
        500,
        "Evaluate every so many steps, besides every epoch's end; 0 for epochs only. Lower it to see overfitting sooner; each costs a pass over the evaluation data.",
        unit="steps",
        minimum=0,
    )
    max_grad_norm: float = setting(
        1.0,
        "Clip gradients at this norm; 0 for no clipping. Lower it if the loss jumps now and then. Costs next to nothing.",
        minimum=0,
    )
    gradient_accumulation_steps: int = setting(
        1,
        "Forward passes per optimizer step: the effect of a larger batch without its memory. Raise it when the batch had to be small; steps take longer.",
        minimum=1,
        maximum=65_536,
    )
    auto_find_batch_size: bool = setting(
        False,
        "When memory runs out, go on with half the batch size and twice the accumulation steps: the same result, slower. On when you do not know what fits.",
        kw_only=True,
    )
    seed: int = setting(
        42,
        "Same seed, same run. Change it to see how much of a result is chance. Costs nothing.",
        minimum=0,
        maximum=2**32 - 1,
    )
    save_at_end: bool = setting(
        True,
        "Save the model also when the run is stopped early; a complete run always saves it. Off when the checkpoint is enough: it saves the model's size on disk.",
    )
    save_total_limit: int = setting(
        2,
        "Checkpoints kept; the oldest go first. One is enough to resume, more can be compared on Try it; each takes about three times the trained weights on disk.",
        minimum=1,
        kw_only=True,
    )
    resume_from_checkpoint: str | None = setting(
        None,
        "Checkpoint folder of an earlier run to go on from: weights, optimizer and record. Only for a new run with other settings; else press Resume. Costs nothing.",
        kw_only=True,
    )
    bf16: bool = setting(
        False,
        "bfloat16 mixed precision: quicker, with less memory, on Ampere or newer GPUs and recent CPUs. Costs a little exactness.",
    )
    fp16: bool = setting(
        False,
        "float16 mixed precision with loss scaling, for older GPUs: quicker, with less memory. Costs a little exactness.",
    )
    gradient_checkpointing: bool = setting(
        False,
        "Compute activations again instead of keeping them. On when memory runs out: much less memory, about a third more time.",
    )
    compile_model: bool = setting(
        False, "torch.compile: for long runs on a GPU. The first steps are slow, the later ones faster."
    )
    use_8bit_optimizer: bool = setting(
        False,
        "AdamW with 8-bit state: about a quarter of the optimizer's memory. On when memory runs out; costs next to no quality and needs bitsandbytes.",
    )
    dataloader_num_workers: int = setting(
        -1,
        "Processes that prepare batches; -1 to choose (0 on macOS and on the CPU). More only if a GPU waits for data; each takes memory.",
        minimum=-1,
        maximum=256,
    )
    dataloader_persistent_workers: bool = setting(
        True, "Keep those processes between epochs. Off when memory is short; every epoch then begins a little later."
    )
    dataloader_prefetch_factor: int = setting(
        2, "Batches that each of them prepares ahead. More only if a GPU waits for data; they take memory.", minimum=1
    )

    def __post_init__(self) -> None:
        raise_problems(list(self.problems()))

    def problems(self, prefix: str = "") -> list[Problem]:
        """Every broken rule as (dotted field, message)."""
        found = list(check(self, prefix))
        if self.bf16 and self.fp16:
            found.append((prefix + "fp16", "bf16 and fp16 are both on: switch one of them off."))
        return found


@dataclass
class GEKOConfig:
    """Which samples get compute. The defaults are GEKO_RECOMMENDED; `GEKOConfig.seed()` gives gekolib's own.

    FREEZE = correct, confidence > freeze_confidence, Q >= min_q_for_freeze, quality > freeze_quality;
    LIGHT = correct otherwise; FOCUS = wrong, confidence <= focus_confidence; HARD = wrong, above it.
    """

    enabled: bool = setting(
        True,
        "Off: every sample in every epoch, as plain training does, for comparison. Costs all the compute that GEKO would save.",
        kw_only=True,
    )
    freeze_confidence: float = setting(
        0.85,
        "A correct sample is mastered when its least likely token is at least this likely. Lower freezes sooner: it saves more and forgets more.",
        minimum=0,
        maximum=1,
    )
    freeze_quality: float = setting(
        0.80,
        "A sample whose loss has risen since its best visit by 1 minus this is not mastered. Raise it when mastered samples are forgotten; it saves less then.",
        minimum=0,
        maximum=1,
    )
    focus_confidence: float = setting(
        0.60,
        "A wrong answer above this confidence is HARD, below it FOCUS. Lower it to find more suspicious samples; the noise guard then leaves out more.",
        minimum=0,
        maximum=1,
    )
    bucket_weights: tuple[float, float, float] = setting(
        (1.0, 1.0, 1.0),
        "Loss weights of HARD, FOCUS and LIGHT. Equal weights measured best: change them only to try something. Costs no compute.",
        minimum=0,
    )
    use_curriculum: bool = setting(
        False,
        "Mountain curriculum: five phases with their own weights and learning-rate factors. It measured worse than none: only for comparison. Costs no compute.",
    )
    q_value_lr: float = setting(
        0.1,
        "How fast a sample's Q-value follows its loss. Lower it when samples are frozen after one lucky visit; it saves less then.",
        minimum=0,
        exclusive=True,
        maximum=1,
    )
    min_q_for_freeze: float = setting(
        0.8,
        "Q-value that a mastered sample needs. Raise it to freeze only what had a low loss all along; it saves less then.",
        minimum=0,
        maximum=1,
    )
    q_value_loss_scale: float = setting(
        10.0,
        "Loss that counts as Q = 0. Raise it when losses are high from the start and nothing freezes; a higher one freezes sooner and forgets more.",
        unit="nats",
        minimum=0,
        exclusive=True,
    )
    repartition_every: int = setting(
        1,
        "Sort the samples into buckets again every so many epochs. Raise it in runs of many short epochs; what is mastered meanwhile still costs compute.",
        minimum=1,
    )
    log_bucket_stats: bool = setting(
        True, "The command line prints the bucket counts of each epoch; the page shows them anyway. Costs nothing."
    )
    max_times_seen: int = setting(
        50,
        "A sample is trained on at most so often. Lower it in long runs on few rows, where they are learnt by heart. Saves compute.",
        unit="visits",
        minimum=1,
    )
    prune_frozen_after: int = setting(
        0,
        "After so many epochs as FREEZE a sample is pruned, that is replayed more rarely; 0 for never. For runs of many epochs: saves more, and some are forgotten.",
        unit="epochs",
        minimum=0,
    )
    pruned_replay: float = setting(
        0.10,
        "Share of the pruned samples trained on again in each epoch. Lower saves a little more; 0 removes them for good, and some are forgotten.",
        minimum=0,
        maximum=1,
    )
    frozen_replay: float = setting(
        0.15,
        "Share of the frozen samples trained on again in each epoch, against forgetting. Lower saves more and forgets more; what they cost is counted.",
        minimum=0,
        maximum=1,
    )
    recheck_ratio: float = setting(
        0.0,
        "Share of the frozen samples only looked at in each epoch, so that forgotten ones thaw. Raise it where little is replayed; a look costs a third of training.",
        minimum=0,
        maximum=1,
    )
    prediction_confidence: float = setting(
        0.85,
        "A sample that has not come up in an epoch is left out like a frozen one when samples like it make it this likely "
        "to be answered right. Lower saves more and misses more; 1 for never.",
        minimum=0.5,
        maximum=1,
    )
    initial_scan: bool = setting(
        False,
        "Look at every sample before the first epoch, so that what is known is skipped at once. On when the model knows much already; costs a third of an epoch.",
    )
    mastery: str = setting(
        "exact",
        "exact: answered exactly and surely. relative: loss below the mean of the data, which also skips long answers; it measured no better than a shorter plain run.",
        choices=("exact", "relative"),
    )
    noise_guard: bool = setting(
        True,
        "Leave out 90 % of the samples that stay confidently wrong: most of them are wrong labels. Off when your data is clean but hard; they then cost compute again.",
    )

    def __post_init__(self) -> None:
        self.bucket_weights = tuple(self.bucket_weights)  # type: ignore[assignment]
        raise_problems(list(self.problems()))

    def problems(self, prefix: str = "") -> list[Problem]:
        """Every broken rule as (dotted field, message)."""
        found = list(check(self, prefix))
        broken = {name for name, _ in found}
        if prefix + "bucket_weights" not in broken and not any(self.bucket_weights):
            found.append(
                (prefix + "bucket_weights", "All three weights are 0, so nothing would be trained: raise one.")
            )
        return found

    @classmethod
    def seed(cls) -> GEKOConfig:
        """The defaults that GEKO was first published with: weights (3, 1, 0) and the mountain curriculum."""
        return cls(bucket_weights=(3.0, 1.0, 0.0), use_curriculum=True)


GEKO_RECOMMENDED = GEKOConfig()
GEKO_AGGRESSIVE = GEKOConfig(freeze_confidence=0.90, bucket_weights=(5.0, 2.0, 0.0))
GEKO_BALANCED = GEKOConfig(freeze_confidence=0.85, bucket_weights=(3.0, 2.0, 1.0))
GEKO_CONSERVATIVE = GEKOConfig(freeze_confidence=0.80, bucket_weights=(2.0, 2.0, 1.0))
PRESETS: dict[str, GEKOConfig] = {
    "recommended": GEKO_RECOMMENDED,
    "aggressive": GEKO_AGGRESSIVE,
    "balanced": GEKO_BALANCED,
    "conservative": GEKO_CONSERVATIVE,
}
SECTIONS: dict[str, type] = {
    "model": ModelConfig,
    "data": DataConfig,
    "lora": LoraSettings,
    "training": GEKOTrainingArgs,
    "geko": GEKOConfig,
}


@dataclass
class RunConfig:
    """Everything that is needed to run a run again. `output_dir` is the folder that its run folder is made in."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    lora: LoraSettings = field(default_factory=LoraSettings)
    training: GEKOTrainingArgs = field(default_factory=GEKOTrainingArgs)
    geko: GEKOConfig = field(default_factory=GEKOConfig)
    output_dir: str = "runs"

    @classmethod
    def demo(cls) -> RunConfig:
        """The built-in run: a small model, small data, minutes on a laptop without a GPU or a network."""
        training = GEKOTrainingArgs(num_epochs=4, batch_size=16, learning_rate=7e-4, warmup_steps=20, eval_steps=0)
        return cls(data=DataConfig(eval=DEMO, max_length=128), training=training)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """Build from plain nested values. `geko.preset` names the preset that the other keys change.

        Raises:
            ConfigError: with one problem for each unknown key and each value that breaks its rule.
        """
        problems: list[Problem] = []
        if not isinstance(values, Mapping):
            raise ConfigError(f"A run is described by keys and values, but this is {type(values).__name__}.")
        for key in set(values) - set(SECTIONS) - {"output_dir"}:
            problems.append((str(key), unknown_key(str(key), {*SECTIONS, "output_dir"})))
        sections = {name: _section(name, values.get(name), problems) for name in SECTIONS}
        output_dir = values.get("output_dir", "runs")
        if not isinstance(output_dir, str) or not output_dir.strip():
            problems.append(("output_dir", "The output folder is empty: give the folder that runs are written to."))
        if sections["model"].quantization != "none" and not sections["lora"].enabled:
            problems.append(("model.quantization", QUANTIZED_NEEDS_LORA))
        raise_problems(problems)
        return cls(**sections, output_dir=output_dir)

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Mapping[str, Any] | None = None) -> RunConfig:
        """Read a YAML file; `overrides` maps dotted keys ("training.num_epochs") to values that win.

        Raises:
            ConfigError: when the file cannot be read, is not YAML, or breaks a rule.
        """
        return cls.from_dict(apply_overrides(read_yaml(path), overrides or {}))

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values; `from_dict` of them gives an equal RunConfig."""
        values = dataclasses.asdict(self)
        values["training"].pop("output_dir")
        values["geko"]["bucket_weights"] = list(self.geko.bucket_weights)
        return values

    def to_yaml(self) -> str:
        """The whole configuration as YAML text, in the order in which it is declared."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError when it cannot be read or is no mapping."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The file {str(path)!r} cannot be read ({error.strerror}): check its name.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"The file {str(path)!r} is not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"The file {str(path)!r} holds no keys: begin with 'model:', 'data:' or 'training:'.")
    return values


def apply_overrides(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested `values` with the dotted keys of `overrides` set."""
    result = {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}
    for dotted, value in overrides.items():
        section, _, key = dotted.partition(".")
        if not key:
            result[section] = value
        else:
            inner = result.get(section)
            result[section] = {**inner, key: value} if isinstance(inner, dict) else {key: value}
    return result


def _section(name: str, values: Any, problems: list[Problem]) -> Any:
    """One section from plain values; problems are collected, and a broken section comes back as its default."""
    cls = SECTIONS[name]
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        problems.append((name, f"{values!r} is not a group of settings: write '{name}:' and its keys below it."))
        return cls()
    values = dict(values)
    if name == "geko":
        values = _with_preset(values, problems)
    if name == "model" and not str(values.get("name", DEMO) or "").strip():
        problems.append(("model.name", "No model is named: give a Hub id, a local folder, or 'demo'."))
    if name == "data" and not str(values.get("train", DEMO) or "").strip():
        problems.append(("data.train", "No training data is named: give a Hub id, a local file, or 'demo'."))
    try:
        section = build(cls, values, f"{name}.", problems)
        problems.extend(p for p in check(section, f"{name}.") if p not in problems)
        return section
    except ConfigError as error:
        problems.extend((f"{name}.{key}", text) for key, text in error.problems)
        return cls()


def _with_preset(values: dict[str, Any], problems: list[Problem]) -> dict[str, Any]:
    preset = values.pop("preset", None)
    if preset is None:
        return values
    if str(preset).lower() not in PRESETS:
        problems.append(("geko.preset", f"{preset!r} is not one of {', '.join(PRESETS)}."))
        return values
    return {**dataclasses.asdict(PRESETS[str(preset).lower()]), **values}
