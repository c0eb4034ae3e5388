"""The sections model, data and lora of a run. Knows no selection rule and no file."""

from __future__ import annotations

from dataclasses import dataclass

from geko_engine.config.declaration import setting

DEMO = "demo"
PISSA = ("pissa", "pissa_niter_16")  # initializations that change the base weights
LOFTQ = "loftq"  # the one that makes up for what 4 bits take away
GIVEN = "given in Python"  # as data.train: the trainer of a script has the data
GENERAL = "general"
ALL_LINEAR = "all-linear"  # as a LoRA target: every linear layer except the output layer
LORA_LEARNING_RATE = 2e-4  # the page sets it with LoRA: adapters take a higher one than all weights


@dataclass
class ModelConfig:
    """Which model is fine-tuned."""

    name: str = setting(
        DEMO,
        "Hub id, local folder, or 'demo' for the small built-in model.",
        "Larger models give better answers and need more memory and time. A LoRA adapter may be given too: with LoRA on it is trained on, otherwise it is merged first.",
    )
    revision: str | None = setting(
        None,
        "Branch, tag or commit on the Hub; empty for the main branch.",
        "Give a commit hash if the run must be repeatable later.",
    )
    trust_remote_code: bool = setting(
        False,
        "Run Python code from the model's repository.",
        "Needed only for models that do not load without it. The code has full access to this machine: switch it on only for authors you trust.",
    )
    quantization: str = setting(
        "none",
        "Load the frozen base weights in 4 or 8 bits (QLoRA).",
        "Use it with LoRA when the model does not fit into memory. Steps are slower and quality drops slightly. Needs bitsandbytes.",
        choices=("none", "4bit", "8bit"),
    )
    dtype: str = setting(
        "auto",
        "Precision in which the weights are held.",
        "auto holds frozen weights (LoRA) in the precision of the training and trained weights in float32. bfloat16 with full fine-tuning needs half the memory, but small updates are lost in rounding.",
        choices=("auto", "float32", "bfloat16", "float16"),
        kw_only=True,
    )
    attn_implementation: str = setting(
        "auto",
        "Attention kernels, by their name in transformers.",
        "auto is sdpa where the model supports it. flash_attention_2 and 3 are faster on long samples; they need their package, a GPU and bf16 or fp16.",
        choices=("auto", "sdpa", "eager", "flash_attention_2", "flash_attention_3"),
        kw_only=True,
    )


