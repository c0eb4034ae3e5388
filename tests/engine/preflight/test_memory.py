"""Running out of memory: the sentence for it, and smaller batches. The memory is really limited, in a child."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from geko_engine.training.step_size import batch_sizes

LIMITED = """
import resource, sys
import torch, transformers, accelerate, peft, datasets
from transformers import LlamaForCausalLM
from geko_engine.training import trainer
torch.set_num_threads(1)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = used + int(sys.argv.pop(1)) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from geko_engine.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_batches_halve_and_a_step_keeps_its_samples() -> None:
    assert list(batch_sizes(16, 1)) == [(16, 1), (8, 2), (4, 4), (2, 8), (1, 16)]
    assert list(batch_sizes(12, 2)) == [(12, 2), (6, 4), (3, 8), (1, 24)]
    assert list(batch_sizes(7, 1)) == [(7, 1), (1, 7)]
    for batch, steps in batch_sizes(30, 3):
        assert batch * steps == 90


def run_limited(tmp_path: Path, megabytes: int, *overrides: str) -> tuple[int, list[dict], str]:
    """A run whose child process may take so much more memory than it has after its imports."""
    tmp_path.mkdir()
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": f"{i} " + "word " * 300}) + "\n" for i in range(64)), encoding="utf-8")
    arguments = ["--demo", "--set", f"data.train={rows}", "--set", "data.eval=", "--set", "data.max_length=512"]
    for setting in ("training.batch_size=64", "training.num_epochs=1", f"output_dir={tmp_path / 'runs'}", *overrides):
        arguments += ["--set", setting]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(megabytes), *arguments], capture_output=True, text=True, check=False
    )
    folder = next((tmp_path / "runs").iterdir())
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    return done.returncode, events, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the limit is set relative to /proc")
def test_a_run_that_is_too_large_says_so_and_fits_by_itself_where_it_may(tmp_path: Path) -> None:
    assert resource.RLIMIT_AS
    code, events, errors = run_limited(tmp_path / "plain", 600)
    assert (code, events[-1]["field"]) == (1, "training.batch_size") and "Traceback" not in errors
    assert events[-1]["reason"].startswith("Memory ran out: halve the batch size")
    code, events, errors = run_limited(tmp_path / "auto", 600, "training.auto_find_batch_size=true")
    assert code == 0, errors
    texts = [event["text"] for event in events if event["type"] == "Message" and "Memory ran out" in event["text"]]
    assert texts and texts[0] == "Memory ran out: continuing with batch size 32 and 2 accumulation steps."
    steps = [event for event in events if event["type"] == "StepCompleted"]
    assert [step["step"] for step in steps] == [1] and steps[0]["samples"] == 64
