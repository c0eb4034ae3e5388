"""Rows to labels, token by token; and the sentence that a user reads for each kind of broken input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DataConfig
from geko_engine.data.batches import IGNORE_INDEX, Collator, DatasetView, hold_out, overlap
from geko_engine.data.formats import PlainText, PromptCompletion
from geko_engine.data.sources import load_rows
from geko_engine.data.tokenization import tokenise
from geko_engine.exceptions import DataError, Stopped
from geko_engine.models.names import model_problem
from geko_engine.preflight.checks import data_problem, folder_problem, preflight

PAIR = PromptCompletion("prompt", "completion")


def trained_text(sample: dict[str, Any], tokenizer: Any) -> str:
    labels = [int(t) for t in sample["labels"] if t != IGNORE_INDEX]
    return tokenizer.decode(labels)


def test_only_the_completion_and_the_end_are_trained_on(tokenizer: Any) -> None:
    data = tokenise([{"prompt": "2 + 2 =", "completion": "4"}], PAIR, tokenizer, 64)
    assert tokenizer.decode(data[0]["input_ids"]) == "2 + 2 =\n4<eos>"
    assert trained_text(data[0], tokenizer) == "4<eos>"
    assert (data.lengths.tolist(), data.targets.tolist()) == ([10], [2])


def test_plain_text_is_trained_on_whole(tokenizer: Any) -> None:
    data = tokenise([{"text": "to be"}], PlainText("text"), tokenizer, 64)
    assert trained_text(data[0], tokenizer) == "to be<eos>" and data.targets.sum() == 5


def test_cut_and_useless_rows_are_listed_by_number(tokenizer: Any) -> None:
    rows = [
        {"prompt": "ab", "completion": "c"},
        {"prompt": "ab", "completion": ""},
        {"prompt": "ab", "completion": "cdefgh"},
        {"prompt": "abcdefghij", "completion": "k"},
        {"prompt": "a", "completion": None},
    ]
    assert tokenise([*rows, {"prompt": "ab", "completion": " \n "}], PAIR, tokenizer, 6).empty == [1, 4, 5]
    assert tokenise([{"text": "a"}, {"text": " \n"}], PlainText("text"), tokenizer, 6).empty == [1]
    data = tokenise(rows, PAIR, tokenizer, 6)
    assert (data.rows.tolist(), data.truncated, data.empty, data.masked) == ([0, 2], [2], [1, 4], [3])
    assert trained_text(data[1], tokenizer) == "cde"
    with pytest.raises(DataError, match=r"None of the 2 rows .* 1 has its completion beyond max_length = 6") as caught:
        tokenise(rows[3:], PAIR, tokenizer, 6)
    assert caught.value.field == "data.max_length"
    with pytest.raises(DataError, match=r"The only row has nothing to learn: every completion is empty"):
        tokenise(rows[4:], PAIR, tokenizer, 6)


def test_equal_rows_are_found_and_stay_on_one_side_when_a_share_is_held_out(tokenizer: Any) -> None:
    rows = [{"prompt": str(i % 20), "completion": "x"} for i in range(60)]
    data = tokenise(rows, PAIR, tokenizer, 64)
    assert data.duplicates == list(range(20, 60))
    train, held = hold_out(data, 0.2, seed=3)
    assert (len(train), len(held)) == (48, 12) and overlap(train, held) == []
    assert held[0]["input_ids"].tolist() == data[int(held.rows[0])]["input_ids"].tolist()
    assert held.targets.tolist() == [2] * 12 and train.lengths.sum() + held.lengths.sum() == data.lengths.sum()
    assert (
        hold_out(data, 0.2, seed=3)[1].rows.tolist()
        == held.rows.tolist()
        != hold_out(data, 0.2, seed=4)[1].rows.tolist()
    )
    assert overlap(data, held) == held.rows.tolist()
    with pytest.raises(DataError, match="1 different samples are too few"):
        hold_out(tokenise(rows[:1], PAIR, tokenizer, 64), 0.2, seed=0)


def test_tokenising_reports_progress_and_can_be_stopped(tokenizer: Any) -> None:
    rows = [{"prompt": "a", "completion": "b"}] * 2500
    seen: list[tuple[int, int]] = []
    tokenise(rows, PAIR, tokenizer, 64, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1000, 2500), (2000, 2500), (2500, 2500)]
    with pytest.raises(Stopped):
        tokenise(rows, PAIR, tokenizer, 64, should_stop=lambda: True)


def test_batches_are_padded_on_the_right_and_padding_is_no_target() -> None:
    samples = [
        {"input_ids": np.array([5, 6, 7]), "labels": np.array([IGNORE_INDEX, 6, 7])},
        {"input_ids": np.array([8]), "labels": np.array([8])},
    ]
    batch = Collator(pad_token_id=2)(samples)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 2, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORE_INDEX, 6, 7], [8, IGNORE_INDEX, IGNORE_INDEX]]


def test_any_dataset_of_dicts_will_do_and_its_padding_is_taken_out() -> None:
    view = DatasetView(
        [
            {"input_ids": [4, 5, 0, 0], "attention_mask": [1, 1, 0, 0]},
            {"input_ids": torch.tensor([7, 8, 9]), "labels": torch.tensor([IGNORE_INDEX, 8, 9])},
        ]
    )
    assert view.lengths.tolist() == [2, 3] and view.targets.sum() == 3
    assert view[0]["labels"].tolist() == [4, 5]
    with pytest.raises(TypeError, match=r"Item 0 .* with 'input_ids', but it has the keys \['tokens'\]"):
        DatasetView([{"tokens": [1]}])
    with pytest.raises(TypeError, match="but it has a list"):
        DatasetView([[1, 2]])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "No model is given"),
        ("./nowhere", "There is no folder"),
        ("a/b/c", "There is no folder"),
        ("two words", "neither a local path nor a Hub id"),
        ("x.gguf/../y.gguf", "GGUF"),
    ],
)
def test_a_model_name_that_cannot_be_one(name: str, sentence: str) -> None:
    assert sentence in model_problem(name)


def test_names_that_may_be_right_pass(model_folder: Path) -> None:
    assert not any(model_problem(name) for name in ("demo", "gpt2", "owner/name", str(model_folder)))
    assert not any(data_problem(name) for name in ("demo", "squad", "owner/name"))
    assert "has no config.json" in model_problem(str(model_folder.parent))
    adapter = model_folder.parent / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "gpt2"}', encoding="utf-8")
    assert model_problem(str(adapter)) == "", "its base model is loaded with it"
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "/gone/base"}', encoding="utf-8")
    assert "is of the base model '/gone/base'. There is no folder '/gone/base'" in model_problem(str(adapter))
    (adapter / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(adapter)}), encoding="utf-8"
    )
    assert model_problem(str(adapter)).endswith("It is its own base model: give the base model, or a merged model.")
    (adapter / "adapter_config.json").write_text("[", encoding="utf-8")
    assert "names no base model: give the base model, or a merged model." in model_problem(str(adapter))
    assert "There is no file" in data_problem("rows.jsonl") and "No data is given" in data_problem(" ")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert "is a file, not a folder" in folder_problem(str(tmp_path / "file" / "runs"))
    assert folder_problem(str(tmp_path / "new" / "runs")) == "" and "No output folder" in folder_problem(" ")
    assert folder_problem("/proc/runs") != ""


def test_preflight_tells_all_problems_at_once(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text("no json", encoding="utf-8")
    config = RunConfig.from_dict({"model": {"name": "./none"}, "data": {"train": str(bad), "eval": "none.csv"}})
    assert [field for field, _ in preflight(config)] == ["model.name", "data.train", "data.eval"]


def test_the_shipped_demo_data_is_read_like_any_other() -> None:
    rows = load_rows(DataConfig(sample_count=5))
    assert len(rows) == 5 and json.dumps(rows[0]) and {"prompt", "completion"} <= set(rows[0])
