"""GEKOTrainer: run -> epoch -> step -> evaluate. Knows no rule, no file format but checkpoints, and no screen.

The loop is drawn as pseudo-code in reporting/events.py. Which samples are trained on is decided by a SelectionPolicy
(selection/policy.py), where a batch is computed by the engine; here is only the order in which things happen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from geko_engine.config.selection import GEKOConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.data.batches import as_samples, samples_to_judge
from geko_engine.exceptions import CheckpointError, ConfigError, RunError, Stopped
from geko_engine.launch import is_main_process
from geko_engine.models.lora import apply_lora, require_adapters
from geko_engine.models.precision import held_in
from geko_engine.models.quantization import prepare_quantized_for_training
from geko_engine.models.saving import save_model
from geko_engine.reporting.console import Console
from geko_engine.reporting.events import CheckpointSaved, Evaluated, Event, Message, PhaseChanged, RunEnded
from geko_engine.scoring.evaluation import SampleScores, in_id_order
from geko_engine.scoring.sample_scores import SampleFunction, Scorer, forward_parameters
from geko_engine.selection.buckets import Bucket
from geko_engine.selection.epoch_plan import Plan, steps_per_epoch
from geko_engine.selection.geko_policy import policy_for
from geko_engine.selection.history import History
from geko_engine.selection.policy import EpochInfo, SelectionPolicy, When
from geko_engine.selection.sample_records import SampleStates
from geko_engine.storage.disk_space import is_full
from geko_engine.training import checkpoint, padding_free, reports
from geko_engine.training.ending import FORGOTTEN, Ending
from geko_engine.training.engine import TrainingEngine
from geko_engine.training.plan_loader import PlanLoader
from geko_engine.training.scans import Scans
from geko_engine.training.schedule import learning_rate_at, warmup_cut, warmup_share
from geko_engine.training.state import TrainerState
from geko_engine.training.step import StepResult, StepRunner
from geko_engine.training.trackers import Trackers

Listener = Callable[[Event], None]
WARMUP_EPOCHS = 3  # the warm-up of a run that finds its length is at most a tenth of so many


class GEKOTrainer:
    """Fine-tunes `model` and sends the compute to the samples that need it.

    Args:
        model: a causal language model, or any module whose output has `.logits` or `.loss`.
        train_dataset: items are dicts with at least `input_ids` of any length; without `labels` the tokens
            themselves are the targets.
        tokenizer: saved with the model; its pad token fills batches.
        eval_dataset: optional, evaluated before, during and after training.
        config: which samples get compute (default GEKO_RECOMMENDED). args: how it is trained.
        lora_config: a peft.LoraConfig to apply first.
        compute_confidence, compute_correctness: optional (outputs, batch) -> one value per sample [B].
        on_event: one listener or several, called with every geko_engine.reporting.events.Event in the first process only
            (default: a progress bar, partitions and an end table on standard error). More can be added to `listeners`.
        should_stop: asked at every micro-batch; True saves a checkpoint and ends the run as stopped.

    Raises:
        ConfigError, ModelError, TypeError: when model, data or settings do not fit.
    """

    def __init__(
        self,
        model: nn.Module,
        train_dataset: Any,
        tokenizer: Any = None,
        eval_dataset: Any = None,
        config: GEKOConfig | None = None,
        args: GEKOTrainingArgs | None = None,
        lora_config: Any = None,
        compute_confidence: SampleFunction | None = None,
        compute_correctness: SampleFunction | None = None,
        *,
        on_event: Listener | Sequence[Listener] | None = None,
        should_stop: Callable[[], bool] | None = None,
        model_name: str = "",
    ) -> None:
        self.config, self.args = config or GEKOConfig(), args or GEKOTrainingArgs()
        self.tokenizer, self.model_name = tokenizer, model_name or type(model).__name__
        self._console = self._default_console() if on_event is None else None
        given: Sequence[Listener | None] = [on_event] if callable(on_event) else on_event or [self._console]
        self.listeners: list[Listener] = [listener for listener in given if listener is not None]
        self.should_stop = should_stop or (lambda: False)
        self.log_position: Callable[[], int | None] = lambda: None  # where events are logged: number of the last one
        set_seed(self.args.seed)
        taken = forward_parameters(model)
        self.samples = as_samples(train_dataset, taken)
        self.eval_samples = as_samples(eval_dataset, taken) if eval_dataset is not None and len(eval_dataset) else None
        unread = getattr(self.samples, "unread", [])
        if unread:
            self._log(f"Keys of the dataset that are not read: {', '.join(unread)}.")
        if not len(self.samples):
            raise TypeError("The training dataset is empty: give at least one sample.")
        if self.args.needs_evaluation and self.eval_samples is None:
            raise ConfigError(f"{self.args.needs_evaluation} needs evaluation data: give eval_dataset.", "data.eval")
        self.last_evaluation: SampleScores | None = None  # of every evaluation row, in their order
        self.general_samples: Any = None  # rows that show whether the model forgets, if they are set
        self.model = apply_lora(model, lora_config, self._log) if lora_config is not None else model
        require_adapters(self.model)
        prepare_quantized_for_training(self.model, self._warn)
        scorer = Scorer(self.model, compute_confidence, compute_correctness, self._warn)
        pad_token_id = getattr(tokenizer, "pad_token_id", None)
        self.engine = engine = TrainingEngine(self.model, scorer, self.args, pad_token_id or 0, self._warn)
        batching = padding_free.choose(engine, self.samples, self._warn)
        self._trackers = Trackers(self.args.report_to, self.checkpoints_path / "logs")
        if self.args.report_to and engine.is_main:
            self.listeners.append(self._trackers)
        sources = (self.samples, self.samples.lengths, engine.collate, self.args)
        self.loader = PlanLoader(*sources, engine.device, engine.micro_batches, engine.rank)
        self.scans = Scans(engine, self._emit, lambda: self.should_stop())
        self.steps = StepRunner(engine, self.samples, self.args, lambda: self.should_stop(), self._warn)
        self.policy: SelectionPolicy = policy_for(
            self.config,
            self.samples,
            epochs=self.args.planned_epochs(steps_per_epoch(len(self.samples), engine.step_size)),
            seed=self.args.seed,
            step_size=engine.step_size,
            batch_size=engine.batch_size,
            group_by_length=self.args.group_by_length,
            agree=lambda value: engine.gather(value)[0],
        )
        self.progress = TrainerState()
        self.end = "running"  # how the last train() ended, for reports that are asked for later
        self.steps_per_epoch = steps_per_epoch(len(self.samples), engine.step_size)
        self.ending = Ending(self.model, self.args, self.steps_per_epoch)
        total_steps = self.args.planned_steps(self.steps_per_epoch)
        if self.args.finds_length:  # of a run whose length is open, a tenth may be more than all that it takes
            total_steps = min(total_steps, WARMUP_EPOCHS * self.steps_per_epoch)
        self.warmup = warmup_share(self.args.warmup_steps, total_steps, self.args.warmup_ratio)
        self.warmup_cut = warmup_cut(self.args, total_steps)
        self._warmup_steps = self.warmup * total_steps
        self.tokens_per_epoch = int(self.samples.lengths.sum())
        curriculum = self.config.enabled and self.config.use_curriculum
        options: dict[str, Any] = {
            "dataloader_workers": self.loader.workers,
            "use_curriculum": curriculum,
            "padding_free": batching,
            **self.args.open_end,
        }
        self.info = reports.run_info(
            *(self.model, self.model_name, self.samples, len(self.eval_samples or ())),
            *(self.args, engine, self.warmup, options),
        )

    @property
    def states(self) -> SampleStates:
        """The record of every sample."""
        return self.policy.states

    @property
    def history(self) -> History:
        """The path of every sample over the epochs."""
        return self.policy.history

    def _default_console(self) -> Console | None:
        return Console(self.config.log_bucket_stats, self.args.logging_steps) if is_main_process() else None

    def _emit(self, event: Event) -> None:
        if self.engine.is_main:
            self._notify(event)

    def _notify(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)

    def _warn(self, text: str) -> None:
        self._notify(Message(text, "warning"))

    def _log(self, text: str) -> None:
        self._notify(Message(text))

    # ------------------------------------------------------------ the run
    def train(self) -> dict[str, Any]:
        """Train to the end, or until should_stop; returns the report (see `get_efficiency_report`)."""
        self.end = "running"
        try:
            report = self._train()
        finally:
            self.loader.end()
            self._trackers.finish()
        self.end = report["end"]
        if self._console:
            self._console(RunEnded(report["end"], report["reason"], report))
        return report

    def _train(self) -> dict[str, Any]:
        self._clock = time.monotonic()
        self.engine.scored.train()  # from_pretrained gives a model without dropout
        self._emit(reports.run_started(self.info, self.progress, self.policy))
        if self.warmup_cut:
            self._log(self.warmup_cut)
        if self.config.prune_frozen_after and self.config.pruned_replay == 0:
            self._warn("pruned_replay is 0: pruned samples are never scored again, and some will be forgotten.")
        sentence = self.engine.settle_loss(self.samples)
        if sentence:
            self._warn(sentence)
        try:
            self._evaluate_if_due()
            while not self.progress.finished:
                self._run_epoch()
                self._evaluate_if_due()
        except Stopped:
            self._tick()
            self._save_periodic()  # before the reason: what a resume goes on from has not ended
            self.progress.reason = "Stopped by user."
            self._deliver()
            return self.get_efficiency_report("stopped")
        self._tick()
        if self.args.save_at_end:
            self._save_periodic()
        if self._deliver() and self.eval_samples is not None:
            self.evaluate()
        self.scans.at_end(self.policy, self.samples, self.progress)
        self._tick()
        return self.get_efficiency_report("complete")

    def _deliver(self) -> bool:
        """Give the model the weights that it is to be saved with; whether these are other ones than the last."""
        sentence = self.ending.deliver(self.progress)
        if sentence:
            self._log(sentence)
        return bool(sentence)

    def _run_epoch(self) -> None:
        if not self.progress.planned and not self._begin_epoch():
            return
        progress, policy = self.progress, self.policy
        training = PhaseChanged(
            "training", f"epoch {progress.epoch + 1} of {max(self.info.epochs, progress.epoch + 1)}"
        )
        self._emit(training)
        batches = self.loader.start(self._current_plan(), progress.step_in_plan, progress.epoch)
        while progress.step_in_plan < self._current_plan().steps and not self._ends_here():
            if self._evaluate_if_due():
                self._emit(training)
                if progress.finished:
                    break
            if self.engine.any(self.should_stop()):
                raise Stopped
            self._scan_if_asked(When.STEP)
            if policy.replan(progress.step_in_plan):
                progress.step_in_plan = 0
                batches = self.loader.start(self._current_plan(), 0, progress.epoch)
                continue
            self._run_step(self._current_plan(), batches)
        self._end_epoch()

    def _begin_epoch(self) -> bool:
        """SampleScores what the policy asks for, and plan; False when nothing is left to train on and the run is over."""
        progress = self.progress
        self._scan_if_asked(When.EPOCH_START)
        plan = self.policy.begin_epoch(EpochInfo(progress.epoch, progress.step, self.share_done))
        if plan is None:
            progress.finished, progress.reason = True, self.policy.reason
            self._emit(Message(progress.reason))
            return False
        progress.planned, progress.step_in_plan = True, 0
        progress.epoch_plain_tokens, progress.epoch_loss, progress.epoch_targets = 0.0, 0.0, 0.0
        self._emit(reports.partitioned(plan, progress, self.policy))
        return True

    def _end_epoch(self) -> None:
        progress = self.progress
        if not progress.finished:
            self._scan_if_asked(When.EPOCH_END)  # first: a stop in the middle leaves the epoch unended
        summary = self.policy.end_epoch()
        progress.train_loss = progress.epoch_loss / max(1.0, progress.epoch_targets)
        progress.epoch, progress.planned, progress.step_in_plan = progress.epoch + 1, False, 0
        progress.finished = self._ends_here() or self._is_over
        progress.evaluation_due = not self._is_evaluated
        for event in reports.epoch_ended(progress, summary):
            self._emit(event)

    # ------------------------------------------------------------ one step
    def _run_step(self, plan: Plan, batches: Iterator[dict[str, Tensor]]) -> None:
        result = self.steps.run(plan, self.progress.step_in_plan, batches, self._present_learning_rate())
        self.steps.record(result, self.progress, self.policy)
        self._after_step(plan, result)

    def _after_step(self, plan: Plan, result: StepResult) -> None:
        progress, args = self.progress, self.args
        self._tick()
        self.ending.after_step(progress)
        if self.ending.is_check_due(progress):
            self._check_length()
        figures = reports.StepFigures(
            result.loss, result.learning_rate, len(result.ids), self.share_done, self.engine.gradient_norm
        )
        planned = self._steps_planned(plan)
        self._emit(reports.step_completed(self.info, progress, self.policy, planned, figures))
        if args.eval_steps and progress.step % args.eval_steps == 0:
            progress.evaluation_due = True  # before a checkpoint, so that a resume from it evaluates too
        if args.save_steps and progress.step % args.save_steps == 0:
            self._save_periodic()

    # ------------------------------------------------------------ scoring without training
    def _scan_if_asked(self, when: When) -> None:
        self.scans.for_policy(self.policy, self.samples, self.progress, when)

    def _evaluate_if_due(self) -> bool:
        progress = self.progress
        due = progress.evaluation_due and (self.eval_samples is not None or self.general_samples is not None)
        if due:
            general = self._measure_retention()
            if self.eval_samples is not None:
                reason = self.ending.judge_evaluation(progress, self.evaluate())
                if reason and not progress.finished:
                    progress.finished, progress.reason = True, reason
            progress.general_losses += general  # only now: a stop in the evaluation leaves both to be repeated
        progress.evaluation_due = False  # only now: a stop in the middle leaves it due
        return due

    @property
    def _is_evaluated(self) -> bool:
        """Whether the last evaluation was of this step."""
        evaluations = self.progress.evaluations
        return bool(evaluations) and evaluations[-1]["step"] == self.progress.step > 0

    def _measure_retention(self) -> list[float]:
        """The loss on rows that show whether the model forgets, if there are any; not counted as compute."""
        if self.general_samples is None:
            return []
        began, ids = time.monotonic(), np.arange(len(self.general_samples))
        with self.ending.weights(self.progress):
            found = self.scans.scores(self.general_samples, ids, "evaluating", "general rows")
        measured = reports.retention(self.progress, found, time.monotonic() - began)
        before = self.progress.general_losses
        self._emit(measured)
        if before and before[-1] <= (1 + FORGOTTEN) * before[0] < measured.loss:
            self._warn(reports.forgetting_sentence(before[0], measured.loss))
        return [measured.loss]

    def _check_length(self) -> None:
        """Judge from held-out samples whether the decay begins; counted as compute, as plain training needs none of it."""
        began, samples = time.monotonic(), self.eval_samples
        assert samples is not None, "a run without evaluation data cannot find its length"
        count = samples_to_judge(len(self.samples) + len(samples))
        ids = np.sort(np.random.default_rng(self.args.seed).permutation(len(samples))[:count])
        with self.ending.weights(self.progress):
            found = self.scans.scores(samples, ids, "")
        self.progress.counter.scan(found.tokens, found.padding, len(ids))
        self._emit(self.ending.judge_length(self.progress, found.mean_loss, time.monotonic() - began))

    def evaluate(self) -> Evaluated:
        """Loss and exact match on the evaluation set; not counted as compute on either side.

        Raises:
            RunError: when there is no evaluation set. Stopped: when a stop was asked for.
        """
        if self.eval_samples is None:
            raise RunError("There is no evaluation set: give eval_dataset.", "data.eval")
        began = time.monotonic()
        with self.ending.weights(self.progress):
            found = self.scans.scores(self.eval_samples, np.arange(len(self.eval_samples)), "evaluating")
        self.last_evaluation = in_id_order(found)
        event = reports.evaluated(self.progress, found, time.monotonic() - began)
        self.progress.evaluations.append(asdict(event))
        self._emit(event)
        return event

    # ------------------------------------------------------------ where the run stands
    @property
    def share_done(self) -> float:
        """Share of the run in [0, 1], by steps; the learning rate follows it."""
        progress, plan = self.progress, self.policy.plan
        if progress.finished:
            return 1.0
        if self.args.finds_length:
            return self.ending.share_done(progress)
        timed = self.ending.time_share(progress.seconds)
        if self.args.step_limit:
            return max(timed, progress.step / self.args.step_limit)
        done = plan.share_done(progress.step_in_plan) if plan and progress.planned else 0.0
        return min(1.0, max(timed, (progress.epoch + done) / self.args.epochs))

    def _steps_planned(self, plan: Plan) -> int:
        """Optimizer steps of the run, as far as is known now."""
        progress, share = self.progress, self.share_done
        steps = progress.decay_until or reports.steps_planned(self.info, progress, plan)
        return min(steps, round(progress.step / share)) if self.args.time_limit and share else steps

    def _ends_here(self) -> bool:
        """Whether the run ends at this step, which may be in the middle of an epoch; the reason is noted."""
        progress, ending = self.progress, self.ending
        if self._has_all_steps:
            progress.finished = True
        elif ending.is_decayed(progress):
            progress.finished, progress.reason = True, ending.decay_reason(progress)
        elif ending.is_time_up(progress.seconds):
            progress.finished, progress.reason = True, ending.time_is_up
        return progress.finished

    @property
    def _has_all_steps(self) -> bool:
        """Whether max_steps ends the run here, which may be in the middle of an epoch."""
        return 0 < self.args.step_limit <= self.progress.step

    @property
    def _is_over(self) -> bool:
        return self._has_all_steps if self.args.step_limit else self.progress.epoch >= self.args.epochs

    def _present_learning_rate(self) -> float:
        phase = self.policy.phase(self.share_done)
        factor = phase.learning_rate_factor if phase else 1.0
        args = self.args
        if args.finds_length:
            risen = min(1.0, self.progress.step / self._warmup_steps) if self._warmup_steps else 1.0
            return args.learning_rate * factor * risen * self.ending.rate(self.progress)
        return learning_rate_at(self.share_done, args.learning_rate, self.warmup, factor, args.lr_scheduler_type)

    def _current_plan(self) -> Plan:
        plan = self.policy.plan
        assert plan is not None, "a plan is made before it is used"
        return plan

    def _tick(self) -> float:
        """Running seconds so far, time of earlier parts of a resumed run included."""
        now = time.monotonic()
        self.progress.seconds += now - self._clock
        if self.args.time_limit:  # decides about the end, so all processes go by the clock of the first
            self.progress.seconds = self.engine.gather(self.progress.seconds)[0]
        self._clock = now
        return self.progress.seconds

    # ------------------------------------------------------------ what it found
    def get_efficiency_report(self, end: str = "") -> dict[str, Any]:
        """Counted figures of the run so far; the keys are those of report.json. `end`: how it ended (default: as `train` ended)."""
        return reports.efficiency_report(self.info, self.progress, self.policy, end or self.end)

    def get_frozen_samples(self) -> list[int]:
        """Ids of the samples that are FREEZE now."""
        return np.flatnonzero(self.states.bucket == Bucket.FREEZE).tolist()

    def get_hard_samples(self) -> list[int]:
        """Ids of the samples that are HARD now."""
        return np.flatnonzero(self.states.bucket == Bucket.HARD).tolist()

    def get_pruned_count(self) -> int:
        """Samples that are pruned: FREEZE for more than prune_frozen_after epochs; `states.lift_pruning()` lifts it."""
        return self.policy.pruned_count()

    # ------------------------------------------------------------ disk
    @property
    def checkpoints_path(self) -> Path:
        """The folder that periodic checkpoints are written to."""
        return Path(self.args.output_dir)

    def save_checkpoint(self, path: str | Path) -> None:
        """Write everything that a resume needs to the folder `path`, atomically. Raises CheckpointError."""
        began = time.monotonic()
        self._emit(PhaseChanged("saving", "checkpoint"))
        self.progress.events = self.log_position()
        checkpoint.save(self._snapshot(), Path(path))
        self._emit(CheckpointSaved(self.progress.step, str(path), time.monotonic() - began))

    def load_checkpoint(self, path: str | Path) -> None:
        """Go on from a checkpoint: the next train() continues it exactly.

        Raises:
            CheckpointError: when it is damaged, or of another model, dataset or schedule (named).
        """
        snapshot = self._snapshot()
        different = checkpoint.load(snapshot, Path(path))
        self.progress = snapshot.state
        self.engine.backward_cost = self.progress.backward_cost
        if different:
            self._warn(
                f"Resuming with other settings than before, so the result is another one: {'; '.join(different)}."
            )

    def _snapshot(self) -> checkpoint.TrainingSnapshot:
        identity = checkpoint.identity(self.model, self.samples, self.args, self.engine)
        return checkpoint.TrainingSnapshot(
            self.model,
            self.tokenizer,
            self.engine,
            self.policy,
            self.progress,
            identity,
            checkpoint.settings(self.config, self.args)
            | {"model.dtype": held_in(self.model), "training.padding_free": "on" if self.engine.is_packed else "off"},
            self.ending,
        )

    def save_model(self, path: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write model (or adapter) and tokenizer, readable by from_pretrained. With fsdp every process must call this.

        Args:
            path: folder, created if missing.
            dtype: in which the weights of a whole model are written; None for the one that they are held in.

        Raises:
            RunError: when a trainable weight is not finite.
        """
        state = self.engine.whole_state()
        if state is None or self.engine.is_main:
            save_model(self.model, self.tokenizer, Path(path), dtype, state)

    def _save_periodic(self) -> None:
        path = self.checkpoints_path / f"checkpoint-{self.progress.step}"
        try:
            self.save_checkpoint(path)
        except CheckpointError as error:  # somebody filled the disk meanwhile: a listener may wait for room
            if not is_full(error) or self.engine.processes > 1:
                raise
            self.save_checkpoint(path)
        if self.engine.is_main:
            checkpoint.remove_old(self.checkpoints_path, self.args.save_total_limit)
