"""Several processes started by the settings alone: what the first one decides, and what comes of a kill."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from geko_engine import launch
from geko_engine.cli import _open, build_parser, main
from geko_engine.config.run_config import RunConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.exceptions import ConfigError, RunError
from geko_engine.launch import Peers, visible_names
from geko_engine.processes import join_processes, start_processes
from geko_engine.reporting.events import Event, Message
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from tests.engine.test_cli import only_run, write_config

SECRET = "hf_secret_of_mine"
TRAIN = (sys.executable, "-m", "geko_engine")


def begin(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_TOKEN": SECRET, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*TRAIN, *arguments], cwd=cwd, env=environment, stderr=subprocess.PIPE, text=True)


def peer_when(process: subprocess.Popen[str], words: str) -> psutil.Process:
    """The second process of a run, once the first one has printed `words`."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if words in line:
            (peer,) = (p for p in psutil.Process(process.pid).children() if "geko_engine.peer" in p.cmdline())
            return peer
    raise AssertionError("".join(said))


@pytest.mark.slow
def test_shards_survive_kill_9_of_either_process_and_end_as_one_process_does(
    tmp_path: Path, model_folder: Path, data_file: Path
) -> None:
    settings: dict[str, Any] = {"num_epochs": 12, "save_steps": 5}
    shared = settings | {"batch_size": 4, "num_processes": 2, "fsdp": "full_shard"}
    first = begin(str(write_config(tmp_path, model_folder, data_file, **shared)), cwd=tmp_path)
    peer = peer_when(first, "checkpoint-5")
    assert "HF_TOKEN" not in peer.environ() and SECRET not in " ".join(peer.cmdline())
    peer.kill()
    said = first.communicate()[1]
    folder = RunFolder(only_run(tmp_path))
    report = folder.report() or {}
    assert first.returncode == 1 and report["end"] == "failed", said
    assert report["reason"] == "Process 1 of the run ended unexpectedly (exit code -9)." and report["reason"] in said

    first = begin("--resume", str(folder.path), cwd=tmp_path)
    peer = peer_when(first, "checkpoint-25")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    psutil.wait_procs([peer], timeout=60)
    assert not peer.is_running()

    options = build_parser().parse_args(["--resume", str(folder.path), "--set", "training.num_processes=1"])
    assert _open(options)[1].training.num_processes == folder.config().training.num_processes == 1
    events: list[Event] = []
    assert run(folder, on_event=events.append, resume=True)["end"] == "complete"
    texts = [event.text for event in events if isinstance(event, Message)]
    assert any("Continuing in 1 process with batch size 4 and 2 accumulation steps" in text for text in texts)
    (tmp_path / "whole").mkdir()
    whole = RunFolder.create(RunConfig.from_yaml(write_config(tmp_path / "whole", model_folder, data_file, **settings)))
    assert run(whole)["end"] == "complete"
    expected, found = (load_file(one.model_path / "model.safetensors") for one in (whole, folder))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-4, err_msg=name)
    expected, found = (load_file(one.samples_path) for one in (whole, folder))
    for name in ("bucket", "seen", "checked"):
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    assert SECRET not in "".join(f.read_text("utf-8", "replace") for f in folder.path.rglob("*") if f.is_file())


PEER = """
import json, os, sys, time
token = sys.stdin.readline().strip()
print("read", len(token), "as", os.environ["RANK"], "of", os.environ["WORLD_SIZE"], "HF_TOKEN" in os.environ, flush=True)
if os.environ["RANK"] == "2":
    print("GEKO-FAILED " + json.dumps(["The GPU has no room.", "training.batch_size"]), flush=True)
    sys.exit(1)
sys.stdin.read()
"""


