"""geko-train as a user types it: real processes, real small models, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.numpy import load_file

from geko_engine.data.formats import PromptCompletion
from geko_engine.data.sources import load_rows
from geko_engine.data.tokenization import tokenise

TRAIN = [sys.executable, "-m", "geko_engine"]


def geko_train(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*TRAIN, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def write_config(folder: Path, model: Path, data: Path, **training: Any) -> Path:
    config = {
        "model": {"name": str(model)},
        "data": {"train": str(data), "eval": str(data), "eval_count": 16},
        "training": {"num_epochs": 3, "batch_size": 8, "learning_rate": 5e-3, **training},
        "output_dir": str(folder / "runs"),
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def only_run(folder: Path) -> Path:
    (run,) = (folder / "runs").iterdir()
    return run


def read_events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_run_from_a_yaml_file_leaves_folder_report_and_model(
    tmp_path: Path, model_folder: Path, data_file: Path
) -> None:
    done = geko_train(
        str(write_config(tmp_path, model_folder, data_file)), "--set", "training.num_epochs=2", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path)
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert {p.name for p in run.iterdir()} >= {"config.yaml", "events.jsonl", "status.json", "checkpoints", "model"}
    assert (report["end"], report["samples"], report["epochs"], report["steps"]) == ("complete", 64, 2, 16)
    assert report["eval_loss_after"] < report["eval_loss_before"]
    cost = report["backward_cost"]
    spent = report["tokens_forwarded"] + cost * report["tokens_backwarded"]
    assert report["compute_saved_ratio"] == pytest.approx(1 - spent / ((1 + cost) * report["plain_training_tokens"]))
    for words in ("Compute saved", "Exact match", "Partition before epoch 2", "GEKO Training"):
        assert words in done.stderr
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(run / "model")
    assert AutoTokenizer.from_pretrained(run / "model").decode([1]) == "<eos>"


def test_the_report_equals_what_the_record_adds_up_to(tmp_path: Path, model_folder: Path, data_file: Path) -> None:
    config = write_config(tmp_path, model_folder, data_file, num_epochs=8, learning_rate=1e-2)
    options = (
        "--set",
        "geko.initial_scan=true",
        "--set",
        "geko.freeze_confidence=0.4",
        "--set",
        "geko.recheck_ratio=0.5",
        "--set",
        "geko.min_known_share=0",
    )
    assert geko_train(str(config), *options, cwd=tmp_path).returncode == 0
    run = only_run(tmp_path)
    report, record = (
        json.loads((run / "report.json").read_text(encoding="utf-8")),
        load_file(run / "samples.safetensors"),
    )
    from transformers import AutoTokenizer

    from geko_engine.config.run_config import RunConfig

    rows = load_rows(RunConfig.from_yaml(run / "config.yaml").data)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    lengths = tokenise(rows, PromptCompletion("prompt", "completion"), tokenizer, 128).lengths
    assert report["tokens_backwarded"] == int((record["seen"] * lengths).sum())
    assert report["tokens_scanned"] == int((record["checked"] * lengths).sum()) > 0
    assert report["tokens_forwarded"] == report["tokens_backwarded"] + report["tokens_scanned"]
    assert report["compute_saved_ratio"] > 0


def run_until(arguments: list[str], cwd: Path, ready: Callable[[dict[str, Any]], bool], number: int) -> int:
    """Start a run, send signal `number` at the first event that is `ready`, and return the exit code."""
    process = subprocess.Popen([*TRAIN, *arguments], cwd=cwd, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:  # the console prints at once what the events tell
        if ready({"line": line}):
            process.send_signal(number)
            break
    process.stderr.read()
    return process.wait(timeout=120)


@pytest.mark.slow
def test_ctrl_c_saves_and_resume_ends_in_the_same_weights(tmp_path: Path, model_folder: Path, data_file: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    assert geko_train(str(write_config(whole, model_folder, data_file, num_epochs=40)), cwd=tmp_path).returncode == 0
    config = write_config(tmp_path, model_folder, data_file, num_epochs=40)
    code = run_until([str(config)], tmp_path, lambda e: "Epoch 3 plans" in e["line"], signal.SIGINT)
    run = only_run(tmp_path)
    assert code == 130 and json.loads((run / "report.json").read_text(encoding="utf-8"))["end"] == "stopped"
    resumed = geko_train("--resume", str(run), cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    expected, found = (load_file(p / "model" / "model.safetensors") for p in (only_run(whole), run))
    assert all((expected[name] == found[name]).all() for name in expected)
    assert [e["seq"] for e in read_events(run)] == list(range(1, len(read_events(run)) + 1))


@pytest.mark.slow
def test_kill_9_and_resume_ends_in_the_same_weights_and_loss_curve(
    tmp_path: Path, model_folder: Path, data_file: Path
) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    settings = {"num_epochs": 40, "save_steps": 10}
    assert geko_train(str(write_config(whole, model_folder, data_file, **settings)), cwd=tmp_path).returncode == 0
    config = write_config(tmp_path, model_folder, data_file, **settings)
    code = run_until([str(config)], tmp_path, lambda e: "checkpoint-30" in e["line"], signal.SIGKILL)
    run = only_run(tmp_path)
    assert code == -signal.SIGKILL and not (run / "report.json").exists()
    assert geko_train("--resume", str(run), cwd=tmp_path).returncode == 0

    def curve(folder: Path) -> dict[int, float]:
        return {e["step"]: e["loss"] for e in read_events(folder) if e["type"] == "StepCompleted"}

    assert curve(run) == curve(only_run(whole))
    expected, found = (load_file(p / "model" / "model.safetensors") for p in (only_run(whole), run))
    assert all((expected[name] == found[name]).all() for name in expected)


BAD_INPUT = {
    "no such model": (["--set", "model.name=./nowhere"], "model.name: There is no folder './nowhere'"),
    "empty model": (["--set", "model.name="], "model.name: No model is given"),
    "no such data": (["--set", "data.train=none.csv"], "data.train: There is no file 'none.csv'"),
    "epochs 0": (["--set", "training.num_epochs=0"], "training.num_epochs: 0 is out of range: give at least 1"),
    "samples 0": (["--set", "data.sample_count=0"], "data.sample_count: 0 is out of range: give at least 1"),
    "negative samples": (["--set", "data.sample_count=-5"], "data.sample_count: -5 is out of range"),
    "rate": (["--set", "training.learning_rate=fast"], "training.learning_rate: 'fast' is not a number"),
    "typo": (["--set", "training.num_epoch=1"], "Did you mean 'num_epochs'?"),
    "folder": (["--set", "output_dir=/proc/runs"], "output_dir: The folder '/proc' cannot be written"),
    "no equals": (["--set", "training.num_epochs"], "has no '='"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_named_and_nothing_is_started(name: str, tmp_path: Path) -> None:
    options, sentence = BAD_INPUT[name]
    done = geko_train("--demo", *options, cwd=tmp_path)
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_bad_calls_are_named(tmp_path: Path, model_folder: Path) -> None:
    for arguments, sentence in (
        ([], "Give a YAML file, --demo or --resume RUN, or --set alone"),
        (["none.yaml"], "cannot be read"),
        (["--resume", "nowhere"], "There is no run in 'nowhere'"),
        (["--demo", "--resume", "x"], "Give a YAML file, --demo or --resume RUN"),
    ):
        done = geko_train(*arguments, cwd=tmp_path)
        assert done.returncode == 2 and sentence in done.stderr


def test_a_model_that_cannot_be_loaded_ends_as_failed_with_its_reason(
    tmp_path: Path, model_folder: Path, data_file: Path
) -> None:
    (model_folder / "model.safetensors").write_bytes(b"not a model")
    done = geko_train(str(write_config(tmp_path, model_folder, data_file)), cwd=tmp_path)
    report = json.loads((only_run(tmp_path) / "report.json").read_text(encoding="utf-8"))
    assert done.returncode == 1 and report["end"] == "failed" and "damaged or cut off" in report["reason"]
    assert "Traceback" not in done.stderr


def test_show_config_prints_what_would_run(tmp_path: Path) -> None:
    done = geko_train("--demo", "--set", "geko.freeze_confidence=0.9", "--show-config", cwd=tmp_path)
    assert yaml.safe_load(done.stdout)["geko"]["freeze_confidence"] == 0.9 and list(tmp_path.iterdir()) == []


def test_show_config_alone_prints_the_defaults(tmp_path: Path) -> None:
    done = geko_train("--show-config", cwd=tmp_path)
    assert done.returncode == 0 and yaml.safe_load(done.stdout)["training"]["num_epochs"] == 3


@pytest.mark.slow
def test_the_demo_saves_compute_and_learns(tmp_path: Path) -> None:
    """A fifth of the demo: the figures that the whole one shows have the same signs."""
    done = geko_train("--demo", "--set", "data.sample_count=2000", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((only_run(tmp_path) / "report.json").read_text(encoding="utf-8"))
    assert report["compute_saved_ratio"] > 0.1 and report["eval_loss_after"] < report["eval_loss_before"]
    assert report["exact_match_after"] > report["exact_match_before"]
    first = report["buckets"][1]
    known = first["freeze"] + first["unseen"]  # mastered, or left out as its look-alikes are answered right
    assert 0.3 < known / report["samples"] < 0.8
    assert all(a["freeze"] != b["freeze"] for a, b in zip(report["buckets"][1:], report["buckets"][2:], strict=False))
