"""The centre: plain fine-tuning when GEKO is off, real skipping when it is on, counting, stop and resume."""

from __future__ import annotations

import math
import multiprocessing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from geko_engine import GEKOConfig, GEKOTrainer, GEKOTrainingArgs
from geko_engine.data.batches import Collator, TokenizedData
from geko_engine.data.formats import PromptCompletion
from geko_engine.data.tokenization import tokenise
from geko_engine.exceptions import CheckpointError, ConfigError, RunError
from geko_engine.reporting.events import (
    EpochEnded,
    Evaluated,
    Message,
    Partitioned,
    PhaseChanged,
    RunStarted,
    StepCompleted,
)
from geko_engine.scoring.own_loss import probe
from geko_engine.selection.epoch_plan import plan_epoch
from geko_engine.selection.sample_records import SampleStates
from geko_engine.training.optimizer import build_optimizer
from geko_engine.training.schedule import learning_rate_at, warmup_share
from tests.engine.conftest import character_tokenizer, small_gpt2, small_llama, sum_rows

OFF = GEKOConfig(enabled=False)


def sum_data(count: int = 48, seed: int = 0) -> TokenizedData:
    return tokenise(sum_rows(count, seed), PromptCompletion("prompt", "completion"), character_tokenizer(), 64)


def trainer_for(
    tmp_path: Path, model: nn.Module | None = None, config: GEKOConfig | None = None, **options: Any
) -> GEKOTrainer:
    settings = {
        "num_epochs": 3,
        "batch_size": 8,
        "learning_rate": 5e-3,
        "warmup_steps": 2,
        "save_steps": 0,
        "eval_steps": 0,
    }
    args = GEKOTrainingArgs(output_dir=str(tmp_path / "out"), **(settings | options.pop("args", {})))
    data = options.pop("data", None)
    return GEKOTrainer(
        model or small_llama(),
        data if data is not None else sum_data(),
        character_tokenizer(),
        config=config,
        args=args,
        **options,
    )


def weights(trainer: GEKOTrainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def assert_same_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name]), name


class TokenHook:
    """An independent counter: real tokens that the model's first module was given, split by gradient or not; and
    `reached`, those whose embedding a gradient came back to."""

    def __init__(self, model: Any) -> None:
        self.trained = self.looked = self.reached = 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)
        model.get_input_embeddings().register_forward_hook(self._follow)

    def _follow(self, _module: nn.Module, _args: Any, embedded: torch.Tensor) -> None:
        if embedded.requires_grad:
            embedded.register_hook(self._back)

    def _back(self, gradient: torch.Tensor) -> None:
        self.reached += int((gradient != 0).any(-1).sum())

    def _count(self, _module: nn.Module, _args: Any, kwargs: dict[str, torch.Tensor]) -> None:
        tokens = int(kwargs["attention_mask"].sum())
        if torch.is_grad_enabled():
            self.trained += tokens
        else:
            self.looked += tokens


