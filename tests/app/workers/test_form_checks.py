"""What a form may name: damaged files, devices, walks over the disk and other folders end in a sentence at their field.

The mutants of natively parsed files are read by the page's own check worker, which must survive every one of them.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from geko_app import hardware
from geko_app.form.roots import AllowedRoots, model_cache
from geko_app.workers.form_checks import CHECK_COMMAND, MEMORY, FormChecks
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import RunError

NATIVE = (".parquet", ".arrow", ".zst")
TURNS = [{"role": "user", "content": "ü" * 9}, {"role": "assistant", "content": "b"}]
TABLE = pa.table(
    {
        "prompt": [f"question {i}" for i in range(40)],
        "completion": [None if i % 7 == 0 else "ü" * i for i in range(40)],
        "messages": [TURNS[: i % 3] for i in range(40)],
        "number": [i / 3 for i in range(40)],
        "kind": pa.array(["a", "b"] * 20).dictionary_encode(),
        "picture": [b"\xff"] * 40,
        "when": pa.array(range(40), pa.timestamp("ms")),
    }
)


def config(**values: str) -> RunConfig:
    """The demo with these settings; "__" stands for the dot."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        section, _, name = key.partition("__")
        if name:
            nested.setdefault(section, {})[name] = value
        else:
            nested[section] = value
    return RunConfig.from_dict(nested)