@dataclass
class DataConfig:
    """Which rows to train and evaluate on, and how to read them."""

    train: str = setting(
        DEMO,
        "Hub id, local file or folder of files, or 'demo' for the built-in data.",
        "Files may be JSONL, JSON, CSV, TSV, Parquet, Arrow or TXT, text files also packed as .gz or .zst. Training time grows with the number of tokens.",
    )
    train_config: str | None = setting(
        None,
        "Configuration (subset) of a Hub dataset; empty for the default.",
        "Needed only if the dataset has several configurations.",
    )
    train_split: str = setting(
        "train",
        "Split of the Hub dataset, or of the files in a folder, to train on.",
        "Change it if the dataset uses another name for its training split.",
    )
    sample_count: int | None = setting(
        None,
        "Train on the first N rows; empty for all rows.",
        "A few hundred rows are enough for a quick trial run.",
        unit="rows",
        minimum=1,
    )
    eval: str | None = setting(
        None,
        "Data to evaluate on: Hub id, local file or folder, or 'demo'; empty for none.",
        "These rows are never trained on, so they show how good the result is. Each evaluation costs one forward pass over them.",
    )
    eval_config: str | None = setting(
        None,
        "Configuration (subset) of the evaluation dataset; empty for the default.",
        "Needed only if the dataset has several configurations.",
    )
    eval_split: str = setting(
        "test",
        "Split of the Hub dataset, or of the files in a folder, to evaluate on.",
        "Change it if the dataset uses another name; 'validation' is common.",
    )
    eval_count: int | None = setting(
        None,
        "Evaluate on the first N rows; empty for all rows.",
        "Lower it if evaluation takes too long. Fewer rows make the result less precise.",
        unit="rows",
        minimum=1,
    )
    eval_ratio: float = setting(
        0.0,
        "Share of the training data to hold out for evaluation.",
        "Used only if no evaluation data is given; 0.05 is a good start. Rows held out are not trained on.",
        minimum=0,
        maximum=0.5,
    )
    retention: str | None = setting(
        GENERAL,
        "Rows that show whether the model forgets what it knew; empty for none.",
        "'general' are 64 built-in questions of general knowledge; or name a local file of your own. Their loss is measured at the start, at the end and at evaluations in between, and nothing is trained on them. The demo's small model has no general knowledge, so it is not asked.",
        kw_only=True,
    )
    replay: str | None = setting(
        None,
        "Folder of an earlier run: only rows that are new to it are trained on.",
        "To continue that run, with its model as the base, when rows were added or changed. A share of its rows is replayed, so that the model does not forget them. Empty to train on all rows.",
        kw_only=True,
    )
    replay_share: float = setting(
        0.2,
        "Share of the training rows that are replayed from the earlier run.",
        "Drawn from the rows that the earlier run had right and that are not likely mislabeled. More keeps more of what was learned, and costs as much as new rows.",
        minimum=0,
        maximum=0.9,
        kw_only=True,
    )
    row_flags: str | None = setting(
        None,
        "A row_flags.json with rows flagged in an earlier run; empty for none.",
        "Flag rows on the Samples page of a run on the same data, then give its file here to leave out what looked wrong.",
    )
    flag_action: str = setting(
        "exclude",
        "What to do with the flagged rows.",
        "exclude leaves them out: for wrong rows. never_freeze trains on them in every epoch, even once they are mastered: for important rows, at their full cost.",
        choices=("exclude", "never_freeze"),
    )
    corrections: str | None = setting(
        None,
        "A corrections.jsonl with rows corrected in an earlier run; empty for none.",
        "Review rows on the Samples page of a run on the same data, then give its file here: edited rows are trained on as they were edited, deleted ones are left out. Rows that have changed since are left as they are.",
        kw_only=True,
    )
    prompt_column: str | None = setting(
        None,
        "Column with the prompt, which is not learned; empty to detect it.",
        "Set it if the preview shows the wrong column.",
    )
    completion_column: str | None = setting(
        None,
        "Column with the completion to learn; empty to detect it.",
        "Set it if the preview shows the wrong column.",
    )
    text_column: str | None = setting(
        None,
        "Column of plain text, learned as a whole; empty to detect it.",
        "For texts that are not split into prompt and completion. Every token is a target, which needs more memory.",
    )
    messages_column: str | None = setting(
        None,
        "Column with conversations; empty to detect it.",
        "Each message has role and content, or from and value. Set it if the preview shows the wrong column.",
    )
    context_column: str | None = setting(
        None,
        "Column with further input for the prompt; empty to detect it.",
        "For example the passage that a question is about. It becomes part of the prompt and is not learned.",
    )
    system_column: str | None = setting(
        None,
        "Column with a system prompt for each row; empty to detect it.",
        "It becomes the first turn of the conversation, or the beginning of the prompt.",
    )
    label_column: str | None = setting(
        None,
        "Column with labels: the answers to learn, or true and false.",
        "Without a completion column, the label is the answer to the text (classification). With one, rows whose label is false are left out.",
    )
    weight_column: str | None = setting(
        None,
        "Column with weights; rows with weight 0 are left out.",
        "Other weights count as 1.",
    )
    chat_template: str = setting(
        "auto",
        "How prompt and completion are formatted; conversations always use a template.",
        "auto uses the model's chat template if it has one, because that is how it will be asked. raw writes the text alone. chat always uses the model's template; plain, alpaca and chatml replace it, for base models.",
        choices=("auto", "raw", "chat", "plain", "alpaca", "chatml"),
    )
    truncation_side: str = setting(
        "right",
        "Where samples longer than max_length are cut.",
        "right cuts the end, so that earlier answers stay. left cuts the beginning, so that the last answer stays.",
        choices=("right", "left"),
    )
    max_length: int = setting(
        512,
        "Longer samples are truncated to this length.",
        "Raise it if the preview reports truncated samples. Memory and time grow with the longest sample.",
        unit="tokens",
        minimum=4,
        maximum=1_000_000,
    )


@dataclass
class LoraSettings:
    """Low-rank adaptation (LoRA): train small matrices beside the frozen weights. Names as in peft.LoraConfig."""

    enabled: bool = setting(
        False,
        "Train small adapters instead of all weights.",
        "Needs far less memory and makes small files. Use it when the model is too large for full fine-tuning; quality may drop slightly.",
    )
    r: int = setting(
        16,
        "Rank of the adapters: how much they can learn.",
        "Double it if the loss stays high. The adapters' memory doubles too.",
        minimum=1,
        maximum=1024,
    )
    alpha: int = setting(
        32,
        "Scale of the adapters; twice the rank is a good start.",
        "Lower it if the loss is unstable.",
        minimum=1,
    )
    dropout: float = setting(
        0.05,
        "Dropout on the input of the adapters.",
        "Raise it if the evaluation loss rises while the training loss falls. Learning becomes slower.",
        minimum=0,
        maximum=0.9,
    )
    target_modules: list[str] = setting(
        [],
        "Layers that get adapters, or 'all-linear'; empty to choose by model family.",
        "More layers can learn more and need more memory.",
    )
    use_rslora: bool = setting(
        False,
        "Scale by alpha / sqrt(r) instead of alpha / r (rsLoRA).",
        "For ranks of 64 and more, which otherwise learn hardly more than small ones.",
        kw_only=True,
    )
    use_dora: bool = setting(
        False,
        "Learn the length of each weight vector separately (DoRA).",
        "Often better at small ranks; each step takes longer and more memory.",
        kw_only=True,
    )
    init_lora_weights: str = setting(
        "default",
        "What the adapters begin with.",
        "default changes nothing at first. pissa begins with the largest part of each weight and learns faster, if nothing is quantized; its adapter is saved with twice the rank. pissa_niter_16 is quicker. loftq makes up for part of the rounding to 4 bits; its adapter fits the rounded weights alone.",
        choices=("default", "gaussian", *PISSA, LOFTQ),
        kw_only=True,
    )
    modules_to_save: list[str] = setting(
        [],
        "Layers that are trained whole beside the adapters, and saved with them.",
        "For example embed_tokens and lm_head when new tokens were added. Each needs the memory of full fine-tuning.",
        kw_only=True,
    )
