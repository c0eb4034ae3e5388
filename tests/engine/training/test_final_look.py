"""At its end a run scores once more what it lists, with the weights that it is saved with; nothing it lists is stale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geko_engine import GEKOConfig, GEKOTrainer
from geko_engine.reporting.events import Event, Message, PhaseChanged
from geko_engine.scoring.evaluation import in_id_order
from geko_engine.selection import geko_policy
from geko_engine.selection.buckets import Bucket
from geko_engine.selection.final_look import final_request, looked_at_again
from geko_engine.selection.policy import SampleSignals, When
from geko_engine.selection.sample_records import SampleStates
from tests.engine.conftest import small_llama
from tests.engine.training.test_trainer import OFF, sum_data, trainer_for

ALWAYS = GEKOConfig(min_known_share=0.0, freeze_confidence=0.3, min_q_for_freeze=0.5)
STALE = 40  # epochs in which the sums are learned
FIELDS = ("loss", "confidence", "min_target_probability")


def with_final_weights(trainer: GEKOTrainer) -> Any:
    ids = np.arange(len(trainer.samples))
    return in_id_order(trainer.engine.score_samples(trainer.samples, ids, lambda: False, lambda done, total: None))


def looks(events: list[Event]) -> list[PhaseChanged]:
    return [e for e in events if isinstance(e, PhaseChanged) and "final model" in e.message]


def make_hard(trainer: GEKOTrainer, ids: list[int]) -> None:
    """The record says of these that the model is sure of another answer, as it was at a visit long ago."""
    states = trainer.states
    for _ in range(2):
        columns = (np.full(len(ids), value) for value in (9.0, 0.95, 0.0, 1e-4))
        loss, confidence, correct, smallest = columns
        states.record(
            np.array(ids), loss, confidence, correct > 0, smallest, step=states.last_step.max(), config=ALWAYS
        )


@pytest.mark.parametrize("best", [False, True])
def test_what_is_listed_shows_the_final_weights(tmp_path: Path, best: bool) -> None:
    """With load_best_model_at_end these are the best ones, not the last."""
    events: list[Event] = []
    args = {
        "learning_rate": 0.1 if best else 3e-2,
        "eval_steps": 2,
        "load_best_model_at_end": best,
        "num_epochs": 12 if best else 3,
    }
    options = {"eval_dataset": sum_data(16, seed=9), "on_event": events.append, "args": args}
    trainer = trainer_for(tmp_path, small_llama(), ALWAYS, **options)
    trainer.scans.listed = lambda: np.array([3, 5])  # for their texts
    suspects: list[int] = []
    ended = trainer.policy.end_epoch

    def note() -> Any:
        found = ended()
        make_hard(trainer, [7, 8])
        suspects[:] = np.flatnonzero(trainer.states.suspects()).tolist()
        return found

    trainer.policy.end_epoch = note  # type: ignore[method-assign]
    before = trainer.progress
    report = trainer.train()
    listed = np.union1d(suspects, [3, 5]).astype(int)
    assert {3, 5, 7, 8} <= set(listed.tolist())
    final = with_final_weights(trainer)
    for field in FIELDS:
        np.testing.assert_allclose(trainer.states.arrays[field][listed], getattr(final, field)[listed], rtol=1e-4)
    assert (report["best_step"] not in (None, report["steps"])) == best
    assert looks(events)[0].total == len(listed) and before.counter.samples_scanned == len(listed)
    assert report["tokens_scanned"] == int(trainer.samples.lengths[listed].sum())


def test_a_stale_row_leaves_the_list(tmp_path: Path) -> None:
    """The record holds rows for wrong that the final model answers correctly; they are on no list afterwards."""
    trainer = trainer_for(tmp_path, small_llama(), ALWAYS, args={"num_epochs": STALE, "learning_rate": 1e-2})
    ended = trainer.policy.end_epoch

    def note() -> Any:
        found = ended()
        make_hard(trainer, [0, 1, 2])
        return found

    trainer.policy.end_epoch = note  # type: ignore[method-assign]
    trainer.train()
    right = with_final_weights(trainer).correct[:3]
    assert right.any(), "nothing was learned: the test shows nothing"
    suspects = trainer.states.suspects()[:3]
    assert not suspects[right].any() and not (trainer.states.bucket[:3][right] == Bucket.HARD).any()


def test_nothing_is_scored_again_where_nothing_is_listed_or_geko_is_off(tmp_path: Path) -> None:
    for name, config in (("off", OFF), ("on", GEKOConfig(min_known_share=0.0))):
        events: list[Event] = []
        trainer = trainer_for(tmp_path / name, small_llama(), config, on_event=events.append)
        if config is OFF:
            trainer.scans.listed = lambda: np.array([3])
        report = trainer.train()
        assert config is OFF or not trainer.states.suspects().any(), "the test needs a run without suspects"
        assert looks(events) == [] and report["tokens_scanned"] == 0


def test_a_stopped_run_is_not_scored_again_and_a_stop_in_it_ends_nothing_else(tmp_path: Path) -> None:
    events: list[Event] = []
    stopped = trainer_for(tmp_path / "a", small_llama(), ALWAYS, on_event=events.append, should_stop=lambda: True)
    stopped.scans.listed = lambda: np.array([1])
    assert stopped.train()["end"] == "stopped" and looks(events) == []
    late = trainer_for(
        tmp_path / "b", small_llama(), ALWAYS, on_event=events.append, should_stop=lambda: bool(looks(events))
    )
    late.scans.listed = lambda: np.array([1])
    assert late.train()["end"] == "complete"
    assert any(isinstance(e, Message) and "last visit" in e.text for e in events)


def test_a_run_resumed_after_its_end_shows_and_counts_the_same(tmp_path: Path) -> None:
    def fresh(name: str) -> GEKOTrainer:
        trainer = trainer_for(tmp_path / name, small_llama(), ALWAYS, args={"save_at_end": True})
        trainer.scans.listed = lambda: np.arange(20)
        return trainer

    whole = fresh("a")
    report = whole.train()
    (checkpoint,) = (tmp_path / "a" / "out").glob("checkpoint-*")
    again = fresh("b")
    again.load_checkpoint(checkpoint)
    assert again.train()["tokens_scanned"] == report["tokens_scanned"] > 0
    for field, array in whole.states.arrays.items():
        np.testing.assert_array_equal(array, again.states.arrays[field], err_msg=field)


def test_a_look_without_training_clears_suspicion_and_raises_none() -> None:
    states, ids = SampleStates(4), np.arange(4)

    def visit(loss: float, confidence: float, *, correct: bool) -> None:
        values = [np.full(4, value) for value in (loss, confidence, float(correct), 1e-4)]
        states.record(ids, values[0], values[1], values[2] > 0, values[3], step=1, config=ALWAYS, trained=False)

    visit(9.0, 0.95, correct=False)
    states.loss_outlier[2:] = 1
    assert states.bucket.tolist() == [Bucket.HARD] * 4 and states.suspects().tolist() == [False, False, True, True]
    request = final_request(states, np.array([0]), everything=False)
    assert request is not None and request.at_end and request.ids.tolist() == [0, 2, 3]
    with looked_at_again(states, ids):
        visit(8.0, 0.95, correct=False)
    assert states.suspects().tolist() == [False, False, True, True] and states.hard_streak.tolist() == [1] * 4
    with looked_at_again(states, ids):
        visit(0.01, 0.99, correct=True)
    assert not states.suspects().any() and states.hard_streak.tolist() == [0] * 4


@pytest.mark.parametrize("is_outlier", [True, False])
def test_a_final_scan_judges_outliers_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_outlier: bool) -> None:
    trainer = trainer_for(tmp_path, small_llama(), GEKOConfig(final_scan=True))
    policy, states, count = trainer.policy, trainer.states, len(trainer.samples)
    make_hard(trainer, [7])
    states.seen[:], states.hard_streak[7], states.loss_outlier[7] = 1, 1, 1
    found = np.arange(count) == 5 if is_outlier else np.zeros(count, bool)
    monkeypatch.setattr(geko_policy, "loss_outliers", lambda samples, met, *arrays: (met, found))
    request = policy.scan_request(When.RUN_END)
    assert request is not None and request.ids.tolist() == list(range(count))
    loss, confidence, smallest = np.full(count, 9.0), np.full(count, 0.95), np.full(count, 1e-4)
    policy.scanned(request, SampleSignals(loss, np.zeros(count, bool), confidence, smallest, smallest))
    assert np.flatnonzero(states.suspects()).tolist() == ([5] if is_outlier else [])


def test_a_final_scan_comes_only_after_training_but_needs_no_whole_epoch(
    tmp_path: Path,
) -> None:
    trainer = trainer_for(tmp_path, small_llama(), GEKOConfig(final_scan=True, noise_guard=False))
    assert trainer.policy.scan_request(When.RUN_END) is None
    trainer.states.seen[0] = 1  # the first epoch need not be over: max_steps may end the run in it
    assert trainer.policy.scan_request(When.RUN_END) is not None
