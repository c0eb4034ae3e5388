"""The sections of a run that say what is trained and how: model, data, lora, training. Knows no rule and no file."""

from __future__ import annotations

from dataclasses import dataclass

from geko_engine.config.declaration import Problem, check, raise_problems, setting

DEMO = "demo"
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
    row_flags: str | None = setting(
        None,
        "A row_flags.json: rows that were flagged on the Samples page of an earlier run on the same data; empty for none. Give it to leave out what looked wrong. Costs nothing.",
    )
    flag_action: str = setting(
        "exclude",
        "What to do with the flagged rows: exclude leaves wrong ones out; never_freeze goes on training important ones, however well they are known, at their full cost.",
        choices=("exclude", "never_freeze"),
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
