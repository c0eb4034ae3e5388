"""The log of corrections, and the rows that they are applied to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from safetensors.numpy import load_file

from geko_engine.config.run_config import RunConfig
from geko_engine.data.corrections import (
    DELETE,
    KEEP,
    REPLACE,
    UNDO,
    Correction,
    append,
    corrections_problem,
    current,
    read_corrections,
)
from geko_engine.data.earlier_run import text_digest
from geko_engine.data.preparation import load_raw_rows, prepare, render_rows
from geko_engine.data.rendering import RenderedRows
from geko_engine.exceptions import DataError
from geko_engine.reporting.events import Event, Message
from geko_engine.run import run
from geko_engine.runs.evaluation_scores import load
from geko_engine.runs.folder import RunFolder

Row = dict[str, Any]
PAIRS: list[Row] = [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(6)]


def made(row: int, action: str, **more: Any) -> Correction:
    return Correction(row, "00", action, at="2026-11-27T10:00:00.000+00:00", **more)


def test_the_log_keeps_every_decision_and_the_last_one_holds(tmp_path: Path) -> None:
    path = tmp_path / "corrections.jsonl"
    assert read_corrections(path) == []
    first = [made(3, DELETE), made(1, REPLACE, answer="gr\u00fcn\u2028\ud83d", origin="edited")]
    append(path, first)
    append(path, [made(3, UNDO), made(2, KEEP)])
    assert read_corrections(path)[:2] == first
    assert {row: found.action for row, found in current(read_corrections(path)).items()} == {1: REPLACE, 2: KEEP}


def test_a_line_that_was_not_written_to_its_end_is_left_out_and_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "corrections.jsonl"
    append(path, [made(1, KEEP)])
    with path.open("a", encoding="utf-8") as file:
        file.write('{"row": 2, "digest": "00", "act')
    assert [found.row for found in read_corrections(path)] == [1]
    append(path, [made(3, DELETE)])
    assert [found.row for found in read_corrections(path)] == [1, 3]


@pytest.mark.parametrize(
    "line",
    ["no json", "[]", '{"row": 0, "digest": "", "action": "keep"}', '{"row": 1, "digest": "", "action": "burn"}'],
)
def test_a_damaged_log_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "corrections.jsonl"
    append(path, [made(1, KEEP)])
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    assert "Line 2 of" in corrections_problem(str(path)) and "corrections.jsonl as it is" in corrections_problem(
        str(path)
    )


def test_a_missing_file_is_named() -> None:
    assert corrections_problem("/nowhere/corrections.jsonl").startswith("There is no file '/nowhere/corrections.jsonl'")
    assert corrections_problem(None) == ""


class Source:
    """Rows in a file, corrections of them in another, and what becomes of both."""

    def __init__(self, folder: Path, tokenizer: Any, rows: list[Row], **settings: Any) -> None:
        self.folder, self.tokenizer = folder, tokenizer
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self.log = folder / "corrections.jsonl"
        self.settings = {"train": str(folder / "rows.jsonl"), **settings}
        self.texts = [self.text(self.read(), number) for number in range(len(rows))]

    def read(self, **more: Any) -> RenderedRows:
        self.config = RunConfig.from_dict({"data": {**self.settings, **more}})
        raw = load_raw_rows(self.config, print, lambda: False)
        return render_rows(self.config, raw, self.tokenizer, lambda event: None)["training"]

    def decide(self, row: int, action: str, **more: Any) -> None:
        digest = text_digest(self.texts[row - 1]).hex()
        append(self.log, [Correction(row, digest, action, **more)])

    def corrected(self, **more: Any) -> RenderedRows:
        return self.read(corrections=str(self.log), **more)

    @staticmethod
    def text(rendered: RenderedRows, number: int) -> str:
        return rendered[number][0].text if rendered.rows[number] is not None else ""


def test_rows_are_edited_deleted_and_left_and_it_is_said_which(
    tmp_path: Path, tokenizer: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("GEKO_CACHE", str(tmp_path / "cache"))
    source = Source(tmp_path, tokenizer, PAIRS)
    source.decide(2, REPLACE, answer="right", origin="edited")
    source.decide(3, DELETE)
    source.decide(4, KEEP)
    source.decide(5, REPLACE, prompt="asked anew", answer="well", origin="edited")
    source.decide(6, DELETE)
    source.decide(6, UNDO)
    append(source.log, [Correction(n, text_digest("another text").hex(), DELETE) for n in (1, 99)])
    found = source.corrected()
    texts = [source.text(found, number) for number in range(6)]
    assert texts == [source.texts[0], "question 1\nright", "", source.texts[3], "asked anew\nwell", source.texts[5]]
    (part,) = prepare(source.config, {"training": found}, 1000, lambda event: None, lambda: False)
    said = {finding.kind: finding.sentence for finding in part.findings}
    assert said["corrected"] == "2 rows corrected (data.corrections): 2, 5"
    assert said["deleted"] == "1 row left out, because they are deleted (data.corrections): 3"
    assert said["outdated"].startswith("2 rows not corrected") and said["outdated"].endswith(": 1, 99")
    assert "flagged" not in said


def test_a_prompt_of_several_columns_is_replaced_as_a_whole(tmp_path: Path, tokenizer: Any) -> None:
    source = Source(
        tmp_path, tokenizer, [{"instruction": "Translate", "input": f"n {n}", "output": "x"} for n in range(3)]
    )
    source.decide(1, REPLACE, prompt="Say it in German: one", origin="edited")
    assert source.text(source.corrected(), 0) == "Say it in German: one\nx"


def test_the_last_answer_of_a_conversation_is_replaced_whatever_its_keys_are_called(
    tmp_path: Path, tokenizer: Any
) -> None:
    talk = [
        {"from": "human", "value": "hi"},
        {"from": "gpt", "value": "hello", "weight": 0},
        {"from": "human", "value": "which color?"},
        {"from": "gpt", "value": "wrong"},
    ]
    source = Source(tmp_path, tokenizer, [{"conversations": talk}, {"conversations": talk[:2] + talk[2:]}])
    source.decide(1, REPLACE, prompt="which colour?", answer="green", origin="edited")
    found = source.corrected()
    expected = source.texts[0].replace("wrong", "green").replace("color", "colour")
    assert source.text(found, 0) == expected and source.text(found, 1) == source.texts[1]
    learnt = [text for text, is_learnt in found[0][0].segments if is_learnt]
    assert len(learnt) == 1 and "green" in learnt[0], "the first answer stays as it is: read, and not learned"


def test_the_last_question_of_a_prompt_of_turns_is_replaced(tmp_path: Path, tokenizer: Any) -> None:
    asked = [{"role": r, "content": c} for r, c in (("user", "one"), ("assistant", "yes"), ("user", "two"))]
    greeted = [{"role": "assistant", "content": "hello"}, {"role": "user", "content": "two"}]
    rows = [{"prompt": turns, "completion": [{"role": "assistant", "content": "end"}]} for turns in (asked, greeted)]
    source = Source(tmp_path, tokenizer, rows)
    for row in (1, 2):
        source.decide(row, REPLACE, prompt="three", answer="END", origin="edited")
    found = source.corrected()
    for number in (0, 1):
        expected = source.texts[number].replace("two", "three").replace("end", "END")
        assert source.text(found, number).removesuffix("<eos>") == expected.removesuffix("<eos>")


def test_a_plain_text_is_replaced_as_a_whole(tmp_path: Path, tokenizer: Any) -> None:
    source = Source(tmp_path, tokenizer, [{"text": "one"}, {"text": "two"}])
    source.decide(2, REPLACE, answer="three", origin="edited")
    assert source.text(source.corrected(), 1) == "three"


def test_nothing_left_to_train_on_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    source = Source(tmp_path, tokenizer, PAIRS[:2])
    source.decide(1, DELETE)
    source.decide(2, DELETE)
    with pytest.raises(DataError, match="delete all rows") as refused:
        source.corrected()
    assert refused.value.field == "data.corrections"


def test_a_run_goes_on_with_what_was_edited_and_keeps_the_log_it_was_started_with(
    tmp_path: Path, model_folder: Path
) -> None:
    rows = [{"prompt": f"say {n % 2} and not {n}", "completion": str(n % 2)} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    training = {"num_epochs": 10, "batch_size": 8, "learning_rate": 5e-3}
    values: dict[str, Any] = {"training": training, "output_dir": str(tmp_path / "runs")}
    values |= {"model": {"name": str(model_folder)}, "data": {"train": str(tmp_path / "rows.jsonl")}}
    first = RunFolder.create(RunConfig.from_dict(values))
    assert run(first)["end"] == "complete"
    texts = dict(enumerate(parquet.read_table(first.texts_path).column("text").to_pylist(), 1))
    log = [
        *(Correction(n, text_digest(texts[n]).hex(), REPLACE, answer="none", origin="edited") for n in (1, 2, 3, 4)),
        Correction(5, text_digest(texts[5]).hex(), DELETE),
    ]
    append(first.corrections_path, log)
    again = RunConfig.from_dict(values)
    again.model.name, again.data.replay, again.data.replay_share = str(first.model_path), str(first.path), 0.5
    again.data.corrections = str(first.corrections_path)
    second = RunFolder.create(again)
    seen: list[Event] = []
    assert run(second, on_event=seen.append)["end"] == "complete"
    said = [event.text for event in seen if isinstance(event, Message)]
    assert any(text.startswith("4 rows are new; 35 were trained on by the run") for text in said)
    trained = parquet.read_table(second.texts_path).column("text").to_pylist()
    assert {text for text in trained if text.endswith("none")} == {f"{rows[n]['prompt']}\nnone" for n in range(4)}
    assert not set(trained) & {texts[n] for n in range(1, 6)}, (
        "neither what was edited nor what was deleted is replayed"
    )
    append(first.corrections_path, [Correction(6, text_digest(texts[6]).hex(), DELETE)])
    assert read_corrections(second.used_corrections_path) == log
    assert "corrections_used" not in second.config_path.read_text(encoding="utf-8")
    assert second.config_with_saved_flags().data.corrections == str(second.used_corrections_path)


def test_a_run_that_goes_on_holds_out_the_rows_that_the_earlier_one_held_out(
    tmp_path: Path, model_folder: Path
) -> None:
    rows = [{"prompt": f"say {n % 2} and not {n}", "completion": str(n % 2)} for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    values: dict[str, Any] = {"training": {"num_epochs": 2, "batch_size": 8}, "output_dir": str(tmp_path / "runs")}
    values |= {
        "model": {"name": str(model_folder)},
        "data": {"train": str(tmp_path / "rows.jsonl"), "eval_ratio": 0.25},
    }
    first = RunFolder.create(RunConfig.from_dict(values))
    run(first)
    texts = parquet.read_table(first.texts_path).column("text").to_pylist()
    numbers = load_file(first.rows_path)["row"].tolist()
    assert len(texts) == 45
    edited = Correction(numbers[0], text_digest(texts[0]).hex(), REPLACE, answer="none", origin="edited")
    deleted = Correction(numbers[1], text_digest(texts[1]).hex(), DELETE)
    outdated = Correction(numbers[2], "0", REPLACE, answer="none", origin="edited")
    append(first.corrections_path, [edited, deleted, outdated])
    assert first.applied_corrections() is None
    again, anew = RunConfig.from_dict(values), RunConfig.from_dict(values)
    again.model.name, again.data.replay = str(first.model_path), str(first.path)
    for config, count in ((again, None), (anew, 44)):
        config.data.corrections = str(first.corrections_path)
        later, seen = RunFolder.create(config), list[Event]()
        run(later, on_event=seen.append)
        assert any(isinstance(e, Message) and e.text.startswith("1 row is new") for e in seen) is (config is again)
        trained = parquet.read_table(later.texts_path).column("text").to_pylist()
        assert set(trained) <= {*texts, f"{rows[numbers[0] - 1]['prompt']}\nnone"} - {texts[0], texts[1]}
        assert count is None or len(trained) == count
        assert later.applied_corrections() == {numbers[0], numbers[1]}
        scores = [load(folder.evaluation_path)["digest"] for folder in (first, later)]
        assert sorted(scores[0].tolist()) == sorted(scores[1].tolist()) and len(scores[0]) == 15
    nothing = RunConfig.from_dict(values)
    nothing.data.row_flags = str(first.path / "flags.json")
    (first.path / "flags.json").write_text(json.dumps({"rows": numbers}), encoding="utf-8")
    seen = []
    assert run(RunFolder.create(nothing), on_event=seen.append)["end"] == "failed"  # and not: trained on these
    assert any("held out by the earlier run" in getattr(event, "reason", "") for event in seen)
