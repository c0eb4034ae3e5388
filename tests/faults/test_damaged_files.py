"""Files of a run that anything may have happened to: one sentence, every other run still listed, and the page starts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from geko_app.runs.live_state import RunState
from geko_app.runs.store import RunStore
from geko_app.runs.summary import FactsReader
from geko_app.samples.store import SampleStore
from geko_app.views.dashboard import Cursor, payload
from geko_app.workers.supervisor import Supervisor
from geko_engine.cli import main as geko_train
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import ConfigError, GekoError, RunError
from geko_engine.reporting.event_lines import parse, without_undone
from geko_engine.reporting.events import (
    Evaluated,
    Event,
    LogOpened,
    Message,
    PhaseChanged,
    RunEnded,
    RunStarted,
    StepCompleted,
)
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.status import Status
from geko_engine.runs.writer import RunWriter, mark_interrupted
from geko_engine.storage.atomic_files import replace_json

VERSION_1 = Path(__file__).parents[1] / "fixtures" / "version1"
COUNTS = {"freeze": 1, "light": 1, "focus": 1, "hard": 1, "unseen": 0}
TOKENS = {"tokens_forwarded": 9, "tokens_backwarded": 9, "plain_training_tokens": 9, "compute_saved_ratio": 0.0}
STARTED = RunStarted("m", 4, 0, 1, 4, 1, 9, 9, 9, 9, "cpu", "fp32", resumed_from_seq=0)
PIECES = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [
            b"\x00" * 9,
            b"\n",
            b"{}\n",
            b"null",
            b"[" * 3000,
            b"\xff\xfe",
            b"NaN",
            b"1e999",
            b'"\\ud800"',
            b"9" * 5000,
            b"-1",
        ]
    ),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def step(number: int) -> StepCompleted:
    times = {"seconds": float(number), "train_seconds": float(number)}
    return StepCompleted(number, 0, number / 4, 4, 1.0 / number, 1e-3, "", 1, **TOKENS, **times, **COUNTS)


def events() -> list[Event]:
    """A short run from its start to its end."""
    steps = [step(number) for number in range(1, 5)]
    report = {"end": "complete", "reason": "", "steps": 4, "final_buckets": COUNTS}
    return [
        PhaseChanged("starting", "model"),
        STARTED,
        *steps,
        Evaluated(4, 1, 0.5, 0.5, 2, 9, 0.1),
        Message("done"),
        RunEnded("complete", "All epochs are done.", report),
    ]


@pytest.fixture(scope="module")
def model_run(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A store with one ended run."""
    store = RunStore(tmp_path_factory.mktemp("runs"))
    config = RunConfig.demo()
    config.output_dir = str(store.root)
    folder = store.create(config)
    with RunWriter(folder) as write:
        for event in events():
            write(event)
    replace_json(folder.report_path, events()[-1].to_dict()["report"])
    return store


@pytest.fixture(scope="module")
def runs(model_run: RunStore) -> Iterator[tuple[RunStore, RunFolder, dict[str, bytes]]]:
    """(store, the run that is damaged, its files as they were); beside it lies a run that stays whole."""
    (whole,) = model_run.ids()
    shutil.copytree(model_run.root / whole, model_run.root / f"{whole}-x")
    folder = model_run.folder(f"{whole}-x")
    names = ("config.yaml", "status.json", "events.jsonl", "report.json", "run.json")
    yield model_run, folder, {name: (folder.path / name).read_bytes() for name in names}


def what_the_page_shows(store: RunStore, folder: RunFolder) -> str:
    """All that the page asks of this run and of the list, as it would be sent."""
    state = RunState()
    for _, event in folder.events():
        state.apply(event)
    reader = FactsReader()
    facts = [asdict(reader.facts(store.folder(run_id))) for run_id in store.ids()]
    shown = [facts, [asdict(entry) for entry in store.entries(5)], reader.config(folder)]
    try:
        shown.append(payload(folder, state, Cursor(), alive=False))
    except GekoError as error:
        shown.append(str(error))
    text = json.dumps(shown, ensure_ascii=False, default=str)
    text.encode()
    return text


def damaged(content: bytes, place: float, length: float, piece: bytes) -> bytes:
    """`content` with a part of it replaced: places and lengths as shares of the whole."""
    begin = int(place * len(content))
    return content[:begin] + piece + content[begin + int(length * (len(content) - begin)) :]