def test_the_first_process_hears_why_a_peer_failed_and_takes_the_others_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "COMMAND", (sys.executable, "-c", PEER))
    monkeypatch.setattr(launch, "PATIENCE", 0.0)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    lost: queue.Queue[tuple[str, str]] = queue.Queue()
    before = dict(os.environ)
    others = {child.pid for child in psutil.Process().children()}  # of other tests, such as a browser's driver
    with Peers(tmp_path, lambda *why: lost.put(why)) as peers:
        assert peers.failure() is None  # there are none
        peers.start(3, ["1", "0", "2"], resume=False)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,0,2" and os.environ["WORLD_SIZE"] == "3"
        assert peers.failure(60) == lost.get(timeout=60) == ("The GPU has no room.", "training.batch_size")
        running = [child for child in psutil.Process().children() if child.pid not in others]
    assert running and not any(process.is_running() for process in running)
    assert dict(os.environ) == before
    said = capfd.readouterr().err
    assert f"read {len(SECRET)} as 1 of 3 False" in said and f"read {len(SECRET)} as 2 of 3 False" in said


def test_settings_of_processes_that_do_not_fit_together_arevisible_names() -> None:
    for values, sentence in (
        ({"gpu_ids": "first"}, "'first' is no list of GPUs: give their numbers, such as 0,1, or all"),
        ({"gpu_ids": "0,0"}, "names a GPU twice"),
        ({"gpu_ids": "0,1", "num_processes": 3}, "gpu_ids names 2, and this is 3"),
        ({"fsdp": "full_shard", "fp16": True}, "fsdp has no loss scaling"),
        (
            {"fsdp": "full_shard", "optim": "adafactor"},
            "adafactor cannot be shared out: choose adamw_torch_fused or sgd",
        ),
        ({"fsdp": "full_shard", "compile_model": True}, "not tested together"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            GEKOTrainingArgs(**values)
    quantized = {"model": {"quantization": "4bit"}, "lora": {"enabled": True}, "training": {"fsdp": "full_shard"}}
    with pytest.raises(ConfigError, match="Quantized weights cannot be shared out"):
        RunConfig.from_dict(quantized)
    several = RunConfig.from_dict({"training": {"gpu_ids": "all", "num_processes": 2, "auto_find_batch_size": True}})
    assert [sentence.partition(",")[0] for sentence in several.without_effect()] == [
        "training.num_processes has no effect",
        "training.auto_find_batch_size has no effect in a run of several processes.",
    ]


def test_gpus_are_numbered_among_those_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert GEKOTrainingArgs(gpu_ids="0, 2").process_count(lambda: 8) == 2
    assert GEKOTrainingArgs(gpu_ids="all").process_count(lambda: 8) == 8
    assert GEKOTrainingArgs(gpu_ids="all").process_count(lambda: 0) == 1
    assert GEKOTrainingArgs(num_processes=3).process_count(lambda: 8) == 3
    assert visible_names(["0", "2"]) == ["0", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,GPU-8f")
    assert visible_names(["0", "2"]) == ["4", "GPU-8f"]


def test_what_a_launcher_started_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Event] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    with Peers(tmp_path, lambda *why: None) as peers:
        for count in (1, 2, 4):
            start_processes(GEKOTrainingArgs(num_processes=count), said.append, peers, resume=False)
    assert [str(event) for event in said] == [
        str(Message("The settings ask for 4 processes, but the launcher started 2: going on with these.", "warning"))
    ]


def test_a_gpu_that_is_not_here_isvisible_names() -> None:
    with pytest.raises(RunError, match="gpu_ids is '7', and none of them can be used here"):
        join_processes(GEKOTrainingArgs(gpu_ids="7"))


def test_only_settings_of_processes_may_change_at_a_resume(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig.from_dict({"output_dir": str(tmp_path)}))
    assert main(["--resume", str(folder.path), "--set", "training.seed=1"]) == 2
    folder.change_config({"training.num_processes": 2})
    assert folder.config().training.num_processes == 2
    with pytest.raises(ConfigError, match="at least 1"):
        folder.change_config({"training.num_processes": 0})
