"""The declarations of the section training: each setting with its type, default, range and help. Knows no model and no file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from geko_engine.config.declaration import setting
from geko_engine.config.training_choices import (
    ADAMW,
    AUTO,
    EVAL_LOSS,
    EXACT_MATCH,
    FSDP,
    OPTIMIZERS,
    PADDING_FREE,
    SCHEDULES,
)


@dataclass
class TrainingSettings:
    """The values of the section; GEKOTrainingArgs checks them."""

    output_dir: str = "./geko_output"
    num_epochs: int | Literal["auto"] = setting(
        3,
        "Passes over the training data, or auto to end when more would not help.",
        "auto watches the loss on the evaluation data, or on rows that it holds out, and ends with the average of the latest weights when that loss no longer falls. With a number, use more epochs while the evaluation loss still falls, fewer if it rises again.",
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
        "The learning rate falls so that it is zero by then; averaged weights need no fall. Counted from the beginning of the training, with evaluations; loading the model and the data comes before it.",
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
        "Needs evaluation data, and main memory for a copy of the trained weights. With num_epochs = auto their average is delivered instead.",
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
        "With eval_steps, evaluations come more often than once an epoch. The learning rate has then not fallen to zero: with average_weights that costs nothing.",
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
        "Prompts to answer before the training, after epochs and at the end; 0 for none.",
        "They are the first rows of the evaluation data, or of the training data where there is none. Answers are generated greedily, 64 tokens at most; the time that this takes is shown and does not count as compute.",
        unit="prompts",
        minimum=0,
        maximum=200,
        kw_only=True,
    )
    answer_prompts: str = setting(
        "",
        "Your own prompts to answer after epochs, one on each line.",
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
    average_weights: bool = setting(
        False,
        "Deliver the average of the latest weights; the learning rate stays constant.",
        "lr_scheduler_type has no effect then; there is a warm-up. The newest weights count most. Evaluations and answers show the average, too. Needs memory for a float32 copy of the trained weights. Always on with num_epochs = auto.",
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