def test_switched_off_it_is_plain_training_step_by_step(tmp_path: Path) -> None:
    """Against a loop that shares only the order of the samples: own forward, transformers' own loss, torch's AdamW."""
    losses: list[float] = []
    trainer = trainer_for(
        tmp_path, config=OFF, on_event=lambda e: losses.append(e.loss) if isinstance(e, StepCompleted) else None
    )
    trainer.train()

    model, data, reference = small_llama(), sum_data(), []
    model.train()
    optimizer, step, total = build_optimizer(model, trainer.args), 0, 18
    for epoch in range(3):
        plan = plan_epoch(
            SampleStates(48), data.lengths, OFF, epoch=epoch, seed=42, step_size=8, longest_first=epoch == 0
        )
        for index in range(plan.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step / total, 5e-3, warmup_share(2, total))
            loss = model(**Collator(0)([data[int(i)] for i in plan.ids(index)])).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            reference.append(loss.item())
            step += 1
    assert losses == pytest.approx(reference, abs=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(weights(trainer)[name], parameter, atol=2e-5, rtol=1e-4)


def test_accumulated_batches_are_normalised_by_all_their_targets(tmp_path: Path) -> None:
    whole = trainer_for(tmp_path, config=OFF, args={"batch_size": 8, "num_epochs": 1})
    parts = trainer_for(tmp_path, config=OFF, args={"batch_size": 2, "gradient_accumulation_steps": 4, "num_epochs": 1})
    whole.train(), parts.train()
    assert whole.progress.step == parts.progress.step == 6
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(tensor, weights(parts)[name], atol=1e-5, rtol=1e-4)


def test_an_epoch_with_frozen_samples_forwards_exactly_that_many_fewer(tmp_path: Path) -> None:
    config = GEKOConfig(frozen_replay=0.0, noise_guard=False, min_known_share=0.0)
    trainer = trainer_for(tmp_path, config=config, args={"num_epochs": 2, "learning_rate": 1e-9})
    hook, data = TokenHook(trainer.model), sum_data()
    frozen = np.arange(20)

    def freeze_some(event: Any) -> None:
        if isinstance(event, StepCompleted) and event.step == 6:  # the end of the first pass
            trainer.states.record(
                frozen,
                np.full(20, 0.01),
                np.full(20, 0.99),
                np.ones(20, bool),
                np.full(20, 0.99),
                step=6,
                config=GEKOConfig(frozen_replay=0.0, min_q_for_freeze=0.0),
            )

    trainer.listeners = [freeze_some]
    trainer.config.min_q_for_freeze = 0.0
    report = trainer.train()
    total, skipped = int(data.lengths.sum()), int(data.lengths[:20].sum())
    assert hook.trained == 2 * total - skipped == report["tokens_forwarded"] == report["tokens_backwarded"]
    assert report["plain_training_tokens"] == 2 * total
    assert report["compute_saved_ratio"] == pytest.approx(skipped / (2 * total))
    assert [entry["planned"] for entry in report["buckets"]] == [48, 28]


def test_counts_agree_with_a_hook_on_the_model_and_with_the_record(tmp_path: Path) -> None:
    """Scans, re-checks and replays included; evaluation left out."""
    config = GEKOConfig(
        initial_scan=True,
        recheck_ratio=0.5,
        frozen_replay=0.25,
        freeze_confidence=0.3,
        min_q_for_freeze=0.5,
        min_known_share=0.0,
    )
    trainer = trainer_for(
        tmp_path, config=config, eval_dataset=sum_data(16, seed=9), args={"num_epochs": 10, "learning_rate": 1e-2}
    )
    hook = TokenHook(trainer.model)
    report = trainer.train()
    lengths, states = sum_data().lengths, trainer.states
    evaluated = len(trainer.progress.evaluations) * int(sum_data(16, seed=9).lengths.sum())
    compared = 2 * sum(len(sample["input_ids"]) for sample in probe(trainer.samples))  # the model's own loss with ours
    assert report["final_buckets"]["freeze"] > 0 and report["compute_saved_ratio"] > 0
    assert hook.trained == report["tokens_backwarded"] == int((states.seen * lengths).sum())
    assert hook.reached == report["tokens_backwarded"] - int(states.seen.sum())  # nothing follows a sample's last token
    assert hook.looked - evaluated - compared == report["tokens_scanned"] == int((states.checked * lengths).sum())
    assert report["tokens_forwarded"] == report["tokens_backwarded"] + report["tokens_scanned"]
    cost = report["backward_cost"]
    spent = report["tokens_forwarded"] + cost * report["tokens_backwarded"]
    assert report["compute_saved_ratio"] == pytest.approx(1 - spent / ((1 + cost) * report["plain_training_tokens"]))


def test_events_tell_the_run_in_order(tmp_path: Path) -> None:
    events: list[Any] = []
    report = trainer_for(tmp_path, eval_dataset=sum_data(16, seed=9), on_event=events.append).train()
    kinds = [type(e) for e in events if isinstance(e, RunStarted | Evaluated | Partitioned | StepCompleted)]
    assert kinds == [RunStarted, Evaluated, *([Partitioned, *[StepCompleted] * 6, Evaluated] * 3)]
    steps = [e for e in events if isinstance(e, StepCompleted)]
    assert [e.step for e in steps] == list(range(1, 19)) and steps[-1].steps_planned == 18
    assert [e.progress for e in steps] == sorted(e.progress for e in steps) and steps[-1].progress == 1.0
    assert steps[5].compute_saved_ratio == pytest.approx(0, abs=1e-4)
    assert report["eval_loss_after"] < report["eval_loss_before"] and report["end"] == "complete"


@pytest.mark.parametrize(
    ("stop_at", "args"),
    [
        (3, {}),
        (6, {}),
        (7, {}),
        (40, {"batch_size": 2, "gradient_accumulation_steps": 4}),
        (11, {"dataloader_num_workers": 2}),
    ],
)
def test_stop_anywhere_and_resume_ends_in_the_same_weights_and_record(tmp_path: Path, stop_at: int, args: dict) -> None:
    """With dropout, replay and evaluation; stop_at counts how often the stop flag was asked for."""
    config, evaluation = GEKOConfig(freeze_confidence=0.3, min_q_for_freeze=0.5), sum_data(16, seed=9)
    before = set(multiprocessing.active_children())

    def fresh(where: str, **options: Any) -> GEKOTrainer:
        return trainer_for(
            tmp_path / where, small_gpt2(dropout=0.1), config, eval_dataset=evaluation, args=args, **options
        )

    unbroken = fresh("whole")
    expected = unbroken.train()
    asked = iter(range(10**9))
    stopped = fresh("parts", should_stop=lambda: next(asked) >= stop_at)
    report = stopped.train()
    assert report["end"] == "stopped" and stopped.progress.step < unbroken.progress.step
    (checkpoint,) = (tmp_path / "parts" / "out").glob("checkpoint-*")
    torch.manual_seed(987)  # whatever happened in between must not matter
    resumed = fresh("parts")
    resumed.load_checkpoint(checkpoint)
    final = resumed.train()
    assert_same_weights(weights(unbroken), weights(resumed))
    for name, array in unbroken.states.arrays.items():
        np.testing.assert_array_equal(array, resumed.states.arrays[name], err_msg=name)
    clocks = {name for name in final if "seconds" in name}
    assert {k: v for k, v in final.items() if k not in clocks} == {k: v for k, v in expected.items() if k not in clocks}
    assert not set(multiprocessing.active_children()) - before, "a trainer that has ended keeps no loader process"


def test_a_checkpoint_of_other_data_is_refused_with_the_difference(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, args={"num_epochs": 1})
    trainer.train()
    trainer.save_checkpoint(tmp_path / "c")
    with pytest.raises(CheckpointError, match="samples is 40 here and 48 there"):
        trainer_for(tmp_path, data=sum_data(40), args={"num_epochs": 1}).load_checkpoint(tmp_path / "c")
    with pytest.raises(CheckpointError, match="data_fingerprint"):
        trainer_for(tmp_path, data=sum_data(48, seed=5), args={"num_epochs": 1}).load_checkpoint(tmp_path / "c")
    with pytest.raises(CheckpointError, match="parameters is"):
        trainer_for(tmp_path, small_llama(num_hidden_layers=1), args={"num_epochs": 1}).load_checkpoint(tmp_path / "c")


def test_all_mastered_ends_the_run_early_and_says_so(tmp_path: Path) -> None:
    rows = [{"prompt": "say yes", "completion": "yes"}] * 64
    data = tokenise(rows, PromptCompletion("prompt", "completion"), character_tokenizer(), 64)
    trainer = trainer_for(tmp_path, data=data, args={"num_epochs": 30, "learning_rate": 2e-2})
    report = trainer.train()
    assert report["epochs_done"] < 30 and "mastered after" in report["reason"] and report["end"] == "complete"
    assert report["compute_saved_ratio"] > 0.3 and trainer.get_frozen_samples() == list(range(64))


def test_where_nothing_freezes_it_says_so_after_the_first_pass(tmp_path: Path) -> None:
    said: list[Message] = []
    ended: list[EpochEnded] = []
    trainer = trainer_for(tmp_path, args={"learning_rate": 1e-9})
    for kind, events in ((Message, said), (EpochEnded, ended)):
        trainer.listeners.append(lambda e, kind=kind, events=events: events.append(e) if isinstance(e, kind) else None)
    report = trainer.train()
    told = [message for message in said if "Nothing is mastered so far" in message.text]
    assert [message.level for message in told] == ["warning", "info"]  # a warning once
    assert len(ended) == 3 and all(event.criterion.startswith("Nothing is mastered") for event in ended)
    assert report["criterion"] == ended[-1].criterion


def test_the_curriculum_changes_weights_and_rate(tmp_path: Path) -> None:
    steps: list[StepCompleted] = []
    trainer_for(
        tmp_path,
        config=GEKOConfig.seed(),
        args={"num_epochs": 6, "warmup_steps": 0},
        on_event=lambda e: steps.append(e) if isinstance(e, StepCompleted) else None,
    ).train()
    assert {e.phase for e in steps} == {"warmup", "ascent", "peak", "descent", "consolidate"}
    first = steps[0]
    assert first.learning_rate == pytest.approx(0.5 * 5e-3)


def test_datasets_of_dicts_without_labels_and_plain_modules_will_do(tmp_path: Path) -> None:
    class Unigram(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Parameter(torch.zeros(80))

        def forward(self, input_ids: torch.Tensor) -> Any:
            from types import SimpleNamespace

            return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, 80))

    data = [{"input_ids": [5, 6, 5, 6]}, {"input_ids": torch.tensor([5, 6])}] * 8
    trainer = GEKOTrainer(
        Unigram(),
        data,
        args=GEKOTrainingArgs(output_dir=str(tmp_path), num_epochs=2, batch_size=4, learning_rate=0.1, warmup_steps=0),
    )
    report = trainer.train()
    assert report["train_loss"] < math.log(80) and report["steps"] == 8
    trainer.save_model(tmp_path / "m")
    assert (tmp_path / "m" / "model.safetensors").exists()


