"""Rows flagged in an earlier run: left out under their true numbers, or never frozen; and bad files explained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from geko_engine.config.run_config import RunConfig
from geko_engine.config.selection import GEKOConfig
from geko_engine.data.preparation import PreparedDataset, load_raw_rows, prepare, render_rows
from geko_engine.exceptions import DataError
from geko_engine.preflight.checks import preflight
from geko_engine.preflight.preview import preview
from geko_engine.run import run
from geko_engine.runs.evaluation_scores import load
from geko_engine.runs.folder import RunFolder
from geko_engine.selection.buckets import Bucket
from geko_engine.selection.sample_records import SampleStates
from tests.engine.data.test_preparation import pairs, written

KNOWN = {"loss": 0.05, "confidence": 0.95, "correct": True, "min_target_probability": 0.95}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEKO_CACHE", str(tmp_path / "cache"))


def flags(folder: Path, *rows: int) -> str:
    path = folder / "row_flags.json"
    path.write_text(json.dumps({"rows": rows}), encoding="utf-8")
    return str(path)


def look(tokenizer: Any, **data: Any) -> list[PreparedDataset]:
    config = RunConfig.from_dict({"data": data})
    rows = load_raw_rows(config, lambda event: None, lambda: False)
    rendered = render_rows(config, rows, tokenizer, lambda event: None)
    return prepare(config, rendered, 1000, lambda event: None, lambda: False)


def test_marked_rows_are_left_out_and_the_others_keep_their_numbers(tmp_path: Path, tokenizer: Any) -> None:
    train = written(tmp_path / "train.jsonl", pairs("a>b", "c>d", "e>", "f>g", "a>b"))
    (part,) = look(tokenizer, train=train, row_flags=flags(tmp_path, 2, 4, 99))
    assert part.data.rows.tolist() == [0, 4] and part.row_count == 5
    assert [(f.kind, f.rows) for f in part.findings] == [("flagged", [2, 4]), ("empty", [3]), ("duplicate", [5])]
    assert part.findings[0].sentence == "2 rows left out, because they are flagged: 2, 4"


def test_evaluation_data_knows_no_flags(tmp_path: Path, tokenizer: Any) -> None:
    train = written(tmp_path / "train.jsonl", pairs("a>b", "c>d"))
    first, second = look(tokenizer, train=train, eval=train, row_flags=flags(tmp_path, 1))
    assert (first.data.rows.tolist(), second.data.rows.tolist()) == ([1], [0, 1])


def test_kept_tokens_are_not_taken_for_those_of_other_flags(tmp_path: Path, tokenizer: Any) -> None:
    train = written(tmp_path / "train.jsonl", pairs("a>b", "a>b", "c>d"))
    found = [look(tokenizer, train=train)[0].data.rows.tolist()]
    found += [look(tokenizer, train=train, row_flags=flags(tmp_path, row))[0].data.rows.tolist() for row in (1, 2, 1)]
    assert found == [[0, 1, 2], [1, 2], [0, 2], [1, 2]]


def test_all_rows_marked_is_told_at_the_flags(tmp_path: Path, tokenizer: Any) -> None:
    train = written(tmp_path / "train.jsonl", pairs("a>b", "c>d"))
    with pytest.raises(DataError, match="All 2 rows are flagged") as caught:
        look(tokenizer, train=train, row_flags=flags(tmp_path, 1, 2))
    assert caught.value.field == "data.row_flags"


def test_the_look_shows_what_will_be_trained_on(tmp_path: Path, tokenizer: Any) -> None:
    train = written(tmp_path / "train.jsonl", pairs("a>b", "c>d"))
    config = RunConfig.from_dict({"data": {"train": train, "row_flags": flags(tmp_path, 1)}})
    assert [sample[0][0].strip() for sample in preview(config, tokenizer, lambda event: None).samples] == ["c"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "There is no file"),
        ("not json", "holds no row flags"),
        ("[1, 2]", "holds no row flags"),
        ('{"rows": [0]}', "holds no row flags"),
        ('{"rows": [true]}', "holds no row flags"),
        ('{"rows": "3"}', "holds no row flags"),
    ],
)
def test_a_bad_file_is_reported_before_the_start(tmp_path: Path, content: str | None, sentence: str) -> None:
    path = tmp_path / "row_flags.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    ((field, text),) = preflight(RunConfig.from_dict({"data": {"row_flags": str(path)}, "output_dir": str(tmp_path)}))
    assert field == "data.row_flags" and sentence in text and str(path) in text


@pytest.mark.parametrize("mastery", ["exact_match", "below_mean_loss"])
def test_a_mastered_sample_that_may_not_freeze_is_light(tmp_path: Path, mastery: str) -> None:
    states, config, ids = SampleStates(3), GEKOConfig(mastery=mastery), np.arange(3)
    states.never_freeze[1:] = True
    signals = {name: np.full(3, value) for name, value in KNOWN.items()}
    signals["correct"] = np.array([True, True, mastery == "exact_match"])  # "below_mean_loss" masters wrong answers too
    states.mean_loss = 1.0
    states.record(ids, **signals, step=1, config=config)
    assert states.bucket.tolist() == [Bucket.FREEZE, Bucket.LIGHT, Bucket.LIGHT]
    assert (states.counts().freeze, states.counts().light) == (1, 2)
    states.save(tmp_path / "s")
    states.load(tmp_path / "s")
    states.record(ids, **signals, step=2, config=config)
    assert states.bucket.tolist() == [Bucket.FREEZE, Bucket.LIGHT, Bucket.LIGHT]


# ---------------------------------------------------------------- real runs


def started(tmp_path: Path, model: Path, rows: Path, action: str, numbers: list[int], epochs: int) -> RunFolder:
    data = {"train": str(rows), "row_flags": flags(tmp_path, *numbers), "flag_action": action}
    training = {"num_epochs": epochs, "batch_size": 8, "learning_rate": 5e-3}
    values = {"model": {"name": str(model)}, "data": data, "training": training, "output_dir": str(tmp_path / "runs")}
    folder = RunFolder.create(RunConfig.from_dict(values))
    assert run(folder)["end"] == "complete"
    return folder


def test_a_run_leaves_flagged_rows_out_and_stays_with_the_flags_it_began_with(
    tmp_path: Path, model_folder: Path, data_file: Path
) -> None:
    folder = started(tmp_path, model_folder, data_file, "exclude", [1, 64], 2)
    assert load_file(folder.rows_path)["row"].tolist() == list(range(2, 64))
    flags(tmp_path, 5)
    assert run(folder, resume=True)["end"] == "complete"  # its checkpoint is of the same rows
    assert json.loads(folder.used_flags_path.read_text(encoding="utf-8")) == {"rows": [1, 64]}


def test_a_run_never_freezes_flagged_rows_and_freezes_their_equals(
    tmp_path: Path, model_folder: Path, data_file: Path
) -> None:
    folder = started(tmp_path, model_folder, data_file, "never_freeze", list(range(1, 33)), 16)
    states = SampleStates(64)
    states.load(folder.samples_path)
    frozen = states.bucket == Bucket.FREEZE  # every second row is easy, on both sides
    assert not frozen[:32].any() and frozen[32:].any()


def test_a_run_with_the_flags_of_an_earlier_one_holds_out_the_same_rows(tmp_path: Path, model_folder: Path) -> None:
    texts = [{"prompt": f"say {n % 2} and not {n}", "completion": str(n % 2)} for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts), encoding="utf-8")
    values: dict[str, Any] = {"model": {"name": str(model_folder)}, "training": {"num_epochs": 1, "batch_size": 8}}
    values["data"] = {"train": str(tmp_path / "rows.jsonl"), "eval_ratio": 0.25}
    values["output_dir"] = str(tmp_path / "runs")
    first = RunFolder.create(RunConfig.from_dict(values))
    run(first)
    rows = load_file(first.rows_path)["row"].tolist()
    assert len(rows) == 45
    config = RunConfig.from_dict(values)
    config.data.row_flags, config.data.flag_action = flags(first.path, *rows[:30]), "exclude"
    later = RunFolder.create(config)
    run(later)
    assert load_file(later.rows_path)["row"].tolist() == rows[30:]
    scores = [sorted(load(folder.evaluation_path)["digest"].tolist()) for folder in (first, later)]
    assert scores[0] == scores[1] and len(scores[0]) == 15
