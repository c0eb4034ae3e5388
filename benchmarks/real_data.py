"""Real rows: banking77 and GSM8K, from a folder that --data names, and the small model that learns them.

The folder holds banking77-train.csv, banking77-test.csv, gsm8k-train.jsonl and gsm8k-test.jsonl, as their authors publish
them (Hub: PolyAI/banking77 in CSV, openai/gsm8k in JSON Lines). The project does not contain them.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.smollm2 import smollm2
from scripts.demo_tasks import Row
from scripts.make_assets import make_model, make_tokenizer

VARIABLE = "GEKO_BENCHMARK_DATA"  # the folder, handed on to child processes
BASES = Path(__file__).parent / ".real-bases"  # ignored by git
VOCABULARY, SCALE = 2000, 0.05  # tokens; standard deviation of the embeddings


def file_of(name: str) -> Path:
    """The path of a file of the data folder. Raises SystemExit when it is not there."""
    path = Path(os.environ.get(VARIABLE, "")) / name
    if not os.environ.get(VARIABLE) or not path.is_file():
        raise SystemExit(f"{name} is needed: give the folder that it lies in with --data.")
    return path


def banking77(split: str, intents: int) -> list[Row]:
    """Questions of bank customers, and the first `intents` of their 77 intents by name; `split` is train or test."""
    with file_of(f"banking77-{split}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kept = sorted({row["category"] for row in rows})[:intents]
    return [_row(row["text"], row["category"].replace("_", " ")) for row in rows if row["category"] in kept]


def gsm8k(split: str) -> list[Row]:
    """Grade-school maths with worked solutions; the result is the number after ####. `split` is train or test."""
    with file_of(f"gsm8k-{split}.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [{**_row(r["question"], r["answer"]), "results": [_last_number(r["answer"])]} for r in rows]


def _row(prompt: str, completion: str) -> Row:
    return {"prompt": prompt, "completion": completion, "group": "all", "wrong": False}


def _last_number(answer: str) -> tuple[int, int]:
    return answer.rindex("#### ") + len("#### "), len(answer)


def drawn(rows: Callable[[], list[Row]]) -> Callable[[int, int, set[str]], list[Row]]:
    """A function (count, seed, prompts to avoid) -> that many of the rows, drawn by the seed."""

    def draw(count: int, seed: int, avoid: set[str]) -> list[Row]:
        usable = [row for row in rows() if row["prompt"] not in avoid]
        return random.Random(seed).sample(usable, min(count, len(usable)))

    return draw


def first(rows: Callable[[], list[Row]]) -> Callable[..., list[Row]]:
    """A function (count, seed, mix) -> the first `count` of the rows: the same evaluation for every seed."""

    def take(count: int, _seed: int, *, mix: Mapping[str, float]) -> list[Row]:
        return rows()[:count]

    return take


def small_base(name: str, rows: Callable[[], list[Row]], longest: int) -> Callable[[], str]:
    """A function -> path of an untrained decoder of about a million parameters, made when it is missing.

    Its vocabulary is learned from the training rows. Its embeddings come from SmolLM2-135M: of each token the mean of those
    of SmolLM2's tokens for the same text, reduced to its own width by their principal components.

    Args:
        name: of its folder. rows: the training rows. longest: positions.
    """

    def path() -> str:
        folder = BASES / name
        if not (folder / "config.json").exists():
            _make(folder, rows(), longest)
        return str(folder)

    return path


def _make(folder: Path, rows: list[Row], longest: int) -> None:
    tokenizer = make_tokenizer(rows, VOCABULARY)
    tokenizer.model_max_length = longest
    model = make_model(tokenizer, 0)
    model.config.max_position_embeddings = longest
    width = model.config.hidden_size
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(_embeddings(tokenizer, width))
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _embeddings(tokenizer: Any, width: int) -> torch.Tensor:
    source = AutoTokenizer.from_pretrained(smollm2())
    known = AutoModelForCausalLM.from_pretrained(smollm2()).get_input_embeddings().weight.detach().float()
    centred = known - known.mean(0)
    covariance = centred.T @ centred
    components = torch.linalg.eigh(covariance)[1][:, -width:]
    texts = [tokenizer.decode([token]) for token in range(len(tokenizer))]
    ids = [source(text, add_special_tokens=False)["input_ids"] for text in texts]
    rows = torch.stack([centred[i].mean(0) if i else torch.zeros(centred.shape[1]) for i in ids]) @ components
    return rows * (SCALE / rows.std())