def arrow(opened: Callable[..., Any], **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with opened(sink, TABLE.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(TABLE)
    return bytes(sink.getvalue())


def as_parquet(**options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(TABLE, sink, **options)
    return bytes(sink.getvalue())


def packed(text: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(text)
    return bytes(sink.getvalue())


LINES = b"".join(json.dumps({"messages": TURNS, "n": i}).encode() + b"\n" for i in range(9))
WHOLE: dict[str, Callable[[], bytes]] = {
    ".parquet": as_parquet,
    "-plain.parquet": lambda: as_parquet(compression="none", use_dictionary=False),
    ".arrow": lambda: arrow(pa.ipc.new_file),
    "-stream.arrow": lambda: arrow(pa.ipc.new_stream),
    "-packed.arrow": lambda: arrow(pa.ipc.new_file, compression="zstd"),
    ".jsonl.zst": lambda: packed(LINES),
    ".jsonl.gz": lambda: gzip.compress(LINES, mtime=0),
    ".jsonl": lambda: LINES,
    ".json": lambda: json.dumps([{"messages": TURNS}] * 9).encode(),
    ".csv": lambda: b'prompt,completion\n"a, b",c\n' * 9,
}


def mutant(whole: bytes, chance: random.Random) -> bytes:
    """A file with a few bits flipped, bytes set, lengths made extreme, or pieces missing."""
    data = bytearray(whole)
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = chance.randrange(len(data))
        match chance.randrange(5):
            case 0:
                data[place] ^= 1 << chance.randrange(8)
            case 1:
                data[place] = chance.choice((0, 1, 127, 128, 255))
            case 2:
                data[place : place + 4] = chance.choice((b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\xff" * 4, b"\0" * 4))
            case 3:
                del data[place : place + chance.randrange(1, 40)]
            case _:
                del data[place + 1 :]
        data = data or bytearray(b"x")
    return bytes(data)


@pytest.mark.parametrize("kind", WHOLE)
def test_no_damaged_file_ends_the_process_that_reads_it(kind: str, tmp_path: Path) -> None:
    chance, whole = random.Random(kind), WHOLE[kind]()
    count = 250 if kind.endswith(NATIVE) else 60
    paths = [tmp_path / f"{number}{kind}" for number in range(count)]
    for path in paths:
        path.write_bytes(mutant(whole, chance))
    (tmp_path / f"whole{kind}").write_bytes(whole)
    asked = [config(data__train=str(path)).to_dict() for path in (*paths, tmp_path / f"whole{kind}")]
    command = [*CHECK_COMMAND, str(MEMORY), "60"]
    done = subprocess.run(
        command, input="\n".join(map(json.dumps, asked)), stdout=subprocess.PIPE, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, signal.Signals(-done.returncode)
    answers = [list(map(json.loads, lines.splitlines())) for lines in done.stdout.split("\n\n")[:-1]]
    assert len(answers) == count + 1
    found = [next(b["problem"] for a, b in pairwise(lines) if a == {"field": "data.train"}) for lines in answers]
    assert found[-1] == "" and 0 < sum(map(bool, found)) < count + 1
    for path, sentence in zip(paths, found[:-1], strict=True):
        assert not sentence or (str(path) in sentence and "\n" not in sentence and sentence.endswith(".")), sentence


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/stdin"])
@pytest.mark.parametrize(
    "field",
    ["model__name", "data__train", "data__eval", "data__row_flags", "data__replay", "training__resume_from_checkpoint"],
)
def test_a_device_is_refused_at_every_field(field: str, name: str) -> None:
    (problem,) = FormChecks()(config(**{field: name}))
    assert problem[0] == field.replace("__", ".")
    assert "is a device, not a file" in problem[1] or (name != "/dev/zero" and "not a file" in problem[1])


def test_the_root_of_the_disk_is_no_checkpoint_and_is_not_walked() -> None:
    assert FormChecks(seconds=20)(config(training__resume_from_checkpoint="/")) == [
        (
            "training.resume_from_checkpoint",
            "'/' is not a complete checkpoint. A checkpoint is a folder such as runs/<id>/checkpoints/checkpoint-1000.",
        )
    ]


def test_a_checkpoint_inside_of_a_run_is_named(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "checkpoint-7"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").touch()
    ((_, sentence),) = FormChecks()(config(training__resume_from_checkpoint=str(tmp_path)))
    assert sentence.endswith("It contains checkpoint-7: give one of them.")


def worker(code: str) -> tuple[str, ...]:
    """A check worker that says that it checks data.train, and then runs `code`."""
    return sys.executable, "-c", f"""import os, time; print('{{"field": "data.train"}}', flush=True); {code}"""


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("os.kill(os.getpid(), 11)", "ended the process that reads it (SIGSEGV): it is damaged or too large."),
        ("os._exit(3)", "ended with exit code 3, as the terminal of the page says"),
        ("time.sleep(600)", "took longer than 1 s"),
    ],
)
def test_a_file_that_ends_its_reader_is_named_at_its_field(code: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    (problem,) = FormChecks(command=worker(code), seconds=1)(config(data__train=str(path)))
    assert problem[0] == "data.train" and repr(str(path)) in problem[1] and sentence in problem[1]


def test_a_process_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    ((field, sentence),) = FormChecks(command=(str(tmp_path / "none"),))(config(data__train="a.jsonl"))
    assert field == "data.train" and "no process can be started (No such file or directory)" in sentence


def test_a_file_that_needs_too_much_memory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    with gzip.open(path, "wb", 1) as file:
        for _ in range(40):
            file.write(b" " * 10_000_000)
    ((field, sentence),) = FormChecks(memory=300_000_000)(config(data__train=str(path)))
    assert field == "data.train" and "needs more memory than a check may use (0.3 GB)" in sentence


def test_paths_lie_in_the_allowed_folders(tmp_path: Path) -> None:
    allowed, elsewhere = tmp_path / "allowed", tmp_path / "elsewhere"
    for folder in (allowed, elsewhere):
        folder.mkdir()
        (folder / "a.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    (allowed / "link.jsonl").symlink_to(elsewhere / "a.jsonl")
    roots = AllowedRoots.of([str(allowed)], runs=tmp_path / "runs", is_open=False)
    check = FormChecks(roots)
    inside = config(data__train=str(allowed / "a.jsonl"), output_dir=str(tmp_path / "runs"))
    assert check(inside) == []
    for name in (elsewhere / "a.jsonl", allowed / ".." / "elsewhere" / "a.jsonl", allowed / "link.jsonl"):
        problems = dict(check(config(data__train=str(name), output_dir=str(elsewhere))))
        assert set(problems) == {"data.train", "output_dir"}
        assert f"upload the file, or start geko-app with --root {str(elsewhere)!r}." in problems["data.train"]
    earlier = dict(check(config(data__replay=str(elsewhere), output_dir=str(tmp_path / "runs"))))
    assert "is not in a folder that this page may use" in earlier["data.replay"]
    absent = dict(check(config(data__train="/none/a.jsonl", output_dir=str(allowed))))
    assert "is not in a folder that this page may use" in absent["data.train"]  # whether it exists is not said


def test_names_that_are_no_paths_lie_nowhere(tmp_path: Path) -> None:
    roots = AllowedRoots.of([], runs=tmp_path, is_open=True)
    assert roots.problems(config(data__train="org/data", model__name="org/model", output_dir=str(tmp_path))) == []


def test_which_folders_are_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    runs = str(tmp_path / "runs")
    assert AllowedRoots.of([], runs=runs, is_open=False).folders is None
    assert AllowedRoots.of([], runs=runs, is_open=True).folders == (Path(runs), tmp_path / "cache")
    assert AllowedRoots.of([str(tmp_path)], runs=runs, is_open=False).folders == (
        Path(runs),
        tmp_path / "cache",
        tmp_path,
    )
    with pytest.raises(RunError, match="--root '/none' is no folder: give one that exists"):
        AllowedRoots.of(["/none"], runs=runs, is_open=True)


def test_the_model_cache_is_the_one_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    assert os.path.realpath(model_cache()) == os.path.realpath(HF_HUB_CACHE)


@pytest.mark.parametrize(
    ("gpu_ids", "count", "words"),
    [
        ("", 2, ""),
        ("all", 2, ""),
        ("0,1", 2, ""),
        ("3", 0, ""),  # what nvidia-smi does not list may be there
        ("0, 2", 2, "There is no GPU 2 here: runs of this page can use GPUs 0, 1."),
        ("4,5", 1, "There are no GPUs 4, 5 here: runs of this page can use GPU 0."),
    ],
)
def test_a_gpu_that_does_not_exist_is_refused_at_its_field(
    gpu_ids: str, count: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware, "_gpus", lambda: [hardware.Gpu("H100", 0)] * count)
    asked = RunConfig.demo()
    asked.training.gpu_ids = gpu_ids
    assert [found for found in FormChecks()(asked) if found[0] == "training.gpu_ids"] == (
        [("training.gpu_ids", words)] if words else []
    )
