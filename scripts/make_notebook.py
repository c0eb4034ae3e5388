"""Writes notebooks/geko.ipynb: `python scripts/make_notebook.py`. The cells stand here, as text that can be reviewed.

The cell with the tag `install` is left out where the package is installed already, as in the test that runs the notebook.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "geko.ipynb"
INSTALL = "install"

CELLS: tuple[tuple[str, str], ...] = (
    (
        "markdown",
        """# GEKO: fine-tune a language model and see what happens to every sample

This notebook trains the built-in demo, then a model on your own file. It runs on Colab, on Kaggle and in Jupyter. A GPU is not
needed for the demo; for a larger model choose one in *Runtime → Change runtime type*.""",
    ),
    ("markdown", "## Install"),
    (INSTALL, '%pip install --quiet "geko-finetune[peft]"'),
    (
        "markdown",
        """## The demo

A language model of 0.9 million parameters and short tasks, both part of the package: no account and no download. `EPOCHS = 4` and
`SAMPLES = None` train the whole demo, which takes a few minutes.""",
    ),
    (
        "code",
        """from geko_engine import RunConfig
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder

EPOCHS, SAMPLES = 2, 1000

config = RunConfig.demo()
config.training.num_epochs = EPOCHS
config.data.sample_count = SAMPLES
demo = RunFolder.create(config)
report = run(demo)

print(f"Evaluation loss: {report['eval_loss_before']:.3f} before, {report['eval_loss_after']:.3f} after")
print(f"Exact match:     {report['exact_match_before']:.1%} before, {report['exact_match_after']:.1%} after")
print(f"Compute saved:   {report['compute_saved_ratio']:.1%}")""",
    ),
    (
        "markdown",
        """## What it recorded

Each sample has its loss, its confidence and its bucket after every epoch. These are the samples with the highest loss at the end;
wrong labels are often among them.""",
    ),
    (
        "code",
        """import pandas as pd
from safetensors.numpy import load_file


def samples_of(folder):
    \"\"\"One line a sample: its row in the data, what the record says at the end, and its text.\"\"\"
    history = load_file(folder.history_path)
    table = pd.read_parquet(folder.texts_path, columns=["text"])
    table.insert(0, "row", load_file(folder.rows_path)["row"])
    for name in ("loss", "confidence", "correct"):
        table.insert(len(table.columns) - 1, name, history[name][-1])
    return table.sort_values("loss", ascending=False)


samples_of(demo).head(10)""",
    ),
    (
        "markdown",
        """## Your own file

On Colab, upload a CSV, JSONL or Parquet file with the panel on the left and give its name. Without one, a small file of questions
and answers is written. Columns such as `prompt` and `completion`, or `messages`, are recognized.""",
    ),
    (
        "code",
        """from pathlib import Path

MODEL = "demo"  # a name on the Hugging Face Hub, such as HuggingFaceTB/SmolLM2-135M
FILE = "answers.csv"

if not Path(FILE).exists():
    colors = ["red", "blue", "green", "white", "black", "brown"]
    things = ["bag", "shoe", "hat", "coat"]
    lines = [f"Where is the {c} {t}?,The {c} {t} is on shelf {i + 1}." for i, c in enumerate(colors) for t in things]
    Path(FILE).write_text("\\n".join(["prompt,completion", *lines]), encoding="utf-8")

mine = RunConfig()
mine.model.name = MODEL
mine.data.train = FILE
mine.data.eval_ratio = 0.2
mine.lora.enabled = True
mine.training.num_epochs = 3
mine.training.batch_size = 4
mine.training.learning_rate = 1e-3
tuned = RunFolder.create(mine)
report = run(tuned)
print(f"Evaluation loss: {report['eval_loss_before']:.3f} before, {report['eval_loss_after']:.3f} after")
samples_of(tuned).head(5)""",
    ),
    (
        "markdown",
        """## Use the result

The tuned model, here a LoRA adapter, lies in `model/` of the run's folder and loads with `transformers`.""",
    ),
    (
        "code",
        """from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(tuned.model_path)
model = AutoModelForCausalLM.from_pretrained(tuned.model_path)
prompt = tokenizer("Where is the blue hat?\\n", return_tensors="pt")
answer = model.generate(**prompt, max_new_tokens=16, do_sample=False)
print(tokenizer.decode(answer[0], skip_special_tokens=True))""",
    ),
    (
        "markdown",
        """## Keep it

`geko-export` merges the adapter, writes a GGUF file, or pushes to the Hub (`hf auth login` first):""",
    ),
    (
        "code",
        """from geko_engine.export import merge

exported = merge(tuned.path, prompts=2)
print(exported.place)""",
    ),
)


def notebook() -> dict[str, Any]:
    """The notebook in the format of Jupyter, without outputs."""
    return {
        "cells": [cell(number, kind, text) for number, (kind, text) in enumerate(CELLS)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def cell(number: int, kind: str, text: str) -> dict[str, Any]:
    """One cell; `kind` is markdown, code, or INSTALL for a code cell with that tag."""
    lines = text.splitlines(keepends=True)
    if kind == "markdown":
        return {"cell_type": "markdown", "id": f"cell-{number}", "metadata": {}, "source": lines}
    metadata = {"tags": [INSTALL]} if kind == INSTALL else {}
    values: dict[str, Any] = {"cell_type": "code", "id": f"cell-{number}", "metadata": metadata, "source": lines}
    return {**values, "execution_count": None, "outputs": []}


def text() -> str:
    """The file as it is written."""
    return json.dumps(notebook(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    NOTEBOOK.parent.mkdir(exist_ok=True)
    NOTEBOOK.write_text(text(), encoding="utf-8")
