"""A run that continues an earlier one: only new rows, and a replayed share of those that it had right."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from geko_engine.config.run_config import RunConfig
from geko_engine.data import earlier_run
from geko_engine.data.earlier_run import EarlierRun
from geko_engine.data.preparation import load_raw_rows, prepare, render_rows
from geko_engine.exceptions import DataError
from geko_engine.preflight.checks import preflight
from geko_engine.reporting.events import Event, Message
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.sample_texts import write_sample_texts
from geko_engine.selection.sample_records import SampleStates
from tests.engine.conftest import sum_rows

Rows = list[dict[str, str]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEKO_CACHE", str(tmp_path / "cache"))


def rows_named(*names: str) -> Rows:
    return [{"prompt": f"{name} ?", "completion": f"{name} ."} for name in names]


def written(path: Path, rows: Rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def earlier(tmp_path: Path, rows: Rows, tokenizer: Any, **record: list[int]) -> RunFolder:
    """A run that has ended: all rows were trained on and answered correctly, but for what `record` says."""
    config = RunConfig.from_dict(
        {"data": {"train": written(tmp_path / "old.jsonl", rows)}, "output_dir": str(tmp_path / "runs")}
    )
    folder = RunFolder.create(config)
    rendered = render_rows(config, load_raw_rows(config, ignore, never), tokenizer, ignore)
    data = prepare(config, rendered, 1000, ignore, never)[0].data
    write_sample_texts(folder.path, rendered["training"], data)
    states = SampleStates(len(rows))
    for name, values in ({"seen": [1] * len(rows), "correct": [1] * len(rows)} | record).items():
        getattr(states, name)[:] = values
    states.save(folder.samples_path)
    return folder


def continued(tmp_path: Path, folder: RunFolder, rows: Rows, **data: Any) -> RunConfig:
    values = {"train": written(tmp_path / "new.jsonl", rows), "replay": str(folder.path), **data}
    return RunConfig.from_dict({"model": {"name": str(folder.model_path)}, "data": values, "output_dir": str(tmp_path)})


def trained_on(config: RunConfig, tokenizer: Any, events: list[Event] | None = None) -> tuple[list[str], list[str]]:
    """(first words of the rows that are trained on, what is found about them)."""
    emit = ignore if events is None else events.append
    rendered = render_rows(config, load_raw_rows(config, emit, never), tokenizer, emit)
    part = prepare(config, rendered, 1000, emit, never)[0]
    prompts = [rendered["training"].rows[number]["prompt"] for number in part.data.rows.tolist()]  # type: ignore[index]
    return [prompt.split()[0] for prompt in prompts], [finding.sentence for finding in part.findings]


def ignore(_event: Event) -> None:
    pass


def never() -> bool:
    return False


def test_rows_of_the_earlier_run_are_left_out_by_their_text_and_named(tmp_path: Path, tokenizer: Any) -> None:
    folder = earlier(tmp_path, rows_named("a", "b", "c"), tokenizer)
    rows = rows_named("c", "d", "a", "e")
    rows[2]["completion"] = "edited"
    kept, said = trained_on(continued(tmp_path, folder, rows, replay_share=0.0), tokenizer)
    assert kept == ["d", "a", "e"]
    assert "1 row left out, because the earlier run was trained on them: 1" in said


def test_what_was_never_trained_on_is_new(tmp_path: Path, tokenizer: Any) -> None:
    folder = earlier(tmp_path, rows_named("a", "b"), tokenizer, seen=[1, 0])
    kept, _ = trained_on(continued(tmp_path, folder, rows_named("a", "b"), replay_share=0.0), tokenizer)
    assert kept == ["b"]


def test_replayed_rows_were_right_and_are_no_suspects(tmp_path: Path, tokenizer: Any) -> None:
    letters = "abcdefghij"
    wrong = [0, 1] * 5
    folder = earlier(tmp_path, rows_named(*letters), tokenizer, correct=wrong)
    config = continued(tmp_path, folder, rows_named(*letters, "new", "newer"), replay_share=0.6)
    events: list[Event] = []
    kept, _ = trained_on(config, tokenizer, events)
    assert set(kept) <= {"b", "d", "f", "h", "j", "new", "newer"} and len(kept) == 5  # 2 new ones are two fifths
    (first,) = [e.text for e in events if isinstance(e, Message) and "are replayed (" in e.text]
    assert first.startswith(f"2 rows are new; 10 were trained on by the run {folder.id}") and "3 of that run's" in first
    again, _ = trained_on(config, tokenizer)
    assert again == kept
    others = [replace(config, training=replace(config.training, seed=seed)) for seed in range(100, 105)]
    assert any(trained_on(other, tokenizer)[0] != kept for other in others)


def test_rows_that_the_new_data_does_not_hold_come_from_the_earlier_source(tmp_path: Path, tokenizer: Any) -> None:
    folder = earlier(tmp_path, rows_named(*"abcdef"), tokenizer)
    config = continued(tmp_path, folder, rows_named("x", "y", "z"), replay_share=0.5)
    kept, said = trained_on(config, tokenizer)
    assert kept[:3] == ["x", "y", "z"] and set(kept[3:]) < set("abcdef") and len(kept) == 6
    assert any(f"new.jsonl 3, {folder.id} (replayed) 3" in sentence for sentence in said)
    Path(folder.config().data.train).unlink()
    events: list[Event] = []
    assert trained_on(config, tokenizer, events)[0] == ["x", "y", "z"]
    said = [e.text for e in events if isinstance(e, Message) and e.level == "warning"]
    assert "cannot be read any more" in said[0] and "asks for 3 replayed rows, but only 0" in said[1]


def test_rows_changed_in_the_source_since_are_not_replayed(tmp_path: Path, tokenizer: Any) -> None:
    folder = earlier(tmp_path, rows_named(*"ab"), tokenizer)
    written(Path(folder.config().data.train), [{"prompt": "a ?", "completion": "changed"}, *rows_named("b")])
    kept, _ = trained_on(continued(tmp_path, folder, rows_named("x", "y"), replay_share=0.5), tokenizer)
    assert sorted(kept) == ["b", "x", "y"]


def test_a_run_that_continued_another_one_knows_the_rows_of_both(tmp_path: Path, tokenizer: Any) -> None:
    first = earlier(tmp_path, rows_named("a", "b"), tokenizer)
    (tmp_path / "more").mkdir()
    second = earlier(tmp_path / "more", rows_named("c"), tokenizer)
    second.change_config({"data.replay": str(first.path)})
    rows = rows_named("a", "b", "c", "d")
    assert trained_on(continued(tmp_path, second, rows, replay_share=0.0), tokenizer)[0] == ["d"]
    only = continued(tmp_path, second, rows_named("x", "y", "z"), replay_share=0.5)
    assert sorted(trained_on(only, tokenizer)[0]) == ["a", "b", "c", "x", "y", "z"]
    shutil.rmtree(first.path)
    events: list[Event] = []
    config = continued(tmp_path, second, rows, replay_share=0.0)
    assert trained_on(config, tokenizer, events)[0] == ["a", "b", "d"]
    assert any(isinstance(e, Message) and "is not there any more" in e.text for e in events)


def test_rows_that_cannot_be_used_are_not_new(tmp_path: Path, tokenizer: Any) -> None:
    folder = earlier(tmp_path, rows_named(*"ab"), tokenizer)
    broken = [{"neither": "c"}]
    with pytest.raises(DataError, match="so none is new"):
        trained_on(continued(tmp_path, folder, [*rows_named(*"ab"), *broken]), tokenizer)


def test_nothing_new_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    folder = earlier(tmp_path, rows_named(*"ab"), tokenizer)
    with pytest.raises(DataError, match=r"trained on all rows .* so none is new: give data with other rows") as caught:
        trained_on(continued(tmp_path, folder, rows_named(*"ba")), tokenizer)
    assert caught.value.field == "data.replay"


def test_another_base_is_warned_of(tmp_path: Path, tokenizer: Any) -> None:
    folder = earlier(tmp_path, rows_named(*"ab"), tokenizer)
    config = continued(tmp_path, folder, rows_named(*"abc"))
    for base, warned in ((str(folder.model_path), 0), ("demo", 1)):
        folder.model_path.mkdir(exist_ok=True)
        config.model.name = base
        events: list[Event] = []
        trained_on(config, tokenizer, events)
        assert sum(isinstance(e, Message) and "the model is not its result" in e.text for e in events) == warned


@pytest.mark.parametrize("kind", ["nowhere", "a folder", "a run without texts"])
def test_what_is_no_run_is_refused_at_its_field(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run"
    if kind != "nowhere":
        path.mkdir()
    if kind == "a run without texts":
        (path / "config.yaml").write_text("{}", encoding="utf-8")
    ((field, text),) = preflight(RunConfig.from_dict({"data": {"replay": str(path)}, "output_dir": str(tmp_path)}))
    assert field == "data.replay" and str(path) in text
    with pytest.raises(DataError):
        EarlierRun.read(str(path))


def test_the_files_of_a_run_have_the_names_that_are_read_here(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert [p.name for p in (folder.config_path, folder.texts_path, folder.samples_path)] == [
        earlier_run.CONFIG,
        earlier_run.TEXTS,
        earlier_run.RECORD,
    ]


def test_a_real_run_continues_another_one(tmp_path: Path, model_folder: Path) -> None:
    rows = sum_rows(40)
    data = tmp_path / "rows.jsonl"
    training = {"num_epochs": 10, "batch_size": 8, "learning_rate": 5e-3}
    values: dict[str, Any] = {"training": training, "output_dir": str(tmp_path / "runs")}
    values |= {"model": {"name": str(model_folder)}, "data": {"train": written(data, rows)}}
    first = RunFolder.create(RunConfig.from_dict(values))
    assert run(first)["end"] == "complete"
    written(data, [*rows, *({"prompt": f"what is {n}", "completion": str(n)} for n in range(12))])
    values |= {"model": {"name": str(first.model_path)}, "data": {"train": str(data), "replay": str(first.path)}}
    second = RunFolder.create(RunConfig.from_dict(values))
    seen: list[Event] = []
    report = run(second, on_event=seen.append)
    (said,) = [e.text for e in seen if isinstance(e, Message) and "are replayed (" in e.text]
    assert report["end"] == "complete" and said.startswith("12 rows are new; ")
    assert report["samples"] == 12 + round(0.25 * 12)
