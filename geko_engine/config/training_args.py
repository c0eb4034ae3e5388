"""The section training of a run, and what it offers by name. Knows no selection rule and no file."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from geko_engine.config.declaration import Problem, check, raise_problems, setting
from geko_engine.reporting.webhook import webhook_problem

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
SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup", "warmup_stable_decay")


def tracker_problem(names: list[str]) -> str:
    """Which of the experiment trackers `names` cannot be used here, and what to install; "" if all can."""
    for name in names:
        if name in TRACKERS and importlib.util.find_spec(TRACKERS[name]) is None:
            return f"The tracker {name} needs its package: install it with `pip install {TRACKERS[name]}`, or leave it out."
    return ""


@dataclass
class GEKOTrainingArgs:
    """How to train. Names as in transformers.TrainingArguments, where it has them.

    Attributes:
        output_dir: folder for checkpoints, for scripts that use GEKOTrainer directly. A RunConfig has its own output_dir.

    Raises:
        ConfigError: if a value is invalid.
    """

    output_dir: str = "./geko_output"
    num_epochs: int | Literal["auto"] = setting(
        3,
        "Passes over the training data, or auto to end when more would not help.",
        "auto watches the loss on the evaluation data, or on rows that it holds out, and ends with the best weights when that loss no longer falls. With a number, use more epochs while the evaluation loss still falls, fewer if it rises again.",
        unit="epochs",
        minimum=1,
        maximum=10_000,
    )
    batch_size: int = setting(
        32,
        "Samples per forward pass.",
        "If memory runs out, halve it and double the accumulation steps: same result, slower training.",
        unit="samples",
        minimum=1,
        maximum=65_536,
    )
    learning_rate: float = setting(
        5e-5,
        "Peak learning rate, after warm-up and before decay.",
        "Lower it if the loss is unstable, raise it if the loss hardly falls. 2e-4 is common for LoRA.",
        minimum=0,
        exclusive=True,
        maximum=10,
    )
    weight_decay: float = setting(
        0.01,
        "Weight decay of the weight matrices; 0 for none.",
        "Reduces overfitting. Rarely worth changing.",
        minimum=0,
        maximum=10,
    )
    warmup_steps: int = setting(
        100,
        "Steps of linear warmup, at most a tenth of the run.",
        "Use more if the loss is unstable at the start.",
        unit="steps",
        minimum=0,
    )
    logging_steps: int = setting(
        100,
        "Print the loss on the command line every N steps.",
        "The page shows every step anyway.",
        unit="steps",
        minimum=1,
    )
    save_steps: int = setting(
        1000,
        "Write a checkpoint every N steps; 0 for none during training.",
        "Lower it if the run may be interrupted. Each checkpoint takes time and about three times the size of the trained weights on disk.",
        unit="steps",
        minimum=0,
    )
    eval_steps: int = setting(
        500,
        "Evaluate every N steps as well as after each epoch; 0 for epochs only.",
        "Lower it to notice overfitting sooner. Each evaluation costs one forward pass over the evaluation data.",
        unit="steps",
        minimum=0,
    )
    max_epochs: int = setting(
        10,
        "Most epochs that num_epochs = auto takes.",
        "A ceiling; most runs end earlier.",
        unit="epochs",
        minimum=1,
        maximum=10_000,
        kw_only=True,
    )
    max_minutes: float = setting(
        0.0,
        "Minutes after which the training ends; 0 for no limit.",
        "The learning rate falls so that it is zero by then. Counted from the beginning of the training, with evaluations; loading the model and the data comes before it.",
        unit="minutes",
        minimum=0,
        maximum=1_000_000,
        kw_only=True,
    )
    max_cost: float = setting(
        0.0,
        "Most that the training may cost, at cost_per_hour; 0 for no limit.",
        "In the currency of cost_per_hour. The same as max_minutes = 60 x max_cost / cost_per_hour.",
        minimum=0,
        maximum=1_000_000,
        kw_only=True,
    )
    cost_per_hour: float = setting(
        0.0,
        "What an hour of this machine costs, for max_cost.",
        "For example the price of a rented GPU.",
        minimum=0,
        maximum=1_000_000,
        kw_only=True,
    )
    load_best_model_at_end: bool = setting(
        False,
        "Deliver the weights of the best evaluation instead of the last ones.",
        "Needs evaluation data, and main memory for a copy of the trained weights. num_epochs = auto always does it.",
        kw_only=True,
    )
    metric_for_best_model: str = setting(
        EVAL_LOSS,
        "Which evaluation is the best, and what early stopping watches.",
        "The loss notices overconfidence, exact match does not.",
        choices=(EVAL_LOSS, EXACT_MATCH),
        kw_only=True,
    )
    early_stopping_patience: int = setting(
        0,
        "End after so many evaluations without improvement; 0 for never.",
        "With eval_steps, evaluations come more often than once an epoch. The learning rate has then not fallen to zero: num_epochs = auto ends better.",
        unit="evaluations",
        minimum=0,
        maximum=10_000,
        kw_only=True,
    )
    max_grad_norm: float = setting(
        1.0,
        "Clip gradients to this norm; 0 for no clipping.",
        "Lower it if the loss spikes now and then.",
        minimum=0,
    )
    gradient_accumulation_steps: int = setting(
        1,
        "Forward passes per optimizer step.",
        "Has the effect of a larger batch without its memory. Raise it if the batch size had to be small; each step takes longer.",
        minimum=1,
        maximum=65_536,
    )
    max_tokens_per_batch: int = setting(
        0,
        "Tokens per forward pass, padding included; 0 to count samples instead.",
        "Fills each forward pass by tokens: many short samples or a few long ones, always about the same memory. A step still has batch_size times accumulation steps samples, in as many passes as it takes.",
        unit="tokens",
        minimum=0,
        maximum=100_000_000,
        kw_only=True,
    )
    group_by_length: bool = setting(
        True,
        "Put samples of similar length into one batch.",
        "Much less padding, so steps are faster. Switched off, batches are drawn at random, as transformers does by default.",
        kw_only=True,
    )
    padding_free: str = setting(
        AUTO,
        "Pack the samples of a batch into one row: no padding.",
        "auto does so with Flash Attention, whose kernels keep the samples apart. on does it with any attention; sdpa and eager then compute a mask as large as the square of all tokens. Before, the model is asked once whether samples in one row get the predictions that they get apart; if not, auto pads.",
        choices=PADDING_FREE,
        kw_only=True,
    )
    auto_find_batch_size: bool = setting(
        False,
        "Halve the batch size automatically when memory runs out.",
        "The accumulation steps double, so the result is the same and training is slower. Use it if you do not know what fits.",
        kw_only=True,
    )
    seed: int = setting(
        42,
        "Random seed; the same seed gives the same run.",
        "Change it to see how much of a result is chance.",
        minimum=0,
        maximum=2**32 - 1,
    )
    save_at_end: bool = setting(
        True,
        "Write a last checkpoint when all epochs are done.",
        "The model is saved either way. The checkpoint is for going on with another run; it takes about three times the size of the trained weights on disk.",
    )
    save_total_limit: int = setting(
        2,
        "Number of checkpoints to keep; the oldest are deleted first.",
        "One is enough to resume. More can be compared on the Playground page; each takes about three times the size of the trained weights on disk.",
        minimum=1,
        kw_only=True,
    )
    resume_from_checkpoint: str | None = setting(
        None,
        "Checkpoint folder to start from: weights, optimizer and sample record.",
        "For a new run with other settings. To continue a run as it is, use Resume on the page or geko-train --resume.",
        kw_only=True,
    )
    bf16: bool = setting(
        False,
        "bfloat16 mixed precision.",
        "Faster, with less memory, on Ampere or newer GPUs and recent CPUs; slightly less precise.",
    )
    fp16: bool = setting(
        False,
        "float16 mixed precision with loss scaling.",
        "For GPUs older than Ampere: faster, with less memory; slightly less precise.",
    )
    gradient_checkpointing: bool = setting(
        False,
        "Recompute activations instead of storing them.",
        "Needs much less memory and about a third more time. Use it if memory runs out.",
    )
    compile_model: bool = setting(
        False,
        "Compile the model with torch.compile.",
        "For long runs on a GPU: the first steps are slow, later ones faster.",
    )
    answers_per_epoch: int = setting(
        8,
        "Prompts to answer before the training and after each epoch; 0 for none.",
        "They are the first rows of the evaluation data, or of the training data where there is none. Answers are generated greedily, 64 tokens at most; the time that this takes is shown and does not count as compute.",
        unit="prompts",
        minimum=0,
        maximum=200,
        kw_only=True,
    )
    answer_prompts: str = setting(
        "",
        "Your own prompts to answer after each epoch, one on each line.",
        "For example a question that the model must not forget how to answer. They come after those of answers_per_epoch.",
        kw_only=True,
    )
    report_to: list[str] = setting(
        [],
        "Experiment trackers that get the figures of the run, by name.",
        "tensorboard, wandb, mlflow, trackio, comet_ml, clearml, swanlab or aim. Each needs its package, and its own login where it has one. Files go to checkpoints/logs in the run's folder.",
        kw_only=True,
    )
    webhook_url: str = setting(
        "",
        "Address that gets one POST when the run ends; empty for none.",
        "JSON with the run, how it ended and its figures, to an http or https address, for example of a chat or an automation. If it fails, the log says so and the run goes on. A run whose process was killed posts nothing.",
        kw_only=True,
    )
    use_8bit_optimizer: bool = setting(
        False,
        "AdamW with 8-bit optimizer state: short for optim = adamw_8bit.",
        "Needs about a quarter of the optimizer's memory with hardly any loss of quality. Needs bitsandbytes.",
    )
    optim: str = setting(
        ADAMW,
        "Optimizer, by its name in transformers.",
        "8-bit optimizers need less memory; paged ones move their state to main memory when the GPU is full. Lion wants a learning rate three to ten times lower, sgd a much higher one. muon trains matrices with Muon, the rest with AdamW (PyTorch 2.9). Names with 8bit, 32bit or paged need bitsandbytes.",
        choices=OPTIMIZERS,
        kw_only=True,
    )
    lr_scheduler_type: str = setting(
        "linear",
        "How the learning rate falls, by its name in transformers.",
        "cosine stays high longer. constant has no warm-up. warmup_stable_decay stays at the peak and falls to zero over the last third.",
        choices=SCHEDULES,
        kw_only=True,
    )
    max_steps: int | None = setting(
        None,
        "Optimizer steps after which the run ends; empty or -1 to go by num_epochs.",
        "num_epochs has no effect then: passes are repeated while steps are left, and the learning rate falls over these steps.",
        unit="steps",
        minimum=-1,
        kw_only=True,
    )
    warmup_ratio: float | None = setting(
        None,
        "Share of the run that is warm-up; empty to use warmup_steps.",
        "0.03 is common. Use more if the loss is unstable at the start.",
        minimum=0,
        maximum=0.5,
        kw_only=True,
    )
    neftune_noise_alpha: float = setting(
        0.0,
        "Strength of the noise on the embeddings (NEFTune); 0 for none.",
        "5 is common for instruction data; answers often get longer. The record of each sample is taken with this noise.",
        minimum=0,
        maximum=100,
        kw_only=True,
    )
    num_processes: int = setting(
        1,
        "Processes that train together, each on a GPU of its own.",
        "They share each batch, so a step has batch_size x gradient_accumulation_steps x num_processes samples. Lower the accumulation steps by as much, and the result stays the same.",
        minimum=1,
        maximum=64,
        kw_only=True,
    )
    gpu_ids: str = setting(
        "",
        "GPUs to train on, by number (0,1) or all; empty for the first ones.",
        "One process is started for each GPU that is named. Use it to leave a GPU to others, or to choose the faster one.",
        kw_only=True,
    )
    fsdp: str = setting(
        "none",
        "Share out the weights to all processes (FSDP), for models larger than a GPU.",
        "none keeps a copy of the weights on each GPU, which is faster. full_shard keeps a part of weights, gradients and optimizer state on each, and sends weights when they are needed. Needs more than one process.",
        choices=FSDP,
        kw_only=True,
    )
    dataloader_num_workers: int = setting(
        -1,
        "Processes that prepare batches; -1 to choose automatically.",
        "Automatic means 0 on macOS and on CPUs. Use more only if a GPU waits for data; each process takes memory.",
        minimum=-1,
        maximum=256,
    )
    dataloader_persistent_workers: bool = setting(
        True,
        "Keep the loader processes between epochs.",
        "Switch it off if memory is short; each epoch then starts a little later.",
    )
    dataloader_prefetch_factor: int = setting(
        2,
        "Batches that each loader process prepares in advance.",
        "Use more only if a GPU waits for data; they take memory.",
        minimum=1,
        maximum=1024,
    )

    def __post_init__(self) -> None:
        raise_problems(list(self.problems()))

    @property
    def optimizer(self) -> str:
        """The name of the optimizer, by either of the two settings."""
        return ADAMW_8BIT if self.use_8bit_optimizer else self.optim

    @property
    def finds_length(self) -> bool:
        """Whether the run ends by itself when more training would not help."""
        return self.num_epochs == AUTO

    @property
    def epochs(self) -> int:
        """Epochs of the run, at most."""
        return self.max_epochs if isinstance(self.num_epochs, str) else self.num_epochs

    @property
    def time_limit(self) -> float:
        """Seconds after which the training ends; 0 without a limit."""
        by_cost = 3600 * self.max_cost / self.cost_per_hour if self.max_cost and self.cost_per_hour else 0.0
        limits = [seconds for seconds in (60 * self.max_minutes, by_cost) if seconds]
        return min(limits, default=0.0)

    @property
    def needs_evaluation(self) -> str:
        """The setting that needs evaluation data, "" if none does."""
        if self.finds_length:
            return "num_epochs = auto"
        if self.load_best_model_at_end:
            return "load_best_model_at_end"
        return "early_stopping_patience" if self.early_stopping_patience else ""

    @property
    def open_end(self) -> dict[str, Any]:
        """What may end the run before its last epoch, by the names of the settings."""
        found = {
            "num_epochs": AUTO if self.finds_length else "",
            "max_minutes": round(self.time_limit / 60, 2),
            "early_stopping_patience": 0 if self.finds_length else self.early_stopping_patience,
        }
        return {name: value for name, value in found.items() if value}

    @property
    def step_limit(self) -> int:
        """Optimizer steps that max_steps asks for; 0 where num_epochs decides."""
        return max(0, self.max_steps or 0)

    def planned_epochs(self, steps_per_epoch: int) -> int:
        """Epochs of the run: num_epochs, or as many as the steps of max_steps take without selection."""
        return -(-self.step_limit // steps_per_epoch) if self.step_limit else self.epochs

    def planned_steps(self, steps_per_epoch: int) -> int:
        """Optimizer steps of the run without selection."""
        return self.step_limit or self.epochs * steps_per_epoch

    @property
    def gpus(self) -> list[str]:
        """The numbers in `gpu_ids`; none where it is empty or says all."""
        numbers = [] if self.gpu_ids == ALL_GPUS else self.gpu_ids.split(",")
        return [number.strip() for number in numbers if number.strip()]

    def process_count(self, count_gpus: Callable[[], int]) -> int:
        """Processes that these settings ask for; `count_gpus` says how many GPUs there are, and is asked where that matters."""
        return max(1, count_gpus()) if self.gpu_ids == ALL_GPUS else len(self.gpus) or self.num_processes

    def problems(self, prefix: str = "") -> list[Problem]:
        """(dotted field, message) of every invalid value; `prefix` is put before the field names."""
        found = list(check(self, prefix))
        if self.bf16 and self.fp16:
            found.append((prefix + "fp16", "bf16 and fp16 are both on: switch one of them off."))
        if self.padding_free == ON and self.compile_model:
            sentence = "padding_free is on, and torch.compile wants batches of few lengths: switch one of them off."
            found.append((prefix + "padding_free", sentence))
        if self.max_cost and not self.cost_per_hour:
            found.append((prefix + "cost_per_hour", "max_cost needs to know what an hour costs: give cost_per_hour."))
        unknown = [name for name in self.report_to if name not in TRACKERS]
        if unknown:
            found.append((prefix + "report_to", f"{unknown[0]!r} is not one of {', '.join(TRACKERS)}."))
        if self.webhook_url and webhook_problem(self.webhook_url):
            found.append((prefix + "webhook_url", webhook_problem(self.webhook_url)))
        if self.use_8bit_optimizer and self.optim not in (ADAMW, ADAMW_8BIT):
            sentence = f"use_8bit_optimizer is on, and optim is {self.optim!r}: switch use_8bit_optimizer off."
            found.append((prefix + "optim", sentence))
        return found + [(prefix + name, text) for name, text in self._process_problems()]

    def _process_problems(self) -> Iterator[Problem]:
        """(field, message) of each setting of processes, GPUs and shards that does not fit the others."""
        gpus = self.gpus
        if self.gpu_ids not in ("", ALL_GPUS) and not re.fullmatch(r"\s*\d{1,3}(\s*,\s*\d{1,3})*\s*", self.gpu_ids):
            yield "gpu_ids", f"{self.gpu_ids!r} is no list of GPUs: give their numbers, such as 0,1, or all."
        elif len(set(gpus)) < len(gpus):
            yield "gpu_ids", f"{self.gpu_ids!r} names a GPU twice: name each once."
        elif gpus and self.num_processes not in (1, len(gpus)):
            yield (
                "num_processes",
                f"gpu_ids names {len(gpus)}, and this is {self.num_processes}: one process is for one GPU.",
            )
        if self.fsdp == "none":
            return
        if self.fp16:
            yield "fp16", "fsdp has no loss scaling: use bf16 or fp32, or set fsdp to none."
        if self.compile_model:
            yield "compile_model", "fsdp and torch.compile are not tested together: switch one of them off."
        if self.finds_length:
            yield (
                "num_epochs",
                "auto averages whole weights, which fsdp shares out: give a number, or set fsdp to none.",
            )
        if self.load_best_model_at_end:
            yield "load_best_model_at_end", "fsdp shares out the weights, so no copy is kept: switch one of them off."
        if self.optimizer not in SHARDED_OPTIMIZERS:
            yield (
                "optim",
                f"{self.optimizer} cannot be shared out: choose {' or '.join(SHARDED_OPTIMIZERS)}, or set fsdp to none.",
            )