SHARES = st.floats(0, 1)


@pytest.mark.parametrize("name", ["config.yaml", "status.json", "events.jsonl", "report.json", "run.json"])
def test_a_damaged_file_of_a_run_takes_nothing_else_with_it(
    name: str, runs: tuple[RunStore, RunFolder, dict[str, bytes]]
) -> None:
    store, folder, before = runs

    @given(SHARES, st.sampled_from([0.0, 0.01, 0.1, 1.0]), PIECES)
    @example(0.0, 1.0, b"")
    @example(0.5, 1.0, b"")
    @example(0.0, 1.0, b"\x00" * 4096)
    def check(place: float, length: float, piece: bytes) -> None:
        (folder.path / name).write_bytes(damaged(before[name], place, length, piece))
        text = what_the_page_shows(store, folder)
        (whole,) = {run_id for run_id in store.ids() if not run_id.endswith("-x")}
        assert whole in text and folder.id in text

    check()
    for file, content in before.items():
        (folder.path / file).write_bytes(content)


def changed(values: dict[str, Any], name: str, value: Any) -> bytes:
    return (json.dumps({**values, name: value}) + "\n").encode()


@given(st.sampled_from(events()), st.data(), VALUES)
def test_an_event_with_a_value_of_any_type_is_shown_or_skipped(event: Event, data: st.DataObject, value: Any) -> None:
    values = {"seq": 1, "time": 1.0, **event.to_dict()}
    name = data.draw(st.sampled_from(sorted(values)))
    found = parse(changed(values, name, value))
    assert found is None or json.dumps(found, ensure_ascii=False).encode()
    if found is not None:
        state = RunState()
        state.apply(found)
        state.snapshot()


@given(st.dictionaries(st.sampled_from([*Status.__dataclass_fields__, "other"]), VALUES))
def test_a_status_with_values_of_any_type_is_a_status(tmp_path_factory: Any, values: dict[str, Any]) -> None:
    folder = RunFolder(tmp_path_factory.getbasetemp())
    (folder.path / "status.json").write_text(json.dumps(values), encoding="utf-8")
    status = folder.status()
    assert status is not None and status.alive in (True, False)
    assert status.end != "interrupted" or status.reason == values.get("reason", "") or "cannot be read" in status.reason


def test_a_damaged_status_is_said_and_the_run_can_be_resumed(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    config = RunConfig.demo()
    config.output_dir = str(tmp_path)
    folder = store.create(config)
    (folder.path / "status.json").write_bytes(b"\x00" * 200)
    Supervisor(store)  # the page starts
    facts = FactsReader().facts(folder)
    assert facts.end == "interrupted" and facts.reason == (
        f"{str(folder.path / 'status.json')!r} cannot be read: resume the run."
    )
    with RunWriter(folder) as write:
        write(PhaseChanged("training"))
        assert folder.status().end == ""
    replace_json(folder.report_path, {"end": "complete"})
    (folder.path / "status.json").write_bytes(b"")
    assert folder.status().end == "complete"  # nothing is left to do


def test_a_damaged_line_is_skipped_and_said_and_the_others_are_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with RunWriter(folder) as write:
        for number in range(1, 7):
            write(step(number))
    lines = folder.events_path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2][:40] + b"\x00" * 12 + lines[2][52:]
    lines[3] = b"\xff\xfe\n"
    lines[5] = lines[5].replace(b'"step": 5', b'"step": "five"')
    folder.events_path.write_bytes(b"".join(lines))
    found = [event for _, event in folder.events()]
    assert [event["step"] for event in found if event["type"] == "StepCompleted"] == [1, 4, 6]
    begin, end = len(b"".join(lines[:2])), len(b"".join(lines[:4]))
    assert [event["text"] for event in found if event["type"] == "Message"] == [
        f"Bytes {begin:,} to {end:,} of events.jsonl cannot be read and were skipped.",
        f"Bytes {len(b''.join(lines[:5])):,} to {len(b''.join(lines[:6])):,} of events.jsonl cannot be read and were "
        "skipped.",
    ]
    offsets = [offset for offset, _ in folder.events()]
    assert offsets == sorted(offsets) and offsets[-1] == folder.events_path.stat().st_size
    with RunWriter(folder) as write:
        write(Message("after"))
    assert [event["seq"] for _, event in folder.events()][-2:] == [8, 9]


