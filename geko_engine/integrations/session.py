"""The part of GEKO's loop that another trainer's loop drives: plan, scores, record, counts, events. Knows no trainer.

The driver calls, in this order:

    begin()                            # once; also after a resume
    while batches := next_step():      # the micro-batches of an optimizer step
        for batch in batches:
            loss(model, batch)         # forward; the driver calls backward on it
        step_done(learning_rate)       # after the weights were updated
    end_epoch()                        # and begins the next one
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geko_engine.config.selection import GEKOConfig
from geko_engine.data.batches import IGNORE_INDEX
from geko_engine.integrations.loader import PlanBatches, micro_batches
from geko_engine.integrations.samples import TrainingSamples
from geko_engine.models.quantization import count_parameters, is_quantized
from geko_engine.reporting.events import Event, Message, PhaseChanged
from geko_engine.scoring.evaluation import as_columns, in_id_order, score_samples
from geko_engine.scoring.sample_scores import BatchScores, Scorer
from geko_engine.selection.geko_policy import policy_for
from geko_engine.selection.policy import EpochInfo, SampleSignals, When
from geko_engine.training import reports
from geko_engine.training.flops import FlopCount, backward_cost
from geko_engine.training.state import TrainerState

Batch = dict[str, Tensor]


class Scored(nn.Module):
    """A model that answers with the scores of its samples."""

    def __init__(self, model: nn.Module, scorer: Scorer, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
        super().__init__()
        self.model, self.scorer, self.autocast = model, scorer, autocast

    def forward(self, batch: Batch, weights: Tensor | None = None) -> BatchScores:
        with self.autocast():
            scores: BatchScores = self.scorer(self.model, batch, weights)
            return scores


class Session:
    """One run: what it trains on next, and what it has found so far.

    Args:
        model: as the trainer holds it. samples: of its training data. loader: gives the batches of a plan.
        info: what stays the same in the run. max_steps: after how many steps of plain training the run ends.
        step_size: samples of an optimizer step of plain training.
        autocast: gives the context in which the trainer's model computes.
        emit: called with every event.
    """

    def __init__(
        self,
        model: nn.Module,
        samples: TrainingSamples,
        loader: PlanBatches,
        config: GEKOConfig,
        info: reports.RunInfo,
        *,
        max_steps: int,
        step_size: int,
        seed: int,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[Any]],
        emit: Callable[[Event], None],
    ) -> None:
        self.model, self.samples, self.loader, self.info = model, samples, loader, info
        self.max_steps, self.step_size, self.seed, self.device, self.emit = max_steps, step_size, seed, device, emit
        scorer = Scorer(model, warn=lambda text: emit(Message(text, "warning")))
        self.scored = Scored(model, scorer, autocast)
        sizes: dict[str, Any] = {"step_size": step_size, "batch_size": info.batch_size}
        self.policy = policy_for(config, samples.view, epochs=info.epochs, seed=seed, **sizes)
        self.state = TrainerState()
        self.targets = 0  # of all micro-batches of the step being done
        self.gradient_norm: float | None = None  # of the step being done, where the trainer says it
        self._weights: deque[NDArray[Any]] = deque()  # of the micro-batches of this step that were not yet forwarded
        self._scores: list[tuple[BatchScores, int]] = []  # of those that were, and how long they are with padding
        self._batches: Iterator[Batch] = iter(())
        self._clock = self._step_began = time.monotonic()
        self._count: FlopCount | None = None

    # ------------------------------------------------------------ epochs
    def begin(self) -> None:
        """Start, or go on after a resume; a checkpoint may lie between the last step of an epoch and its end."""
        self._clock = time.monotonic()
        self.emit(reports.run_started(self.info, self.state, self.policy))
        if self.plan_is_done:
            self.end_epoch()
        elif self.state.planned:
            self.show_training()
            self._restart_loader()
        elif not self.state.finished:
            self._begin_epoch()

    @property
    def plan_is_done(self) -> bool:
        """Whether every step of the present epoch's plan is done."""
        plan = self.policy.plan
        return self.state.planned and (plan is None or self.state.step_in_plan >= plan.steps)

    def _begin_epoch(self) -> None:
        state = self.state
        self._scan_if_asked(When.EPOCH_START)
        plan = self.policy.begin_epoch(EpochInfo(state.epoch, state.step, self.share_done))
        if plan is None:
            state.finished, state.reason = True, self.policy.reason
            self.emit(Message(state.reason))
            return
        state.begin_epoch()
        self.emit(reports.partitioned(plan, state, self.policy))
        self.show_training()
        self._restart_loader()

    def end_epoch(self) -> None:
        """Close the epoch and begin the next one, if there is one and anything is left to train on."""
        state = self.state
        self._scan_if_asked(When.EPOCH_END)
        summary = self.policy.end_epoch()
        state.end_epoch()
        state.finished = state.epoch >= self.info.epochs
        for event in reports.epoch_ended(state, summary):
            self.emit(event)
        if not state.finished:
            self._begin_epoch()

    def end(self) -> None:
        """Look once more at what will be listed, after a training that is complete, with the weights that it ends with."""
        if self.is_complete:
            self._scan_if_asked(When.RUN_END)

    def show_training(self) -> None:
        """Say that the training goes on, after an evaluation or a scan."""
        self.emit(PhaseChanged("training", f"epoch {self.state.epoch + 1} of {self.info.epochs}"))

    def _restart_loader(self) -> None:
        assert self.policy.plan is not None, "a plan is made before it is used"
        self._batches = self.loader.start(self.policy.plan, self.state.step_in_plan, self.state.epoch)

    # ------------------------------------------------------------ steps
    def next_step(self) -> list[Batch]:
        """The micro-batches of the next optimizer step; [] when the epoch's plan is done."""
        if not self._plan_on():
            return []
        plan = self.policy.plan
        assert plan is not None, "it was not done"
        weights = plan.weights(self.state.step_in_plan)
        self._weights = deque(weights[part] for part in micro_batches(len(weights), self.loader.size))
        batches = [next(self._batches) for _ in self._weights]
        self.targets = sum(int((batch["labels"][:, 1:] != IGNORE_INDEX).sum()) for batch in batches)
        self._scores, self._step_began = [], time.monotonic()
        return batches

    def _plan_on(self) -> bool:
        """Let the policy look at more samples and revise the plan; whether a step is left."""
        while self.state.planned and not self.plan_is_done:
            self._scan_if_asked(When.STEP)
            if not self.policy.replan(self.state.step_in_plan):
                return True
            self.state.step_in_plan = 0
            self._restart_loader()
        return False

    def loss(self, batch: Batch) -> Tensor:
        """The share of `batch` in the loss of the step: the mean over the target tokens of all its micro-batches."""
        weights = torch.as_tensor(self._weights.popleft(), device=self.device)
        scores = self.scored(batch, weights)
        self._scores.append(
            (scores, batch["input_ids"].shape[1])
        )  # read after the step: no waiting for the device here
        if self._count is not None:
            self._count.in_backward = True
        loss: Tensor = scores.objective * (1 / max(1, self.targets))
        return loss

    def counted(self, work: Callable[[], Tensor]) -> Tensor:
        """The result of `work`, a forward and a backward pass; what they cost is counted the first time."""
        if self.state.backward_cost:
            return work()
        with FlopCount() as self._count:
            done = work()
        count, self._count = self._count, None
        known = not is_quantized(self.model)  # whose kernels are not known to the counter
        total, trainable = count_parameters(self.model)
        self.state.backward_cost = backward_cost(
            count.forward * known,
            count.backward * known,
            trainable / max(1, total),
            recomputes=self.info.options["gradient_checkpointing"],
        )
        return done

    def step_done(self, learning_rate: float) -> None:
        """Record the step whose weights were just updated."""
        state, plan = self.state, self.policy.plan
        assert plan is not None, "a step was done"
        ids = plan.ids(state.step_in_plan)
        columns = np.concatenate([as_columns(*scores) for scores in self._scores], axis=1)
        loss_sum, _, loss, correct, confidence, min_target_probability, width = columns
        state.epoch_plain_tokens += float(plan.plain_tokens_per_step[state.step_in_plan])
        state.step, state.step_in_plan = state.step + 1, state.step_in_plan + 1
        finite = np.isfinite(loss)
        signals = SampleSignals(loss, correct > 0.5, confidence, min_target_probability)
        self.policy.observe(ids[finite], signals.of(finite), state.step)
        tokens = int(self.samples.view.lengths[ids].sum())
        state.counter.train(tokens, int(width.sum()) - tokens, self.targets, len(ids))
        state.epoch_loss += float(loss_sum[finite].sum())
        state.epoch_targets += self.targets
        if not finite.all():
            lost = ", ".join(map(str, np.sort(ids[~finite])[: reports.ROWS_SHOWN] + 1))
            self.emit(Message(f"The loss of step {state.step:,} is not finite (rows {lost}).", "warning"))
        self._tick(since=self._step_began)
        mean = float(loss_sum.sum() / max(1, self.targets))
        figures = reports.StepFigures(mean, learning_rate, len(ids), self.share_done, self.gradient_norm)
        planned = reports.steps_planned(self.info, state, plan)
        self.emit(reports.step_completed(self.info, state, self.policy, planned, figures))
        self.gradient_norm = None

    def _tick(self, since: float | None = None) -> None:
        now = time.monotonic()
        self.state.seconds += now - self._clock
        self.state.train_seconds += 0.0 if since is None else now - since
        self._clock = now

    # ------------------------------------------------------------ where it stands
    @property
    def position(self) -> float:
        """Steps of plain training that what was done stands for; the learning rate follows it."""
        plan, state = self.policy.plan, self.state
        done = plan.share_done(state.step_in_plan) if plan is not None and state.planned else 0.0
        return (state.epoch + done) * self.info.steps_per_epoch

    @property
    def share_done(self) -> float:
        """Share of the run in [0, 1]."""
        return 1.0 if self.state.finished else min(1.0, self.position / self.max_steps)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do: all epochs or max_steps are done, or everything is mastered."""
        return self.state.finished or self.position >= self.max_steps - 1e-6

    def learning_rate_factor(self) -> float:
        """The curriculum's."""
        phase = self.policy.phase(self.share_done)
        return phase.learning_rate_factor if phase else 1.0

    @property
    def compute_saved_ratio(self) -> float:
        """Share of plain training's compute that was not spent so far."""
        plain = self.info.plain_training_tokens(self.state)
        return self.state.counter.saved_ratio(plain, self.state.backward_cost)

    def report(self) -> dict[str, Any]:
        """The content of report.json."""
        self._tick()
        end = "complete" if self.is_complete else "stopped"
        found = reports.efficiency_report(self.info, self.state, self.policy, end)
        if self.is_complete and not self.state.finished:
            found["reason"] = "All steps are done."  # max_steps, or a part of an epoch
        evaluations = self.state.evaluations
        if evaluations and evaluations[0]["step"] > 0:  # then there is no evaluation from before the training
            found |= {"eval_loss_before": None, "exact_match_before": None}
            found |= {"eval_loss_after": evaluations[-1]["eval_loss"]}
            found |= {"exact_match_after": evaluations[-1]["exact_match"]}
        return found

    # ------------------------------------------------------------ without training
    def _scan_if_asked(self, when: When) -> None:
        """Score what the policy asks for without training, and count it as compute."""
        request = self.policy.scan_request(when, self.state.step_in_plan)
        if request is None:
            return
        if request.phase:
            self.emit(PhaseChanged(request.phase, request.message, 0, len(request.ids)))
        found = in_id_order(
            score_samples(
                self.scored,
                self.samples,
                request.ids,
                self.samples.collate,  # the trainer's own collator does as well
                batch_size=self.info.batch_size,
                device=self.device,
                should_stop=lambda: False,
                with_tokens=request.with_tokens,
            )
        )
        self.state.counter.scan(found.tokens, found.padding, len(found.ids))
        signals = (found.loss, found.correct, found.confidence, found.min_target_probability, found.probability)
        self.policy.scanned(request, SampleSignals(*signals))

    def evaluated(self, event: Any) -> None:
        """Keep and emit an Evaluated event."""
        self.state.evaluations.append(asdict(event))
        self.emit(event)
