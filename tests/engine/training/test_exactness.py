"""Nothing is approximate that can be exact: against other loops, and across a stop, a kill and two processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file
from torch import nn

from geko_engine import GEKOConfig, GEKOTrainer
from geko_engine.data.batches import Collator
from geko_engine.exceptions import CheckpointError
from geko_engine.reporting.events import StepCompleted
from geko_engine.scoring.chunked_loss import PLAIN, loss_of_hidden
from geko_engine.selection.epoch_plan import plan_epoch
from geko_engine.selection.sample_records import SampleStates
from geko_engine.training.schedule import learning_rate_at, warmup_share
from tests.engine.conftest import small_gpt2, small_llama
from tests.engine.training.test_trainer import OFF, assert_same_weights, sum_data, trainer_for, weights

LORA = LoraConfig(
    r=4, lora_alpha=8, lora_dropout=0.1, target_modules=["c_attn"], task_type="CAUSAL_LM", fan_in_fan_out=True
)
CLOCKS = {"seconds", "train_seconds", "scan_seconds", "plain_train_seconds", "seconds_saved_ratio", "model_path"}


def plain_order(count: int, epochs: int, lengths: Any) -> list[list[int]]:
    """The ids of each step of plain training, which the loops below follow."""
    steps = []
    for epoch in range(epochs):
        plan = plan_epoch(
            SampleStates(count), lengths, OFF, epoch=epoch, seed=42, step_size=8, longest_first=epoch == 0
        )
        steps += [plan.ids(index).tolist() for index in range(plan.steps)]
    return steps


def test_switched_off_it_equals_a_plain_loop_bit_by_bit(tmp_path: Path) -> None:
    """A loop of ten lines that knows no trainer: same order, same loss of the head, torch's AdamW."""
    losses: list[float] = []
    trainer = trainer_for(
        tmp_path, config=OFF, on_event=lambda e: losses.append(e.loss) if isinstance(e, StepCompleted) else None
    )
    trainer.train()

    model, data, reference = small_llama(), sum_data(), []
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, fused=True)
    model.train()
    order = plain_order(48, 3, data.lengths)
    for step, ids in enumerate(order):
        batch = Collator(0)([data[i] for i in ids])
        kept = batch["labels"][:, 1:] != -100
        hidden = model.model(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state[:, :-1][kept]
        target, equal = batch["labels"][:, 1:][kept], torch.ones(int(kept.sum()))
        loss = loss_of_hidden(hidden, model.lm_head, PLAIN, target, equal).objective * (1 / len(target))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step / len(order), 5e-3, warmup_share(2, len(order)))
        optimizer.step()
        optimizer.zero_grad()
        reference.append(float(loss.detach()))
    assert losses == pytest.approx(reference, rel=1e-6)
    assert_same_weights(weights(trainer), dict(model.named_parameters()))


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], Callable[[], nn.Module], Any]] = {
    # name: (args, config, model, lora)
    "dropout and LoRA": ({}, {}, lambda: small_gpt2(dropout=0.1), LORA),
    "bf16": ({"bf16": True}, {}, lambda: small_gpt2(dropout=0.1), None),
    "8-bit optimizer": ({"use_8bit_optimizer": True}, {}, small_llama, None),
    "LoRA with accumulation": (
        {"batch_size": 2, "gradient_accumulation_steps": 4},
        {},
        lambda: small_gpt2(dropout=0.1),
        LORA,
    ),
    "scan and re-check": ({}, {"initial_scan": True, "recheck_ratio": 0.5}, small_llama, None),
    "two loader workers": ({"dataloader_num_workers": 2}, {}, lambda: small_gpt2(dropout=0.1), None),
    "gradient checkpointing": ({"gradient_checkpointing": True}, {}, lambda: small_gpt2(dropout=0.1), None),
    "padding-free, by tokens": (
        {"padding_free": "on", "max_tokens_per_batch": 70},
        {"initial_scan": True},
        lambda: small_gpt2(dropout=0.1),
        LORA,
    ),
    "curriculum and pruning": ({}, {"use_curriculum": True, "prune_frozen_after": 1}, small_llama, None),
    "relative mastery": ({}, {"mastery": "below_mean_loss"}, small_llama, None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_stopped_anywhere_and_resumed_it_ends_as_if_unbroken(tmp_path: Path, name: str) -> None:
    """At several of the questions whether to stop: inside evaluations, scans, accumulated steps, between epochs."""
    args, rule, model, lora = CASES[name]
    config = GEKOConfig(**({"freeze_confidence": 0.3, "min_q_for_freeze": 0.5} | rule))
    steps: dict[str, dict[int, float]] = {}

    def fresh(where: str, **options: Any) -> GEKOTrainer:
        def note(event: Any) -> None:
            if isinstance(event, StepCompleted):
                steps.setdefault(where.split("-")[0], {})[event.step] = event.loss

        options = {"args": {"eval_steps": 4, "learning_rate": 1e-2} | args, "on_event": note} | options
        return trainer_for(
            tmp_path / where, model(), config, eval_dataset=sum_data(16, seed=9), lora_config=lora, **options
        )

    asked = iter(range(10**9))
    unbroken = fresh("whole", should_stop=lambda: next(asked) < 0)
    expected = unbroken.train()
    questions = next(asked)
    for stop_at in range(1, questions, max(1, questions // 4)):
        where, again = f"parts-{stop_at}", iter(range(10**9))
        stopped = fresh(where, should_stop=lambda at=stop_at, again=again: next(again) >= at).train()
        assert stopped["end"] == "stopped"
        (checkpoint,) = (tmp_path / where / "out").glob("checkpoint-*")
        torch.manual_seed(987)  # whatever happened in between must not matter
        resumed = fresh(where)
        resumed.load_checkpoint(checkpoint)
        final = resumed.train()
        assert_same_weights(weights(unbroken), weights(resumed))
        for field, array in unbroken.states.arrays.items():
            np.testing.assert_array_equal(array, resumed.states.arrays[field], err_msg=f"{field} after {stop_at}")
        for field, array in unbroken.history.arrays.items():
            np.testing.assert_array_equal(array, resumed.history.arrays[field], err_msg=f"{field} after {stop_at}")
        assert unbroken.history.steps.tolist() == resumed.history.steps.tolist()
        assert {k: v for k, v in final.items() if k not in CLOCKS} == {
            k: v for k, v in expected.items() if k not in CLOCKS
        }
        assert steps["parts"] == steps["whole"]  # the loss curve too


def geko_train(*arguments: str, cwd: Path, processes: int = 1) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)] if processes > 1 else []
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "geko_engine", *arguments],
        cwd=cwd,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finished(process: subprocess.Popen[str]) -> str:
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert "kernels-community" not in said  # of bitsandbytes, which nothing here uses
    return said


def only_run(folder: Path) -> Path:
    (run,) = (folder / "runs").iterdir()
    return run


def curve(run: Path) -> dict[int, tuple[float, ...]]:
    """(loss, buckets) by step; the last word on a step counts."""
    events = [json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    names = ("loss", "freeze", "light", "focus", "hard", "tokens_forwarded")
    return {e["step"]: tuple(e[n] for n in names) for e in events if e["type"] == "StepCompleted"}


SHORT_DEMO = (
    "--demo",
    "--set",
    "data.sample_count=400",
    "--set",
    "data.eval_count=50",
    "--set",
    "training.num_epochs=3",
)


@pytest.mark.slow
def test_killed_with_9_in_the_middle_and_resumed_it_ends_in_the_same_model(tmp_path: Path) -> None:
    often = (*SHORT_DEMO, "--set", "training.save_steps=7")
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    finished(geko_train(*often, cwd=tmp_path / "whole"))
    process = geko_train(*often, cwd=tmp_path / "killed")
    assert process.stderr is not None
    saved = 0
    for line in process.stderr:  # killed as soon as it says that it writes the fourth checkpoint: amid the next steps
        saved += "Checkpoint saved" in line
        if saved == 4:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    whole, killed = only_run(tmp_path / "whole"), only_run(tmp_path / "killed")
    assert not (killed / "report.json").exists()
    finished(geko_train("--resume", str(killed), cwd=tmp_path))
    assert curve(whole) == curve(killed)
    for name in ("model/model.safetensors", "samples.safetensors"):
        a, b = load_file(whole / name), load_file(killed / name)
        assert all(torch.equal(a[key], b[key]) for key in a) and set(a) == set(b)
    a, b = (load_file(run / "history.safetensors") for run in (whole, killed))
    for key in a:
        np.testing.assert_array_equal(a[key].numpy(), b[key].numpy(), err_msg=key)


@pytest.mark.slow
def test_two_processes_train_as_one_does_with_the_same_whole_batch(tmp_path: Path) -> None:
    scan = (*SHORT_DEMO, "--set", "geko.initial_scan=true", "--set", "training.save_steps=20")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    finished(geko_train(*scan, cwd=tmp_path / "one"))
    said = finished(geko_train(*scan, "--set", "training.batch_size=8", cwd=tmp_path / "two", processes=2))
    assert said.count("GEKO Training") == 1 and "2 processes" in said  # the second one is silent
    one, two = curve(only_run(tmp_path / "one")), curve(only_run(tmp_path / "two"))
    assert one.keys() == two.keys()
    for step, values in one.items():
        assert two[step][0] == pytest.approx(values[0], abs=2e-3) and two[step][1:] == values[1:], step
    reports = [json.loads((only_run(tmp_path / name) / "report.json").read_text("utf-8")) for name in ("one", "two")]
    same = ("steps", "tokens_forwarded", "tokens_backwarded", "tokens_scanned", "buckets", "final_buckets")
    assert [reports[0][key] for key in same] == [reports[1][key] for key in same]


def test_an_adapter_of_another_base_model_is_refused(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, small_gpt2(), lora_config=LORA, args={"num_epochs": 1})
    trainer.train()
    trainer.save_checkpoint(tmp_path / "c")
    other = small_gpt2()
    with torch.no_grad():
        other.transformer.wte.weight.add_(1.0)
    with pytest.raises(CheckpointError, match="frozen_weights is"):
        trainer_for(tmp_path, other, lora_config=LORA, args={"num_epochs": 1}).load_checkpoint(tmp_path / "c")