def test_an_empty_dataset_and_a_wrong_item_are_type_errors(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="is empty"):
        trainer_for(tmp_path, data=[])
    with pytest.raises(TypeError, match="input_ids"):
        trainer_for(tmp_path, data=[{"text": "x"}])


class Poisoned(torch.nn.Module):
    """Turns the gradient (or the logits) of the forward passes in `at` to nothing finite; counts them from 1."""

    def __init__(self, inner: torch.nn.Module, at: set[int], *, logits: bool) -> None:
        super().__init__()
        self.inner, self.at, self.logits, self.calls = inner, at, logits, 0

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        outputs = self.inner(input_ids=input_ids, attention_mask=attention_mask)
        self.calls += self.training
        if self.training and self.calls in self.at:
            if self.logits:
                outputs.logits[0] = float("nan")
            else:
                outputs.logits.register_hook(lambda gradient: gradient * float("inf"))
        return outputs


@pytest.mark.parametrize("logits", [True, False], ids=["loss", "gradient"])
@pytest.mark.parametrize("clip", [1.0, 0.0])
def test_a_step_without_a_finite_gradient_is_skipped_and_its_samples_are_named(
    tmp_path: Path, logits: bool, clip: float
) -> None:
    said: list[str] = []
    model = Poisoned(small_llama(), {2, 4}, logits=logits)
    trainer = trainer_for(
        tmp_path,
        model,
        args={"num_epochs": 1, "max_grad_norm": clip},
        on_event=lambda e: said.append(e.text) if isinstance(e, Message) and e.level == "warning" else None,
    )
    report = trainer.train()
    assert report["end"] == "complete" and report["steps"] == 6
    named = [text for text in said if "is not finite, so its update was skipped" in text]
    assert [("step 2 " in text, "step 4 " in text) for text in named] == [(True, False), (False, True)]
    assert ("loss" if logits else "gradient") in named[0] and "row" in named[0]
    assert all(torch.isfinite(p).all() for p in model.parameters()) and np.isfinite(report["train_loss"])
    assert all(np.isfinite(trainer.states.loss)) and int(trainer.states.seen.sum()) == (46 if logits else 48)


