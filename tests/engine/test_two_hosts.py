"""One run on two hosts, started by torchrun: the same as one process, and what comes of a host that goes away."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from geko_engine.config.run_config import RunConfig
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from tests.engine.hosts import Hosts, two_hosts
from tests.engine.test_cli import only_run, write_config

pytestmark = pytest.mark.slow


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if sys.platform != "linux" or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux and iproute2")
    try:
        with two_hosts() as made:
            yield made
    except OSError as refused:
        pytest.skip(f"this system does not allow network namespaces ({refused})")


def outputs(processes: tuple[subprocess.Popen[str], ...]) -> list[str]:
    return [process.communicate(timeout=300)[1] for process in processes]


def until(process: subprocess.Popen[str], words: str) -> None:
    """Read what a process says, up to `words`."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if words in line:
            return
    raise AssertionError(said)


def kill_host(torchrun: subprocess.Popen[str]) -> None:
    """kill -9 for torchrun and its worker."""
    launcher = psutil.Process(torchrun.pid)
    for process in [launcher, *launcher.children(recursive=True)]:
        process.kill()


def test_two_hosts_train_as_one_process_does_and_resume_after_a_kill_of_either(
    hosts: Hosts, tmp_path: Path, model_folder: Path, data_file: Path
) -> None:
    settings: dict[str, Any] = {"num_epochs": 12, "save_steps": 5}
    first, second = hosts.begin(
        str(write_config(tmp_path, model_folder, data_file, **settings, batch_size=4)), cwd=tmp_path
    )
    until(first, "checkpoint-5")
    kill_host(second)
    said, _ = outputs((first, second))
    folder = RunFolder(only_run(tmp_path))
    report = folder.report() or {}
    assert first.returncode == 1 and report["end"] == "failed", said
    assert report["reason"].startswith("Another process of this run, or its host, is gone") and report["reason"] in said
    assert "Traceback (most recent call last):\n  File" not in said.partition(report["reason"])[0]

    first, second = hosts.begin("--resume", str(folder.path), cwd=tmp_path)
    until(first, "checkpoint-25")
    kill_host(first)
    _, said = outputs((first, second))
    assert second.returncode == 1 and f"again with --resume {folder.path}" in said

    first, second = hosts.begin("--resume", str(folder.path), cwd=tmp_path)
    said, of_second = outputs((first, second))
    assert (first.returncode, second.returncode) == (0, 0), said + of_second
    assert "2 processes" in said and "[GEKO]" not in of_second  # the second one is silent
    (tmp_path / "whole").mkdir()
    whole = RunFolder.create(RunConfig.from_yaml(write_config(tmp_path / "whole", model_folder, data_file, **settings)))
    assert run(whole)["end"] == "complete"
    expected, found = (load_file(one.model_path / "model.safetensors") for one in (whole, folder))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-4, err_msg=name)
    expected, found = (load_file(one.samples_path) for one in (whole, folder))
    for name in ("bucket", "seen", "checked"):
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_hosts_that_do_not_share_the_run_folder_say_so_and_leave_none_behind(
    hosts: Hosts, tmp_path: Path, model_folder: Path, data_file: Path
) -> None:
    (tmp_path / "runs").mkdir()
    config = write_config(tmp_path, model_folder, data_file)
    both = hosts.begin(str(config), cwd=tmp_path, hidden=tmp_path / "runs")
    for said in outputs(both):
        assert (
            "Process 1 on " in said
            and "is not there, or is another one. Every host must see the same output_dir" in said
        )
    assert [process.returncode for process in both] == [1, 1]  # of torchrun, whatever its worker ends with
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_host_without_the_data_ends_the_others_too(
    hosts: Hosts, tmp_path: Path, model_folder: Path, data_file: Path
) -> None:
    (tmp_path / "data").mkdir()
    config = write_config(tmp_path, model_folder, data_file.rename(tmp_path / "data" / "rows.jsonl"))
    for said in outputs(hosts.begin(str(config), cwd=tmp_path, hidden=tmp_path / "data")):
        assert "Process 1 on " in said and "rows.jsonl" in said and "same output_dir, model and data" in said
    assert list((tmp_path / "runs").iterdir()) == []