def test_numbers_go_on_where_the_end_of_the_file_is_damaged(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with RunWriter(folder) as write:
        write(Message("one"))
    with folder.events_path.open("ab") as file:
        file.write(b"\x00" * 200_000 + b"\n" + b"garbage without an end")
    with RunWriter(folder) as write:
        write(Message("two"))
    assert [event["seq"] for _, event in folder.events() if "Bytes" not in event.get("text", "")] == [1, 2, 3, 4]


# ------------------------------------------------------------ exactly once
def numbered(*found: Event) -> list[dict[str, Any]]:
    return [{"seq": seq, "time": float(seq), **event.to_dict()} for seq, event in enumerate(found, 1)]


def resumed(step_number: int, seq: int | None) -> RunStarted:
    return RunStarted(**{**asdict(STARTED), "resumed_from_step": step_number, "resumed_from_seq": seq})


def test_what_a_resume_repeats_counts_once() -> None:
    first = [LogOpened(), STARTED, step(1), step(2), Evaluated(2, 0, 0.9, 0.1, 2, 9, 0.1), Message("lost"), step(3)]
    again = [resumed(2, 4), Evaluated(2, 0, 0.9, 0.1, 2, 9, 0.1), step(3), RunEnded("stopped", "", {})]
    last = [resumed(3, 10), step(4), RunEnded("complete", "", {})]
    kept = without_undone(numbered(*first, *again, *last))
    assert [event["step"] for event in kept if event["type"] == "StepCompleted"] == [1, 2, 3, 4]
    assert [event["seq"] for event in kept if event["type"] == "Evaluated"] == [9]
    assert [event["end"] for event in kept if event["type"] == "RunEnded"] == ["complete"]
    assert [event["text"] for event in kept if event["type"] == "Message"] == ["lost"]


def test_logs_of_earlier_versions_are_folded_by_the_step() -> None:
    kept = without_undone(numbered(STARTED, step(1), step(2), step(3), resumed(2, None), step(3)))
    assert [event["seq"] for event in kept if event["type"] == "StepCompleted"] == [2, 3, 6]
    assert without_undone(event for _, event in RunFolder(next(VERSION_1.glob("**/events.jsonl")).parent).events())


def test_the_page_shows_a_repeated_evaluation_once() -> None:
    state = RunState()
    evaluated = Evaluated(2, 0, 0.9, 0.1, 2, 9, 0.1)
    for event in numbered(STARTED, step(1), step(2), evaluated, resumed(2, 3), evaluated, step(3)):
        state.apply(event)
    assert [e.step for e in state.evaluations] == [2] and [p.step for p in state.curve.since(0, 10)] == [1, 2, 3]


# ------------------------------------------------------------ configuration, folder, record
@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe\x00",
        b"model: {name: \x00}",
        b"training: {seed: " + b"9" * 5000 + b"}",
        b"data: " + b"[" * 3000 + b"]" * 3000,
        b"output_dir: 2001-99-99",
        b"".join(b"a%d: &a%d [%s]\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 9) if i else b"1") for i in range(12)),
        b"model: &a [*a]",
        b'model: {name: "\\ud800"}',
        b"? {a: b}\n: c",
        b"[1, 2]",
        b"training: {num_epochs: .nan, seed: 1e400}",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_garbage_in_a_configuration_is_one_sentence(
    text: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_bytes(text)
    with pytest.raises(ConfigError):
        RunFolder(tmp_path).config()
    for arguments in ([str(tmp_path / "config.yaml")], ["--resume", str(tmp_path)]):
        assert geko_train(arguments) == 2
        assert capsys.readouterr().err.startswith("geko-train: ")


@given(SHARES, st.sampled_from([0.0, 0.02, 0.3]), PIECES)
def test_a_mutated_configuration_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, place: float, length: float, piece: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    path.write_bytes(damaged(RunConfig.demo().to_yaml().encode(), place, length, piece))
    try:
        RunConfig.from_yaml(path, on_renamed=lambda sentence: None)
    except ConfigError as error:
        assert all(text for _, text in error.problems)


def test_a_run_of_a_newer_version_is_listed_but_not_written(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    config = RunConfig.demo()
    config.output_dir = str(tmp_path)
    folder = store.create(config)
    assert json.loads((folder.path / "run.json").read_text(encoding="utf-8"))["format"] == 2
    replace_json(folder.path / "run.json", {"format": 3, "geko": "9.1"})
    mark_interrupted(folder, "gone")
    sentence = r"has format 3, written by GEKO 9\.1; this version writes up to 2: update GEKO"
    with pytest.raises(RunError, match=sentence), RunWriter(folder):
        pass
    with pytest.raises(RunError, match=sentence):
        Supervisor(store).resume(folder.id)
    assert geko_train(["--resume", str(folder.path)]) == 2
    assert store.ids() == [folder.id] and not folder.events_path.exists()


@pytest.mark.parametrize("content", [None, b"", b"\x00", b"[]", b'{"format": "2"}', b'{"format": 2}'])
def test_a_damaged_format_is_written_anew(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    with RunWriter(RunFolder(tmp_path)):
        pass
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["format"] == 2


def test_what_a_killed_writer_left_is_gone_after_the_next_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (folder.checkpoints_path / ".checkpoint-3.0a1b.removed").mkdir(parents=True)
    (folder.path / ".model.writing").mkdir()
    for name in (
        ".status.json.0a1b.tmp",
        "status.json.77.tmp",
        ".texts.parquet.writing",
        ".note.txt.9.tmp",
        ".tmpe4OLzK",
        "stop",
    ):
        (folder.path / name).touch()
    with RunWriter(folder):
        assert folder.stop_path.exists()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {
        ".lock",
        ".note.txt.9.tmp",
        "checkpoints",
        "events.jsonl",
        "run.json",
        "status.json",
    }  # the note is the page's


def test_a_run_that_a_killed_page_had_half_removed_is_gone_when_the_page_starts(tmp_path: Path) -> None:
    (tmp_path / ".deleted-20260101-000000-m-0a1b" / "checkpoints").mkdir(parents=True)
    assert RunStore(tmp_path).ids() == [] and list(tmp_path.iterdir()) == []


def sample_files(folder: RunFolder) -> Callable[[], Any]:
    return lambda: SampleStore(RunStore(folder.path.parent)).samples(folder.id)


@given(st.sampled_from(["samples", "history", "rows", "texts"]), SHARES, st.sampled_from([0.0, 0.1, 1.0]), PIECES)
def test_a_damaged_record_is_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, which: str, place: float, length: float, piece: bytes
) -> None:
    folder = recorded(tmp_path_factory.getbasetemp())
    file = next(path for path in folder.path.iterdir() if path.stem == which and path.suffix != ".json")
    before = file.read_bytes()
    try:
        file.write_bytes(damaged(before, place, length, piece))
        sample_files(folder)()
    except RunError as error:
        assert folder.id in str(error)
    finally:
        file.write_bytes(before)


def recorded(base: Path) -> RunFolder:
    """A run with a sample record: that of version 1's fixture, copied once."""
    source = next(VERSION_1.glob("**/texts.parquet")).parent
    target = base / "recorded" / "20260101-000000-m"
    if not target.exists():
        shutil.copytree(source, target)
    return RunFolder(target)


@given(SHARES, st.sampled_from([0.0, 0.05, 1.0]), PIECES)
@example(0.0, 1.0, b"{}")
@example(0.0, 1.0, b"[]")
@example(0.0, 1.0, b'{"files": 3}')
@example(0.5, 0.05, b"\xff\xfe")
def test_a_damaged_manifest_is_never_taken_for_a_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, place: float, length: float, piece: bytes
) -> None:
    from geko_engine.training.checkpoint_files import newest_whole, write_checkpoint

    folder = tmp_path_factory.getbasetemp() / "manifests"
    if not folder.exists():
        for number in (1, 2):
            path, facts = folder / f"checkpoint-{number}", {"format": 4, "step": number}
            write_checkpoint(path, lambda writing: (writing / "a").touch(), facts)
    path = folder / "checkpoint-2" / "manifest.json"
    before = path.read_bytes()
    path.write_bytes(damaged(before, place, length, piece))
    same = json_or_none(path.read_bytes()) == json.loads(before)
    try:
        found, problems = newest_whole(folder)
        assert found is not None and found.name == ("checkpoint-2" if same else "checkpoint-1")
        assert len(problems) == (0 if same else 1)
    finally:
        path.write_bytes(before)


def json_or_none(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
