"""What a run keeps of its samples: texts, facts, the record and its history; each file whole at any moment."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
from safetensors.numpy import load_file

from geko_engine.config.selection import GEKOConfig
from geko_engine.data.formats import PLAIN_TEMPLATE, Conversation, Format, PromptCompletion
from geko_engine.data.rendering import RenderedRows
from geko_engine.data.tokenization import tokenise_rendered
from geko_engine.exceptions import CheckpointError, Stopped
from geko_engine.reporting.events import Event, Message
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.sample_texts import TEXT_LIMIT, contradictions, equal_to, write_sample_texts
from geko_engine.selection.buckets import Bucket
from geko_engine.selection.history import History
from geko_engine.selection.sample_records import FIELDS, SampleStates
from geko_engine.storage.atomic_files import replace_file

PAIR = PromptCompletion("prompt", "completion")


def visit(states: SampleStates, ids: list[int], loss: float, step: int, **signals: Any) -> None:
    values = {"confidence": 0.5, "correct": False, "min_target_probability": 0.1} | signals
    arrays = {name: np.full(len(ids), value) for name, value in {"loss": loss, **values}.items()}
    states.record(np.array(ids), **arrays, step=step, config=GEKOConfig())


def test_the_history_holds_an_epochs_visits_and_nan_for_the_others(tmp_path: Path) -> None:
    states, history = SampleStates(3), History(3)
    visit(states, [0, 1], 2.0, 1)
    history.append(states, epoch=1, step=1)
    visit(states, [1, 2], 0.01, 2, confidence=0.99, correct=True)
    history.append(states, epoch=2, step=2)
    history.save(tmp_path / "h")
    again = History(3)
    again.load(tmp_path / "h")
    for kept in (history, again):
        np.testing.assert_array_equal(kept.arrays["loss"], np.array([[2, 2, np.nan], [np.nan, 0.01, 0.01]], np.float16))
        assert kept.arrays["bucket"].tolist() == [[Bucket.FOCUS] * 2 + [Bucket.UNSEEN], [2, Bucket.FREEZE, 0]]
        assert kept.arrays["correct"].tolist() == [[0, 0, 0], [0, 1, 1]]
        assert (kept.epochs.tolist(), kept.steps.tolist()) == ([1, 2], [1, 2])
    visit(states, [0], 1.0, 3)  # what is visited is known after a load too
    again.append(states, epoch=3, step=3)
    np.testing.assert_array_equal(again.arrays["loss"][2], np.array([1, np.nan, np.nan], np.float16))


def test_the_history_costs_what_its_docstring_says(tmp_path: Path) -> None:
    states, history, sizes = SampleStates(10_000), History(10_000), []
    for epoch in range(3):
        history.append(states, epoch=epoch + 1, step=epoch)
        history.save(tmp_path / "h")
        sizes.append((tmp_path / "h").stat().st_size)
    assert [round((b - a) / 10_000, 2) for a, b in itertools.pairwise(sizes)] == [6, 6]
    assert 10 <= sizes[0] / 10_000 < 10.1


def test_losses_beyond_half_precision_stay_finite_and_an_empty_history_is_kept(tmp_path: Path) -> None:
    states, history = SampleStates(1), History(1)
    history.save(tmp_path / "h")
    history.load(tmp_path / "h")
    assert len(history) == 0 and history.arrays["loss"].shape == (0, 1)
    visit(states, [0], 1e9, 1)
    history.append(states, epoch=1, step=1)
    assert history.arrays["loss"][0, 0] == np.finfo(np.float16).max
    with pytest.raises(CheckpointError, match="of 1 samples, but the data has 2"):
        History(2).load(tmp_path / "h")


def kept(folder: Path, rows: list[dict[str, Any]], tokenizer: Any, format: Format = PAIR, limit: int = 1000) -> Any:
    rendered = RenderedRows(rows, format, tokenizer)
    write_sample_texts(folder, rendered, tokenise_rendered(rendered, limit))
    return parquet.read_table(folder / "texts.parquet").to_pylist(), load_file(folder / "rows.safetensors")


def test_texts_stand_in_the_order_of_the_samples_with_their_row_numbers(tmp_path: Path, tokenizer: Any) -> None:
    rows = [
        {"prompt": "a", "completion": "yes"},
        {"prompt": "b", "completion": ""},  # left out: nothing to learn
        {"prompt": "a", "completion": "yes"},
        {"prompt": "a", "completion": "no"},
        {"prompt": "c" * 20, "completion": "d" * 20},
    ]
    texts, facts = kept(tmp_path, rows, tokenizer, limit=30)
    assert [t["text"] for t in texts] == ["a\nyes", "a\nyes", "a\nno", "c" * 20 + "\n" + "d" * 20]
    assert [t["text"][slice(*t["learnt"])] for t in texts] == ["yes", "yes", "no", "d" * 20]
    assert facts["row"].tolist() == [1, 3, 4, 5] and facts["truncated"].tolist() == [0, 0, 0, 1]
    assert facts["equal_to"].tolist() == [0, 1, 0, 0]
    assert facts["contradicts"].tolist() == [4, 4, 1, 0]
    assert parquet.read_metadata(tmp_path / "texts.parquet").metadata[b"layout"] == b"pair"


def test_a_conversation_keeps_its_turns_and_every_learnt_answer(tmp_path: Path, tokenizer: Any) -> None:
    tokenizer.chat_template = PLAIN_TEMPLATE
    turns = [("user", "hi"), ("assistant", "hello"), ("user", "bye"), ("assistant", "see you")]
    rows = [{"messages": [{"role": role, "content": text} for role, text in turns]}]
    (text,), _ = kept(tmp_path, rows, tokenizer, Conversation("messages"))
    a, b, c, d = text["learnt"]
    assert "hello" in text["text"][a:b] and "see you" in text["text"][c:d] and "bye" in text["text"][b:c]
    assert json.loads(text["messages"]) == rows[0]["messages"] and not text["cut"]


def test_a_very_long_text_is_cut_and_says_so(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"prompt": "a" * TEXT_LIMIT, "completion": "yes"}, {"prompt": "a", "completion": "yes"}]
    texts, _ = kept(tmp_path, rows, tokenizer, limit=TEXT_LIMIT + 100)
    assert [t["cut"] for t in texts] == [True, False] and len(texts[0]["text"]) == TEXT_LIMIT
    assert texts[0]["learnt"] == []


def test_equal_and_contradicting_samples_name_each_other() -> None:
    rows = np.arange(1, 7, dtype=np.int32)
    prompts, answers = np.array([7, 8, 7, 9, 7, 9]), np.array([1, 1, 2, 3, 1, 3])
    assert contradictions(prompts, answers, rows).tolist() == [3, 0, 1, 0, 3, 0]
    assert equal_to(prompts * 10 + answers, rows).tolist() == [0, 0, 0, 0, 1, 4]
    assert contradictions(np.arange(3), np.arange(3), rows[:3]).tolist() == [0, 0, 0]


def test_a_stop_or_a_failure_while_writing_leaves_what_was_there(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"prompt": "a", "completion": "yes"}]
    rendered = RenderedRows(rows, PAIR, tokenizer)
    with pytest.raises(Stopped):
        write_sample_texts(tmp_path, rendered, tokenise_rendered(rendered, 100), should_stop=lambda: True)
    assert list(tmp_path.iterdir()) == []
    path = tmp_path / "file"
    replace_file(path, lambda p: p.write_text("whole") and None)

    def half(target: Path) -> None:
        target.write_text("ha")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        replace_file(path, half)
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_costs_the_record_beside_the_run_and_one_warning_not_the_run(tmp_path: Path) -> None:
    from geko_engine.reporting.events import EpochEnded
    from geko_engine.runs.sample_record_writer import SampleRecordWriter

    def refuse(path: Path) -> None:
        raise OSError("No space left on device")

    events: list[Event] = []
    writer = SampleRecordWriter(RunFolder(tmp_path), refuse, refuse, events.append)
    for epoch in (1, 2):
        writer(EpochEnded(epoch, epoch, 0.5))
    warnings = [event for event in events if isinstance(event, Message)]
    assert len(warnings) == 1 and "No space left" in warnings[0].text


ENDLESS = ("--set", "data.sample_count=300", "--set", "data.eval_count=10", "--set", "training.num_epochs=500")


@pytest.mark.slow
def test_killed_with_9_at_any_moment_all_files_are_readable(tmp_path: Path) -> None:
    """Files are replaced after every epoch of a fraction of a second; four runs are killed at their own moment each."""
    process: subprocess.Popen[str] | None = None
    for epochs in (2, 3, 5, 8):
        command = [sys.executable, "-m", "geko_engine", "--demo", *ENDLESS, "--set", f"output_dir={tmp_path / 'runs'}"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            if f"Epoch {epochs} plans" in line:
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
    for run in (tmp_path / "runs").iterdir():
        record, history = load_file(run / "samples.safetensors"), load_file(run / "history.safetensors")
        assert set(FIELDS) < set(record) and len(record["loss"]) == 300 == history["loss"].shape[1]
        assert len(history["epochs"]) >= 1 and parquet.read_table(run / "texts.parquet").num_rows == 300
        assert len(load_file(run / "rows.safetensors")["row"]) == 300
