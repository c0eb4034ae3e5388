"""The files of docs/several-gpus.md, as far as they can be run without a cluster: what each host would start."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.docs.blocks import ROOT, blocks_of

FILES = {block.title: block.text for block in blocks_of(ROOT / "docs" / "several-gpus.md") if block.title}
STAND_INS = {
    "scontrol": 'printf "%s\\n" node0 node1',
    "srun": 'shift; for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@"; done',
    "torchrun": 'echo "torchrun $*"',
}
HOST = "torchrun --nnodes 2 --node-rank {} --nproc-per-node 4 --master-addr node0 --master-port 29500 -m geko_engine"


def said(script: str, folder: Path, *arguments: str, **environment: str) -> list[str]:
    """The lines that bash prints for a script, with stand-ins for the commands of a cluster."""
    for name, body in STAND_INS.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    path = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", "-euo", "pipefail", "-c", script, "script", *arguments]
    return subprocess.run(
        command, env={**os.environ, **path, **environment}, capture_output=True, text=True, check=True
    ).stdout.splitlines()


@pytest.mark.parametrize("name", ["geko.sbatch", "job.sh"])
def test_the_scripts_have_no_error_of_syntax(name: str) -> None:
    subprocess.run(["bash", "-n"], input=FILES[name], text=True, check=True)


def test_slurm_starts_one_torchrun_a_host_which_differ_in_their_rank_alone(tmp_path: Path) -> None:
    slurm = {"SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "4", "SLURM_JOB_NODELIST": "node[0-1]"}
    lines = said(FILES["geko.sbatch"], tmp_path, "--resume", "runs/my run", **slurm)
    assert lines == [f"{HOST.format(rank)} --resume runs/my run" for rank in (0, 1)]


def test_skypilot_starts_the_same_line(tmp_path: Path) -> None:
    task = yaml.safe_load(FILES["geko.sky.yaml"])
    assert task["num_nodes"] == 2 and list(task["volumes"]) == ["/shared"]
    sky = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_GPUS_PER_NODE": "4"}
    lines = said(task["run"], tmp_path, SKYPILOT_NODE_IPS="node0\nnode1", **sky)
    assert lines == [f"{HOST.format(1)} /shared/run.yaml --set output_dir=/shared/runs"]