def test_three_such_steps_in_a_row_end_the_run_and_the_checkpoint_before_stays(tmp_path: Path) -> None:
    model = Poisoned(small_llama(), {3, 4, 5}, logits=True)
    with pytest.raises(RunError, match=r"3rd such step in a row. Lower the learning rate") as caught:
        trainer_for(tmp_path, model, args={"save_steps": 2}).train()
    assert caught.value.field == "training.learning_rate"
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"checkpoint-2", "checkpoint-4"}
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path)
    with torch.no_grad():
        trainer.model.lm_head.weight[0, 0] = float("inf")
    for save in (trainer.save_model, trainer.save_checkpoint):
        with pytest.raises(RunError, match="weight is not finite"):
            save(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_resume_with_other_settings_says_which(tmp_path: Path) -> None:
    said: list[str] = []
    trainer_for(tmp_path).save_checkpoint(tmp_path / "c")
    trainer_for(
        tmp_path, args={"weight_decay": 0.5}, on_event=lambda e: said.append(getattr(e, "text", ""))
    ).load_checkpoint(tmp_path / "c")
    assert [text for text in said if "training.weight_decay is 0.5 (was 0.01)" in text]


def test_mixed_precision_and_gradient_checkpointing_train(tmp_path: Path) -> None:
    report = trainer_for(tmp_path, args={"bf16": True, "gradient_checkpointing": True, "num_epochs": 2}).train()
    assert report["steps"] == 12 and report["train_loss"] < 4
    plain = trainer_for(tmp_path, args={"num_epochs": 1})  # the precision of the last trainer does not stick
    assert plain.engine.precision == "no"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can do fp16")
def test_fp16_without_a_gpu_is_refused_with_the_reason(tmp_path: Path) -> None:
    from geko_engine.exceptions import ConfigError

    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        trainer_for(tmp_path, args={"fp16": True})


def test_a_model_that_comes_in_evaluation_mode_is_trained_with_its_dropout(tmp_path: Path) -> None:
    modes: list[bool] = []
    model = small_gpt2(dropout=0.1).eval()
    model.register_forward_hook(lambda module, *_: modes.append(module.training))
    trainer_for(tmp_path, model, args={"num_epochs": 1}).train()
    assert modes == [True] * (6 + 2)  # with the two that compare the model's own loss


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_model_meets_few_shapes_and_trains_as_well(tmp_path: Path) -> None:
    import torch._dynamo.utils as dynamo

    torch._dynamo.reset()
    plain = trainer_for(tmp_path, args={"num_epochs": 2}, data=sum_data(64)).train()
    dynamo.counters.clear()
    compiled = trainer_for(tmp_path, args={"num_epochs": 2, "compile_model": True}, data=sum_data(64))
    report = compiled.train()
    assert report["train_loss"] == pytest.approx(plain["train_loss"], abs=1e-3)
    assert dynamo.counters["stats"]["unique_graphs"] <= 4  # not one for each length or number of targets
    batch = compiled.engine.collate([sum_data()[0]])
    assert batch["input_ids"].shape[1] % 64 == 0 and int(batch["attention_mask"].sum()) == sum_data().lengths[0]


def test_without_a_compiler_it_says_so_and_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    said: list[str] = []
    trainer = trainer_for(
        tmp_path,
        args={"compile_model": True, "num_epochs": 1},
        on_event=lambda e: said.append(e.text) if isinstance(e, Message) else None,
    )
    assert trainer.train()["steps"] == 6
    assert any("torch.compile needs" in text and "training without it" in text for text in said)


def test_pruned_samples_are_counted_survive_a_checkpoint_and_can_be_lifted(tmp_path: Path) -> None:
    config = GEKOConfig(freeze_confidence=0.3, min_q_for_freeze=0.5, prune_frozen_after=1, pruned_replay=0.0)
    said: list[str] = []
    trainer = trainer_for(
        tmp_path,
        config=config,
        args={"num_epochs": 12, "learning_rate": 1e-2},
        on_event=lambda e: said.append(e.text) if isinstance(e, Message) else None,
    )
    report = trainer.train()
    pruned = trainer.get_pruned_count()
    assert 0 < pruned == report["pruned"] <= len(trainer.get_frozen_samples())
    assert any("never scored again" in text for text in said)
    trainer.save_checkpoint(tmp_path / "c")
    again = trainer_for(tmp_path, config=config, args={"num_epochs": 12, "learning_rate": 1e-2})
    again.load_checkpoint(tmp_path / "c")
    assert again.get_pruned_count() == pruned
    again.states.lift_pruning()
    assert again.get_pruned_count() == 0 and len(again.get_frozen_samples()) >= pruned


def test_relative_mastery_skips_long_answers_and_ends_with_a_whole_pass(tmp_path: Path) -> None:
    events: list[Any] = []
    config = GEKOConfig(mastery="below_mean_loss", frozen_replay=0.5, noise_guard=False)
    report = trainer_for(tmp_path, config=config, args={"num_epochs": 4}, on_event=events.append).train()
    planned = [entry["planned"] for entry in report["buckets"]]
    assert planned[0] == planned[3] == 48 and planned[1] < 48 and planned[2] < 48
    assert report["compute_saved_ratio"] > 0 and report["mastery"] == "below_mean_loss"
    (started,) = (e for e in events if isinstance(e, RunStarted))
    assert "below the mean" in started.mastery_reason


class Items:
    """A dataset of tokenised items with more than input_ids and labels."""

    def __init__(self, **more: Any) -> None:
        self.items = [{**sum_data()[index], **more} for index in range(8)]
        for item in self.items:
            item["position_ids"] = np.arange(len(item["input_ids"]))[::-1]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.items[index]


def test_what_the_model_takes_for_each_token_is_passed_on_to_it(tmp_path: Path) -> None:
    given: list[dict[str, Any]] = []
    model = small_llama()
    model.register_forward_pre_hook(lambda module, args, kwargs: given.append(kwargs), with_kwargs=True)
    events: list[Any] = []
    trainer_for(tmp_path, model, OFF, data=Items(text="four"), on_event=events.append, args={"num_epochs": 1}).train()
    for inputs in given:
        lengths = inputs["attention_mask"].sum(1).tolist()
        for length, positions in zip(lengths, inputs["position_ids"].tolist(), strict=True):
            assert positions[:length] == list(range(length))[::-1] and set(positions[length:]) <= {0}
    assert given and "Keys of the dataset that are not read: text." in [getattr(e, "text", "") for e in events]


def test_a_key_that_does_not_fit_the_tokens_is_refused(tmp_path: Path) -> None:
    data = Items()
    data.items[3]["position_ids"] = [0]
    with pytest.raises(TypeError, match=r"'position_ids' .*one value for each of the \d+ tokens, but item 3 has 1"):
        trainer_for(tmp_path, data=data)


def test_noise_is_added_to_the_embeddings_in_training_only(tmp_path: Path) -> None:
    model, events = small_llama(), []
    widths: dict[bool, list[float]] = {True: [], False: []}

    def note(module: Any, args: Any, made: torch.Tensor) -> None:
        added = made - torch.nn.functional.embedding(args[0], module.weight)
        widths[module.training].append(float(added.detach().abs().max() * (made.shape[1] * made.shape[2]) ** 0.5))

    trainer = trainer_for(
        tmp_path,
        model,
        OFF,
        eval_dataset=sum_data(8, seed=1),
        args={"neftune_noise_alpha": 5.0, "num_epochs": 1},
        on_event=events.append,
    )
    model.get_input_embeddings().register_forward_hook(note)
    trainer.train()
    assert (
        all(4.5 < width <= 5.001 for width in widths[True]) and len(widths[True]) == 6 + 2
    )  # with those that compare losses
    assert set(widths[False]) == {0.0}
    assert trainer.info.options["optim"] == "adamw_torch_fused"


def test_the_gradient_norm_of_every_step_is_in_its_event(tmp_path: Path) -> None:
    seen: list[float | None] = []
    trainer = trainer_for(
        tmp_path,
        config=OFF,
        args={"num_epochs": 1, "max_grad_norm": 0.0},
        on_event=lambda e: seen.append(e.grad_norm) if isinstance(e, StepCompleted) else None,
    )
    norms: list[float] = []
    step = trainer.engine.optimizer.step

    def watched(*args: Any, **kwargs: Any) -> Any:
        norms.append(float(torch.cat([p.grad.flatten() for p in trainer.model.parameters()]).norm()))
        return step(*args, **kwargs)

    trainer.engine.optimizer.step = watched
    trainer.train()
    assert seen == pytest.approx(norms, rel=1e-5) and len(seen) == 6


def test_the_header_tells_of_no_warm_up_where_the_schedule_has_none(tmp_path: Path) -> None:
    for schedule, has_one in (("constant", False), ("constant_with_warmup", True)):
        trainer = trainer_for(tmp_path, args={"lr_scheduler_type": schedule, "warmup_ratio": 0.5, "num_epochs": 1})
        assert (trainer.info.options["warmup_steps"] > 0) == has_one


def test_after_a_checkpoint_in_an_epoch_the_run_says_that_it_trains(tmp_path: Path) -> None:
    seen: list[Any] = []
    trainer_for(tmp_path, args={"save_steps": 2, "num_epochs": 1}, on_event=seen.append).train()
    shown = [event for event in seen if isinstance(event, (PhaseChanged, StepCompleted))]
    after = [
        b.phase
        for a, b in pairwise(shown)
        if isinstance(a, PhaseChanged) and a.phase == "saving" and isinstance(b, PhaseChanged)
    ]
    assert len(after) >= 2 and set(after) == {"training"}


@pytest.mark.parametrize("optim", ["sgd", "adafactor"])
def test_a_resume_with_another_optimizer_begins_with_its_own_state(tmp_path: Path, optim: str) -> None:
    trainer = trainer_for(tmp_path, args={"save_steps": 2, "save_total_limit": 100})
    trainer.train()
    seen: list[Any] = []
    other = trainer_for(tmp_path, args={"optim": optim}, on_event=seen.append)
    other.load_checkpoint(trainer.checkpoints_path / "checkpoint-2")
    assert other.train()["end"] == "complete"
    (said,) = [event.text for event in seen if "Resuming with other settings" in getattr(event, "text", "")]
    assert f"training.optim is '{optim}'" in said and "begins without the state of the old one" in said


@pytest.mark.parametrize(
    "changes",
    [
        {"optim": "paged_adamw_8bit"},
        {"optim": "paged_adamw_32bit"},
        {"optim": "sgd", "use_8bit_optimizer": True},
    ],
)
def test_an_optimizer_that_cannot_be_used_is_refused_at_its_field(tmp_path: Path, changes: dict[str, Any]) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU pages")
    with pytest.raises(ConfigError, match=r"choose adamw_(8bit|torch_fused)|switch use_8bit_optimizer off") as caught:
        trainer_for(tmp_path, args=changes)
    assert caught.value.field in ("training.optim", "optim")


def test_other_labels_of_the_same_tokens_are_another_run(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, args={"num_epochs": 1})
    trainer.train()
    trainer.save_checkpoint(tmp_path / "c")
    data = sum_data()
    data.learnt[:] = True
    with pytest.raises(CheckpointError, match="target_fingerprint is"):
        trainer_for(tmp_path, data=data, args={"num_epochs": 1}).load_checkpoint(tmp_path / "c")


class Remembers(torch.nn.Module):
    """Keeps a tensor of its forward pass, as models with rotary tables do, and trains with it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.kept = small_llama(), None

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        outputs = self.inner(input_ids=input_ids, attention_mask=attention_mask)
        if self.kept is None:
            self.kept = outputs.logits.detach()[:1, :1, :1] * 0 + 1.0
        outputs.logits = outputs.logits * self.kept
        return outputs


def test_what_a_model_keeps_of_an_evaluation_may_be_trained_with(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, Remembers(), eval_dataset=sum_data(8, seed=1), args={"num_epochs": 1})
    assert trainer.train()["end"] == "complete"
