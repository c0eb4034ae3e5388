"""Runs of small models, short, with adapters that change the answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from geko_engine.config.run_config import RunConfig
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.writer import RunWriter
from tests.engine.conftest import small_gpt2, small_llama
from tests.engine.data.template_families import tokenizer_of

ASKED = {
    "what is one plus one?": "two.",
    "two plus two": "is four",
    "the capital of France?": "Paris",
    "Good morning!": "How can I help?",
}


def write_base(path: Path, family: str = "qwen2", *, gpt2: bool = False, **changes: Any) -> Path:
    """A small base model with a tokenizer of the family."""
    tokenizer = tokenizer_of(family)
    make = small_gpt2 if gpt2 else small_llama
    model = make() if gpt2 else make(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, **changes)
    if gpt2:
        model.resize_token_embeddings(len(tokenizer))
        model.generation_config.eos_token_id = model.config.eos_token_id = tokenizer.eos_token_id
        model.generation_config.bos_token_id = model.generation_config.pad_token_id = None
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def write_rows(path: Path, system: str = "") -> Path:
    """Four conversations, with a system turn if there is one."""
    first = [{"role": "system", "content": system}] if system else []
    rows = [
        {"messages": [*first, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in ASKED.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def settings(folder: Path, base: Path | str, rows: Path, **changes: dict[str, Any]) -> RunConfig:
    values: dict[str, Any] = {
        "model": {"name": str(base)},
        "data": {"train": str(rows), "max_length": 128},
        "lora": {"enabled": True, "r": 4, "alpha": 16, "target_modules": ["all-linear"]},
        "training": {"num_epochs": 4, "batch_size": 4, "learning_rate": 2e-2, "save_at_end": False},
        "geko": {"enabled": False},
        "output_dir": str(folder / "runs"),
    }
    for section, given in changes.items():
        values[section] = values.get(section, {}) | given
    return RunConfig.from_dict(values)


def trained(folder: Path, base: Path | str, rows: Path, **changes: dict[str, Any]) -> RunFolder:
    """A finished run."""
    made = RunFolder.create(settings(folder, base, rows, **changes))
    with RunWriter(made) as write:
        report = run(made, on_event=write)
    assert report["end"] == "complete", report["reason"]
    return made


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run with LoRA. Tests may leave exports in its folder, and change nothing else."""
    folder = tmp_path_factory.mktemp("finished")
    return trained(folder, write_base(folder / "base"), write_rows(folder / "rows.jsonl"))


@pytest.fixture(scope="session")
def finished_whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run that trained all weights."""
    folder = tmp_path_factory.mktemp("whole")
    rows = write_rows(folder / "rows.jsonl", "Be brief.")
    return trained(folder, write_base(folder / "base"), rows, lora={"enabled": False}, training={"num_epochs": 1})
