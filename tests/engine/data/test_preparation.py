"""From files to tokens: what is found in the rows, what is held out, and that nothing is tokenised twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geko_engine.config.run_config import RunConfig
from geko_engine.data import token_cache
from geko_engine.data.formats import PLAIN_TEMPLATE, PromptCompletion, PromptCompletionChat, recognise
from geko_engine.data.preparation import (
    FIRST_ROWS,
    PreparedDataset,
    load_raw_rows,
    prepare,
    refuse_unlearnable,
    render_rows,
)
from geko_engine.data.rendering import RenderedRows
from geko_engine.data.tokenization import tokenise
from geko_engine.exceptions import DataError, Stopped
from geko_engine.reporting.events import Event, Message, PhaseChanged


def never() -> bool:
    return False


def look(config: RunConfig, tokenizer: Any, longest: int, emit: Any, stop: Any) -> list[PreparedDataset]:
    rendered = render_rows(config, load_raw_rows(config, emit, stop), tokenizer, emit)
    return prepare(config, rendered, longest, emit, stop)


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def pairs(*texts: str) -> list[dict[str, str]]:
    return [dict(zip(("prompt", "completion"), text.split(">"), strict=True)) for text in texts]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEKO_CACHE", str(tmp_path / "cache"))


def test_everything_that_is_odd_about_the_rows_is_said_with_their_numbers(tmp_path: Path, tokenizer: Any) -> None:
    train = written(tmp_path / "train.jsonl", pairs("a>b", "a>b", "c>", "d>" + "e" * 50, "f" * 60 + ">g", "h>i"))
    held = written(tmp_path / "eval.jsonl", pairs("x>y", "h>i"))
    config = RunConfig.from_dict({"data": {"train": train, "eval": held, "max_length": 30}})
    events: list[Event] = []
    first, second = look(config, tokenizer, 1000, events.append, never)
    assert [(f.kind, f.rows, f.sentence) for f in first.findings] == [
        ("truncated", [4], "1 row cut at 30 tokens (max_length): 4"),
        ("empty", [3], "1 row without anything to learn, left out: 3"),
        ("masked", [5], "1 row with nothing to learn within 30 tokens (max_length), left out: 5"),
        ("duplicate", [2], "1 row equal to an earlier one: 2"),
    ]
    assert [(f.kind, f.rows) for f in second.findings] == [("overlap", [2])]
    assert "so the evaluation flatters: 2" in second.findings[0].sentence
    phases = [event.phase for event in events if isinstance(event, PhaseChanged)]
    assert phases.count("downloading") == 2 and "tokenising" in phases


def test_the_models_own_limit_counts_too(tmp_path: Path, tokenizer: Any) -> None:
    train = written(tmp_path / "train.jsonl", pairs("d>" + "e" * 50))
    (part,) = look(RunConfig.from_dict({"data": {"train": train}}), tokenizer, 16, lambda event: None, never)
    assert part.data.lengths.tolist() == [16] and "at 16 tokens" in part.findings[0].sentence


def test_a_share_is_held_out_where_no_evaluation_set_is_named(tmp_path: Path, tokenizer: Any) -> None:
    train = written(tmp_path / "train.jsonl", pairs(*(f"{i}>x" for i in range(40))))
    config = RunConfig.from_dict({"data": {"train": train, "eval_ratio": 0.25}})
    kept, held = look(config, tokenizer, 1000, lambda event: None, never)
    assert (len(kept.data), len(held.data), held.source) == (30, 10, "25 % of the training data")
    assert sorted([*kept.data.rows, *held.data.rows]) == list(range(40))


def test_conversations_get_a_template_where_the_tokenizer_has_none(tmp_path: Path, tokenizer: Any) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    train = written(tmp_path / "train.jsonl", [{"messages": turns}])
    events: list[Event] = []
    look(RunConfig.from_dict({"data": {"train": train}}), tokenizer, 1000, events.append, never)
    assert tokenizer.chat_template == PLAIN_TEMPLATE
    assert any("no chat template" in event.text for event in events if isinstance(event, Message))
    tokenizer.save_pretrained(tmp_path / "saved")
    assert type(tokenizer).from_pretrained(tmp_path / "saved").chat_template == PLAIN_TEMPLATE


# ---------------------------------------------------------------- the cache


def test_the_second_time_nothing_is_tokenised(tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    train = written(tmp_path / "train.jsonl", pairs("a>b", "a>b", "c>", "f>" + "g" * 60))
    config = RunConfig.from_dict({"data": {"train": train, "max_length": 30}})
    (first,) = look(config, tokenizer, 1000, lambda event: None, never)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("tokenised again")

    monkeypatch.setattr("geko_engine.data.preparation.tokenise_rendered", refuse)
    (again,) = look(config, tokenizer, 1000, lambda event: None, never)
    assert again.findings == first.findings
    for index in range(len(first.data)):
        for name, value in first.data[index].items():
            np.testing.assert_array_equal(again.data[index][name], value)


def test_the_key_follows_everything_that_decides_the_tokens(tokenizer: Any) -> None:
    rows, pair = pairs("a>b"), PromptCompletion("prompt", "completion")
    rendered = RenderedRows(rows, pair, tokenizer)
    keys = [
        token_cache.key_of(rendered, 30, never),
        token_cache.key_of(RenderedRows(pairs("a>c"), pair, tokenizer), 30, never),
        token_cache.key_of(RenderedRows(rows, PromptCompletionChat("prompt", "completion"), tokenizer), 30, never),
        token_cache.key_of(rendered, 31, never),
    ]
    assert token_cache.key_of(rendered, 30, never) == keys[0]
    tokenizer.chat_template = PLAIN_TEMPLATE
    keys.append(token_cache.key_of(rendered, 30, never))
    tokenizer.add_tokens(["zz"])
    keys.append(token_cache.key_of(rendered, 30, never))
    assert len(set(keys)) == len(keys)
    with pytest.raises(Stopped):
        token_cache.key_of(rendered, 30, lambda: True)


def test_a_damaged_file_is_no_file_and_old_ones_go(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tokenise(pairs("a>b", "c>d"), PromptCompletion("prompt", "completion"), tokenizer, 30)
    token_cache.store("one", data)
    kept = token_cache.load("one")
    assert kept is not None and kept.tokens.tolist() == data.tokens.tolist()
    path = token_cache.cache_folder() / "one.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    assert token_cache.load("one") is None and token_cache.load("none") is None
    monkeypatch.setattr(token_cache, "MAX_BYTES", 0)
    token_cache.store("two", data)
    assert list(token_cache.cache_folder().iterdir()) == []


def test_a_cache_that_cannot_be_written_stops_nothing(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEKO_CACHE", "/proc/none")
    token_cache.store("one", tokenise(pairs("a>b"), PromptCompletion("prompt", "completion"), tokenizer, 30))
    assert token_cache.load("one") is None


@pytest.mark.parametrize(
    ("row", "field", "sentence"),
    [
        ({"prompt": "a" * 40, "completion": "b"}, "data.max_length", "beyond max_length = 30 tokens. Raise it."),
        ({"prompt": "a", "completion": ""}, "data.completion_column", "Name another column than 'completion'."),
        ({"text": ""}, "data.train", "every text is empty."),
    ],
)
def test_a_start_whose_first_rows_teach_nothing_is_refused_at_the_field_of_the_way_out(
    row: dict[str, Any], field: str, sentence: str, tokenizer: Any
) -> None:
    good = {"prompt": "a", "completion": "b", "text": "ab"}
    rows = [row] * FIRST_ROWS + [{name: good[name] for name in row}]
    config = RunConfig()
    config.data.max_length = 30
    with pytest.raises(DataError, match="None of the 1,000 first rows") as caught:
        refuse_unlearnable(config, RenderedRows(rows, recognise(rows, config.data), tokenizer), 1000)
    assert caught.value.field == field and sentence in str(caught.value)
    one = RenderedRows(rows[1:], recognise(rows, config.data), tokenizer)
    refuse_unlearnable(config, one, 1000)  # one row with something to learn is enough


def test_where_the_model_is_the_limit_the_way_out_is_not_max_length(tokenizer: Any, tmp_path: Path) -> None:
    config = RunConfig()
    rows: list[Any] = [{"prompt": "a" * 40, "completion": "b"}]
    with pytest.raises(DataError, match="the 30 tokens that this model can take") as caught:
        refuse_unlearnable(config, RenderedRows(rows, recognise(rows, config.data), tokenizer), 30)
    assert caught.value.field == "data.train"
    config.data.train, config.data.eval = written(tmp_path / "rows.jsonl", [*rows, *pairs("a>b")]), None
    (part,) = look(config, tokenizer, 30, lambda event: None, never)
    assert part.findings[0].sentence.startswith(
        "1 row with nothing to learn within 30 tokens (all that the model can take)"
    )


def labelled_rows(count: int) -> list[dict[str, str]]:
    return [{"a": f"text {i} of a ticket", "b": ("open", "closed")[i % 2]} for i in range(count)]


def test_few_evaluation_rows_are_read_like_the_training_rows(tmp_path: Path, tokenizer: Any) -> None:
    train = written(tmp_path / "train.jsonl", labelled_rows(40))
    held = written(tmp_path / "eval.jsonl", labelled_rows(10))
    events: list[Event] = []
    config = RunConfig.from_dict({"data": {"train": train, "eval": held}})
    first, second = look(config, tokenizer, 1000, events.append, never)
    assert first.rendered.format == second.rendered.format and len(second.data) == 10
    notes = [event.text for event in events if isinstance(event, Message) and "guessed" in event.text]
    assert len(notes) == 1 and notes[0].startswith("Columns guessed: 'a' is the prompt, 'b' is learned.")


def test_a_guess_at_other_evaluation_columns_is_said(tmp_path: Path, tokenizer: Any) -> None:
    train = written(tmp_path / "train.jsonl", pairs("a>b", "c>d"))
    held = written(tmp_path / "eval.jsonl", labelled_rows(40))
    events: list[Event] = []
    look(RunConfig.from_dict({"data": {"train": train, "eval": held}}), tokenizer, 1000, events.append, never)
    notes = [event.text for event in events if isinstance(event, Message) and "guessed" in event.text]
    assert len(notes) == 1 and notes[0].startswith("Evaluation data: Columns guessed: 'a' is the prompt")
