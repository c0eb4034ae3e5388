"""The model card (README.md) of a run's model: what it is, what it was trained on, what was counted. Pure.

It names no path of this machine. The license is left open: it depends on the base model's and the data's.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

import geko_engine
from geko_engine.config.run_config import DEMO, RunConfig
from geko_engine.data.local_files import is_local

LIBRARIES = ("torch", "transformers", "peft")
AVERAGED = ", the average of the latest weights"
CODE_ADAPTER = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained({name})
tokenizer = AutoTokenizer.from_pretrained({name})
"""
CODE_ADAPTER_4BIT = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer, BitsAndBytesConfig

# It was trained with LoftQ, and fits its base model in these 4 bits alone.
bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
model = AutoPeftModelForCausalLM.from_pretrained({name}, quantization_config=bits)
tokenizer = AutoTokenizer.from_pretrained({name})
"""
CODE_MODEL = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({name})
tokenizer = AutoTokenizer.from_pretrained({name})
"""
ASK_CHAT = """\
turns = [{"role": "user", "content": "Hello!"}]
inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
"""
ASK_TEXT = """\
inputs = tokenizer({prompt}, return_tensors="pt")
"""
GENERATE = """\
output = model.generate(**inputs, max_new_tokens=128, do_sample=False, eos_token_id=tokenizer.eos_token_id)
print(tokenizer.decode(output[0][inputs["input_ids"].shape[1]:], skip_special_tokens=True))
"""


def model_card(
    repo: str, config: RunConfig, report: Mapping[str, Any], *, adapter: bool, prompt: str | None, in_4bit: bool = False
) -> str:
    """The card as Markdown with its metadata.

    Args:
        repo: id of the repository.
        config: of the run.
        report: of the run; {} if there is none.
        adapter: whether the repository holds an adapter instead of a complete model.
        prompt: how a prompt is written for a model without a chat template, such as "Hello!\\n"; None with one.
        in_4bit: whether it holds an adapter that fits its base model in 4 bits alone.
    """
    title = repo.rpartition("/")[2]
    kind = "A LoRA adapter for" if adapter else "A model fine-tuned from"
    parts = [
        f"---\n{yaml.safe_dump(_metadata(config, adapter=adapter), sort_keys=False)}---",
        f"# {title}",
        f"{kind} {_linked(config.model.name, 'model')}, trained with GEKO {geko_engine.__version__}.",
        f"## How to use it\n\n```python\n{_code(repo, adapter=adapter, prompt=prompt, in_4bit=in_4bit)}```",
        "## Training data\n\n" + _data(config, report),
        "## Figures\n\nCounted in the run.\n\n" + _table(_figures(report)),
        "## Settings\n\n" + _table(_settings(config)),
        "## Versions\n\n" + _versions(adapter=adapter),
        "## License\n\nNot set. The licenses of the base model and of the training data decide what is possible: choose "
        "one, and add it to the metadata above.",
    ]
    return "\n\n".join(parts) + "\n"


def is_on_hub(name: str) -> bool:
    """Whether a model or dataset is named by its id on the Hub."""
    return name != DEMO and not is_local(name)


def _metadata(config: RunConfig, *, adapter: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if is_on_hub(config.model.name):
        found["base_model"] = config.model.name
        found["base_model_relation"] = "adapter" if adapter else "finetune"
    if is_on_hub(config.data.train):
        found["datasets"] = [config.data.train]
    tags = ["geko", *(["lora"] if config.lora.enabled else [])]
    return {
        **found,
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": tags,
    }


def _code(repo: str, *, adapter: bool, prompt: str | None, in_4bit: bool) -> str:
    load = (CODE_ADAPTER_4BIT if in_4bit else CODE_ADAPTER if adapter else CODE_MODEL).format(name=json.dumps(repo))
    ask = ASK_CHAT if prompt is None else ASK_TEXT.format(prompt=json.dumps(prompt, ensure_ascii=False))
    return load + ask + GENERATE


def shown_name(name: str, kind: str) -> str:
    """A model or dataset by its id, or by the last part of its path."""
    if name == DEMO:
        return f"GEKO's demo {kind}"
    return name if is_on_hub(name) else Path(name).name


def _linked(name: str, kind: str) -> str:
    if not is_on_hub(name):
        return f"`{shown_name(name, kind)}`"
    return f"[{name}](https://huggingface.co/{'datasets/' if kind == 'data' else ''}{name})"


def _data(config: RunConfig, report: Mapping[str, Any]) -> str:
    data = config.data
    lines = [f"- Training: {_linked(data.train, 'data')}{_samples(report)}"]
    if data.eval:
        lines.append(f"- Evaluation: {_linked(data.eval, 'data')}")
    elif data.eval_ratio:
        lines.append(f"- Evaluation: {100 * data.eval_ratio:.3g} % of the rows, held out")
    if data.row_flags:
        lines.append(f"- Rows flagged in an earlier run: {data.flag_action.replace('_', ' ')}")
    if data.corrections:
        lines.append("- Rows corrected or deleted by a person after an earlier run")
    lines.append(f"- Longest sample: {data.max_length:,} tokens; chat template: {data.chat_template}")
    return "\n".join(lines)


def _samples(report: Mapping[str, Any]) -> str:
    return f", {report['samples']:,} samples" if report.get("samples") else ""


def _figures(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for name, label, shown in (("eval_loss", "Evaluation loss", "{:.4f}"), ("exact_match", "Exact match", "{:.1%}")):
        before, after = report.get(f"{name}_before"), report.get(f"{name}_after")
        if before is not None and after is not None:
            rows.append((f"{label}, before → after", f"{shown.format(before)} → {shown.format(after)}"))
    counted = (
        ("steps", "Optimizer steps", "{:,}"),
        ("tokens_backwarded", "Trained tokens", "{:,}"),
        ("compute_saved_ratio", "Compute saved against plain training", "{:.1%}"),
        ("seconds", "Seconds", "{:,.0f}"),
    )
    rows += [(label, shown.format(report[name])) for name, label, shown in counted if report.get(name) is not None]
    return rows or [("Report", "none was written")]


def _settings(config: RunConfig) -> list[tuple[str, str]]:
    training, lora = config.training, config.lora
    rows = [
        ("Epochs", f"{training.num_epochs}"),
        ("Batch size", f"{training.batch_size} with {training.gradient_accumulation_steps} accumulation steps"),
        ("Learning rate", f"{training.learning_rate:g}, {training.schedule}{AVERAGED * training.averages}"),
        ("Optimizer", training.optimizer),
        ("Precision", "bf16" if training.bf16 else "fp16" if training.fp16 else "fp32"),
        ("Seed", f"{training.seed}"),
        ("Selection of samples", "GEKO" if config.geko.enabled else "off, plain training"),
    ]
    if lora.enabled:
        kind = "DoRA" if lora.use_dora else "rsLoRA" if lora.use_rslora else "LoRA"
        targets = ", ".join(lora.target_modules) or "chosen by model family"
        rows.append((kind, f"r {lora.r}, alpha {lora.alpha}, dropout {lora.dropout:g}; layers: {targets}"))
    if config.model.quantization != "none":
        rows.append(("Quantized base in training", config.model.quantization))
    return rows


def _versions(*, adapter: bool) -> str:
    wanted = LIBRARIES if adapter else LIBRARIES[:2]
    return "\n".join(
        [f"- GEKO {geko_engine.__version__}", *(f"- {name} {importlib.metadata.version(name)}" for name in wanted)]
    )


def _table(rows: list[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
