"""The look before a start: what it tells in which order, and its estimates against what they are estimates of."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from geko_engine.cli import main
from geko_engine.config.run_config import RunConfig
from geko_engine.models.loading import load_config_and_tokenizer, load_model_and_tokenizer
from geko_engine.preflight.memory_estimate import (
    UPDATES,
    WRITING,
    Footprint,
    Speed,
    _Counter,
    footprint,
    measure_speed,
    verdict,
)
from geko_engine.preflight.preview import histogram, inspect
from geko_engine.reporting.events import (
    DataChecked,
    DataIssuesFound,
    DataPreviewed,
    Event,
    Message,
    PhaseChanged,
    RunEnded,
    StepEstimated,
)
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder
from tests.engine.conftest import small_gpt2, small_llama
from tests.engine.quality.test_label_issues import TOPICS, questions


def look(config: RunConfig) -> list[Event]:
    events: list[Event] = []
    inspect(config, events.append, lambda: False)
    return events


def of(events: list[Event], kind: type) -> Any:
    found = [event for event in events if isinstance(event, kind)]
    return found[0] if len(found) == 1 else found


@pytest.fixture
def config(model_folder: Path, data_file: Path) -> RunConfig:
    return RunConfig.from_dict({"model": {"name": str(model_folder)}, "data": {"train": str(data_file)}})


def test_a_look_tells_the_first_rows_at_once_then_all_then_memory_and_time(config: RunConfig) -> None:
    events = look(config)
    kinds = [type(event) for event in events if not isinstance(event, PhaseChanged)]
    assert kinds == [DataPreviewed, DataChecked, StepEstimated, Message, DataIssuesFound, RunEnded]
    assert of(events, Message).text.startswith("At most 6 optimizer steps of 32 samples each")
    preview, data, step = of(events, DataPreviewed), of(events, DataChecked), of(events, StepEstimated)
    assert preview.samples[0] == [("say yes\n", False), ("yes", True), ("<eos>", True)] and len(preview.samples) == 20
    assert (data.rows, data.samples) == (64, 64) and sum(count for _, count in data.lengths) == 64
    assert [f["kind"] for f in data.findings] == ["duplicate"]
    assert step.verdict == "fits" and step.steps == 3 * 2 and step.seconds > 0
    assert step.needed >= sum(step.parts[name] for name in ("weights", "optimizer", "activations"))
    assert of(events, RunEnded).end == "complete"


def test_the_texts_are_checked_before_the_start(config: RunConfig, tmp_path: Path) -> None:
    """Wrong labels, conflicts and leaks by row number, and what the label check says about itself."""
    prompts, answers = questions(120)
    right = answers[7]
    answers[7] = next(topic for topic in TOPICS if topic != right)
    rows = [{"prompt": p, "completion": a} for p, a in zip(prompts, answers, strict=True)]
    files = {"train": [*rows, {**rows[3], "completion": "none of these"}], "eval": [rows[20]]}
    for name, part in files.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)), encoding="utf-8")
        setattr(config.data, name, str(tmp_path / f"{name}.jsonl"))
    found = {f["kind"]: f for f in of(look(config), DataIssuesFound).findings}
    assert found["likely_mislabeled"]["rows"] == [8] and "expected precision" in found["likely_mislabeled"]["sentence"]
    assert found["conflict"]["rows"] == [4, 121] and found["leak"]["rows"] == [21]
    assert found["labels"]["sentence"].startswith("Labels checked in 120 rows with 4 different answers")


def test_a_look_that_fails_names_the_field(config: RunConfig, tmp_path: Path) -> None:
    config.data.max_length = 4
    end = of(look(config), RunEnded)
    assert (end.end, end.field) == ("failed", "data.max_length") and "beyond max_length = 4" in end.reason
    config.data.max_length = 64
    config.lora.enabled, config.lora.target_modules = True, ["nothing"]
    end = of(look(config), RunEnded)
    assert (end.end, end.field) == ("failed", "lora.target_modules") and "no layers named nothing" in end.reason


def test_one_problem_before_anything_is_loaded_names_its_field_once(config: RunConfig) -> None:
    config.data.train = "nowhere.csv"
    end = of(look(config), RunEnded)
    assert (end.end, end.field) == ("failed", "data.train") and end.reason.startswith("There is no file 'nowhere.csv'")


def test_a_look_can_be_stopped(config: RunConfig) -> None:
    events: list[Event] = []
    assert inspect(config, events.append, lambda: True) == "stopped"
    assert of(events, RunEnded).end == "stopped"


def test_the_command_line_shows_it_and_leaves_no_run(
    config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert main([str(path), "--check"]) == 0
    shown = capsys.readouterr().err
    assert "⟦yes⟧⟦<eos>⟧" in shown and "it fits" in shown and "64 samples from 64 rows" in shown
    assert not (tmp_path / "runs").exists()
    (tmp_path / "empty.jsonl").write_text(json.dumps({"text": ""}), encoding="utf-8")
    assert main([str(path), "--check", "--set", f"data.train={tmp_path / 'empty.jsonl'}"]) == 1
    assert "data.train: The only row has nothing to learn: every text is empty." in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU pages, and trains in fp16")
@pytest.mark.parametrize(
    ("training", "field", "sentence"),
    [
        ({"optim": "paged_adamw_8bit"}, "training.optim", "there is no GPU here: choose adamw_8bit"),
        ({"optim": "paged_adamw_32bit"}, "training.optim", "there is no GPU here: choose adamw_torch_fused"),
        ({"fp16": True}, "training.fp16", "fp16 needs a GPU"),
    ],
)
def test_what_this_machine_cannot_do_is_refused_before_anything_is_read(
    config: RunConfig, tmp_path: Path, training: dict[str, Any], field: str, sentence: str
) -> None:
    asked = RunConfig.from_dict(config.to_dict() | {"training": training, "output_dir": str(tmp_path / "runs")})
    events = look(asked)
    assert of(events, RunEnded).field == field and sentence in of(events, RunEnded).reason
    assert not of(events, PhaseChanged)
    seen: list[Event] = []
    assert run(RunFolder.create(asked), on_event=seen.append)["end"] == "failed"
    assert "downloading" not in [event.phase for event in seen if isinstance(event, PhaseChanged)]


def test_lengths_fall_into_bins_of_whole_tokens() -> None:
    assert histogram(np.array([1, 2, 2, 5])) == [(1, 1), (2, 2), (3, 0), (4, 0), (5, 1)]
    bins = histogram(np.arange(1, 101))
    assert sum(count for _, count in bins) == 100 and bins[0] == (5, 5) and bins[-1][0] >= 100


# ---------------------------------------------------------------- the footprint


@pytest.mark.parametrize("make", [small_llama, small_gpt2])
def test_parameters_and_flops_are_the_models_own(make: Any) -> None:
    model = make()
    found = footprint(RunConfig(), model.config, 4, 20, 40)
    total = sum(p.numel() for p in model.parameters())
    assert (found.parameters, found.trainable, found.weights) == (total, total, 4 * total)
    assert (found.gradients, found.optimizer) == (4 * total, 8 * total)
    logits, gradients = 40 * model.config.vocab_size, 40 * 32 + model.config.vocab_size * 32
    assert found.logits == 4 * (logits + gradients)
    ids = torch.zeros(4, 20, dtype=torch.long)
    with FlopCounterMode(display=False) as real, torch.no_grad():
        model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    left_out = 2 * (80 - 40) * model.config.vocab_size * 32  # the head sees target rows only
    assert found.flops == real.get_total_flops() - left_out


def test_activations_are_what_autograd_keeps(tokenizer: Any) -> None:
    """Against a real forward pass on real tensors."""
    model = small_llama()
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.zeros(4, 20, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    found = footprint(RunConfig(), model.config, 4, 20, 80)
    assert found.activations == pytest.approx(sum(saved.values()), rel=0.05)


def test_the_switches_save_what_they_say() -> None:
    model_config = small_llama().config

    def needs(**training: Any) -> Footprint:
        return footprint(RunConfig.from_dict({"training": training}), model_config, 8, 64, 500)

    plain = needs()
    anew = needs(gradient_checkpointing=True)
    assert anew.activations < 0.8 * plain.activations and anew.recomputed and not plain.recomputed
    # In the end the layer that is computed anew meets the gradients of all others.
    assert anew.peak > anew.weights + anew.optimizer + anew.gradients + anew.recomputed
    assert needs(use_8bit_optimizer=True).optimizer < 0.3 * plain.optimizer
    assert needs(bf16=True).activations < plain.activations
    assert needs(gradient_accumulation_steps=2).peak > plain.peak
    lora = footprint(RunConfig.from_dict({"lora": {"enabled": True, "r": 2}}), model_config, 8, 64, 500)
    assert lora.trainable == 2 * 2 * 2 * (32 + 32) and lora.weights > plain.weights
    assert lora.gradients + lora.optimizer == 12 * lora.trainable
    quantised = RunConfig.from_dict({"lora": {"enabled": True, "r": 2}, "model": {"quantization": "4bit"}})
    assert footprint(quantised, model_config, 8, 64, 500).weights < lora.weights / 2


def test_the_verdict_names_the_way_out_that_helps_most() -> None:
    values = {"parameters": 10, "trainable": 10, "flops": 1, "written": 1, "operations": 1, "tokens": 1}
    heavy = Footprint(
        weights=4 * 10**9, gradients=4 * 10**9, optimizer=8 * 10**9, activations=10**8, logits=0,
        accumulates=False, recomputed=0, **values,
    )  # fmt: skip
    word, sentence = verdict(heavy, 40 * 10**9)
    assert word == "fits" and sentence.endswith("and 40.0 GB are free: it fits.")
    word, sentence = verdict(heavy, 18 * 10**9)
    assert word == "tight" and "it is tight" in sentence
    word, sentence = verdict(heavy, 8 * 10**9)
    assert word == "too much" and "switch on LoRA" in sentence and "batch" not in sentence
    shared = replace(heavy, layers=20).shared_out(4)  # a quarter of all, and two layers whole
    assert (shared.weights, shared.gradients, shared.optimizer) == (14 * 10**8, 14 * 10**8, 2 * 10**9)
    assert verdict(shared, 8 * 10**9)[0] == "fits" and heavy.shared_out(2).weights == heavy.weights
    long = Footprint(
        weights=10**8, gradients=10**8, optimizer=10**8, activations=9 * 10**9, logits=0,
        accumulates=False, recomputed=0, **values,
    )  # fmt: skip
    assert "halve the batch size" in verdict(long, 10**9)[1] and "gradient checkpointing" in verdict(long, 10**9)[1]


def test_time_grows_with_tokens_steps_and_recomputing() -> None:
    model_config, speed = small_llama().config, Speed(1e9, 1e9, 1e-6)
    plain = footprint(RunConfig(), model_config, 4, 20, 40)
    assert plain.seconds(2000, 10, speed) > plain.seconds(1000, 10, speed) > plain.seconds(1000, 5, speed)
    again = footprint(RunConfig.from_dict({"training": {"gradient_checkpointing": True}}), model_config, 4, 20, 40)
    assert again.seconds(1000, 10, speed) > 1.2 * plain.seconds(1000, 10, speed)
    here = measure_speed(32, torch.float32)
    assert here.flops_per_second > 0 and here.written_per_second > 0 and here.operation_seconds > 0


def test_the_time_of_what_is_no_product_is_that_of_the_bytes_it_writes() -> None:
    square = torch.ones(8, 8)
    with _Counter() as counter:
        (square @ square.view(4, 16).view(8, 8).t()).exp_()
        torch.nn.functional.silu(square)
        square.view(2, 4, 8) @ square  # its result gets its shape by a view
    assert counter.written == 2 * 8 * 8 * 4  # in place or not; products and views write nothing of the kind
    only_writing = Speed(math.inf, 1.0, 0.0)
    plain = footprint(RunConfig(), small_llama().config, 4, 20, 40)
    passes = 3 * plain.written * 2  # twice as many tokens as were counted, forward and twice as much backward
    assert plain.seconds(160, 1, only_writing) == pytest.approx(WRITING * (passes + UPDATES * plain.gradients))
    lora = footprint(RunConfig.from_dict({"lora": {"enabled": True, "r": 2}}), small_llama().config, 4, 20, 40)
    assert lora.seconds(80, 1, only_writing) - lora.seconds(80, 0, only_writing) == pytest.approx(
        WRITING * UPDATES * lora.gradients
    )


@pytest.mark.parametrize(("asked", "threads"), [(None, 1), ("2", 2)])
def test_the_speed_is_measured_with_the_threads_of_the_run(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch, asked: str | None, threads: int
) -> None:
    used: list[int] = []

    def measured(hidden_size: int, dtype: torch.dtype) -> Speed:
        used.append(torch.get_num_threads())
        return Speed(1e9, 1e9, 1e-6)

    monkeypatch.setattr("geko_engine.preflight.preview.measure_speed", measured)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        look(config)
        assert used == [threads] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_model_is_opened_without_its_weights(config: RunConfig, model_folder: Path) -> None:
    (model_folder / "model.safetensors").unlink()
    settings, opened = load_config_and_tokenizer(config.model)
    assert settings.model_type == "llama" and opened.pad_token == "<pad>"
    with pytest.raises(Exception, match="no weights"):
        load_model_and_tokenizer(config.model)
