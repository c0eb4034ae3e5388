"""Run folders with samples, written as the engine writes them but without a training: quick, and with known numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from safetensors.numpy import save_file

from geko_app.runs.store import RunStore
from geko_engine.config.run_config import RunConfig
from geko_engine.quality.issues import Issue
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.issue_check import FORMAT, issues_path
from geko_engine.runs.sample_texts import SCHEMA
from geko_engine.selection.history import History
from geko_engine.selection.sample_records import SampleStates
from geko_engine.storage.atomic_files import replace_json

KNOWN = {"loss": 0.05, "confidence": 0.95, "correct": True, "min_target_probability": 0.95}
WRONG = {"loss": 6.0, "confidence": 0.9, "correct": False, "min_target_probability": 0.001}
UNSURE = {"loss": 2.0, "confidence": 0.3, "correct": False, "min_target_probability": 0.05}
ALMOST = {"loss": 0.5, "confidence": 0.6, "correct": True, "min_target_probability": 0.6}
VISITS = (KNOWN, WRONG, UNSURE, ALMOST)  # of sample 0, 1, 2, 3 and so on in turn


def text_of(index: int) -> tuple[str, str]:
    return f"question {index}", f"answer {index}"


def new_run(store: RunStore, count: int = 8, epochs: int = 2, layout: str = "pair", **facts: Any) -> RunFolder:
    """A run of `count` samples; with epochs=0 its texts are there, and no record yet."""
    config = RunConfig.demo()
    config.output_dir = str(store.root)
    folder = store.create(config)
    write_texts(folder, [text_of(i) for i in range(count)], layout, **facts)
    write_issues(folder, count)
    if epochs:
        write_record(folder, count, epochs)
    return folder


def write_texts(folder: RunFolder, texts: list[tuple[str, str]], layout: str = "pair", **facts: Any) -> None:
    values = {
        "text": [f"{prompt}\n{answer}" for prompt, answer in texts],
        "learnt": [[len(prompt) + 1, len(prompt) + 1 + len(answer)] for prompt, answer in texts],
        "messages": [None] * len(texts),
        "cut": [False] * len(texts),
        "tools": [None] * len(texts),
    }
    with parquet.ParquetWriter(folder.texts_path, SCHEMA) as file:
        file.add_key_value_metadata({"layout": layout})
        for first in range(0, len(texts), 1000):
            part = {name: column[first : first + 1000] for name, column in values.items()}
            file.write_table(pa.Table.from_pydict(part, SCHEMA))
    nothing = np.zeros(len(texts), np.int32)
    arrays = dict.fromkeys(("equal_to", "contradicts", "truncated"), nothing) | {
        "row": np.arange(1, len(texts) + 1, dtype=np.int32),
        "tokens": nothing + 12,
        "targets": nothing + 4,
    }
    given = {name: np.array(value, np.int32) for name, value in facts.items()}
    save_file(arrays | given, str(folder.rows_path))


def write_record(folder: RunFolder, count: int, epochs: int, change: float = 1.0) -> None:
    """Every epoch visits every sample, with the signals of VISITS; each time the loss is `change` times that before."""
    states, history = SampleStates(count), History(count)
    config = RunConfig.demo().geko
    for epoch in range(1, epochs + 1):
        for kind, signals in enumerate(VISITS):
            ids = np.arange(kind, count, len(VISITS))
            arrays = {name: np.full(len(ids), value) for name, value in signals.items()}
            arrays["loss"] = arrays["loss"] * change ** (epoch - 1)
            states.record(ids, **arrays, step=epoch * 10, config=config)
        states.partition(config)
        history.append(states, epoch=epoch, step=epoch * 10)
    states.save(folder.samples_path)
    history.save(folder.history_path)


def write_issues(folder: RunFolder, count: int, issues: Sequence[Issue] = (), **labels: Any) -> None:
    """As geko_engine.runs.issue_check writes them: the page starts no check of its own then."""
    listed = [[issue.row, issue.kind, issue.score, issue.other, issue.note] for issue in issues]
    known = {"reason": "", "judged": count, "classes": 2, "accuracy": 0.9, "expected_precision": None} | labels
    values = {"format": FORMAT, "samples": count, "labels": known, "notes": [], "issues": listed}
    replace_json(issues_path(folder), values)
