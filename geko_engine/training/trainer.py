"""GEKOTrainer: run -> epoch -> step -> evaluate. Knows no rule, no file format but checkpoints, and no screen.

The loop is drawn as pseudo-code in reporting/events.py. Which samples are trained on is decided by a SelectionPolicy
(selection/policy.py), where a batch is computed by the engine; here is only the order in which things happen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from geko_engine.config.selection import GEKOConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.data.batches import as_samples
from geko_engine.exceptions import CheckpointError, ConfigError, RunError, Stopped
from geko_engine.launch import is_main_process
from geko_engine.models.lora import apply_lora, require_adapters
from geko_engine.models.quantization import prepare_quantized_for_training
from geko_engine.models.saving import save_model
from geko_engine.reporting.console import Console
from geko_engine.reporting.events import CheckpointSaved, Evaluated, Event, Message, PhaseChanged, RunEnded
from geko_engine.scoring.sample_scores import SampleFunction, Scorer, forward_parameters
from geko_engine.selection.buckets import Bucket
from geko_engine.selection.epoch_plan import Plan, steps_per_epoch
from geko_engine.selection.geko_policy import policy_for
from geko_engine.selection.history import History
from geko_engine.selection.policy import EpochInfo, SelectionPolicy, When
from geko_engine.selection.sample_records import SampleStates
from geko_engine.storage.disk_space import is_full
from geko_engine.training import checkpoint, padding_free, reports
from geko_engine.training.ending import Ending
from geko_engine.training.engine import TrainingEngine
from geko_engine.training.evaluator import Evaluator
from geko_engine.training.plan_loader import PlanLoader
from geko_engine.training.run_schedule import RunSchedule
from geko_engine.training.scans import Scans
from geko_engine.training.state import TrainerState
from geko_engine.training.step import StepRunner
from geko_engine.training.trackers import Trackers

Listener = Callable[[Event], None]

NOT_THE_LAST_WEIGHTS = (
    "The model has the weights that the stopped run delivered, not those that training would go on from: load the checkpoint "
    "{path} first."
)


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
        own_console = on_event is None and is_main_process()
        self._console = Console(self.config.log_bucket_stats, self.args.logging_steps) if own_console else None
        given: Sequence[Listener | None] = [on_event] if callable(on_event) else on_event or [self._console]
        self.listeners: list[Listener] = [listener for listener in given if listener is not None]
        self.at_end: list[Callable[[TrainerState], None]] = []  # called in the first process when all is trained
        self.should_stop = should_stop or (lambda: False)
        self.log_position: Callable[[], int | None] = lambda: None  # where events are logged: number of the last one
        set_seed(self.args.seed)
        taken = forward_parameters(model)
        self.samples = as_samples(train_dataset, taken)
        self.eval_samples = as_samples(eval_dataset, taken) if eval_dataset is not None and len(eval_dataset) else None
        if unread := getattr(self.samples, "unread", []):
            self._log(f"Keys of the dataset that are not read: {', '.join(unread)}.")
        if not len(self.samples):
            raise TypeError("The training dataset is empty: give at least one sample.")
        if self.args.needs_evaluation and self.eval_samples is None:
            raise ConfigError(f"{self.args.needs_evaluation} needs evaluation data: give eval_dataset.", "data.eval")
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
        self.steps_per_epoch = steps_per_epoch(len(self.samples), engine.step_size)
        self.policy: SelectionPolicy = policy_for(
            self.config,
            self.samples,
            epochs=self.args.planned_epochs(self.steps_per_epoch),
            seed=self.args.seed,
            step_size=engine.step_size,
            batch_size=engine.batch_size,
            group_by_length=self.args.group_by_length,
            agree=lambda value: engine.gather(value)[0],
        )
        self.progress = TrainerState()
        self.end = "running"  # how the last train() ended, for reports that are asked for later
        self.ending = Ending(self.model, self.args, self.steps_per_epoch)
        self.schedule = RunSchedule(self.args, self.ending, self.steps_per_epoch)
        self.evaluator = Evaluator(
            *(self.eval_samples, len(self.samples), self.scans, self.ending, self.args, self._emit, self._warn)
        )
        self.tokens_per_epoch = int(self.samples.lengths.sum())
        options: dict[str, Any] = {
            "dataloader_workers": self.loader.workers,
            "use_curriculum": self.config.enabled and self.config.use_curriculum,
            "padding_free": batching,
        }
        self.info = reports.run_info(
            *(self.model, self.model_name, self.samples, len(self.eval_samples or ())),
            *(self.args, engine, self.schedule.warmup_steps, options),
        )

    @property
    def states(self) -> SampleStates:
        """The record of every sample."""
        return self.policy.states

    @property
    def history(self) -> History:
        """The path of every sample over the epochs."""
        return self.policy.history

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
        if self.ending.has_delivered and not self.progress.finished:
            raise RunError(NOT_THE_LAST_WEIGHTS.format(path=self.checkpoints_path / f"checkpoint-{self.progress.step}"))
        self._clock = time.monotonic()
        self.engine.scored.train()  # from_pretrained gives a model without dropout
        self._emit(reports.run_started(self.info, self.progress, self.policy))
        if self.schedule.warmup_cut:
            self._log(self.schedule.warmup_cut)
        if self.config.prune_frozen_after and self.config.pruned_replay == 0:
            self._warn("pruned_replay is 0: pruned samples are never scored again, and some will be forgotten.")
        if sentence := self.engine.settle_loss(self.samples):
            self._warn(sentence)
        try:
            self.evaluator.evaluate_if_due(self.progress)
            while not self.progress.finished:
                self._run_epoch()
                self.evaluator.evaluate_if_due(self.progress)
            self._at_end()
        except Stopped:
            self._tick()
            self._save_periodic()  # before the reason: what a resume goes on from has not ended
            self.progress.reason = "Stopped by user."
            self._deliver()
            return self.get_efficiency_report("stopped")
        self._tick()
        if self.args.save_at_end:
            self._save_periodic()
        self._deliver()
        if self.ending.delivers_best(self.progress) and self.eval_samples is not None:
            self.evaluate()
        self.scans.at_end(self.policy, self.samples, self.progress)
        self._tick()
        return self.get_efficiency_report("complete")

    def _at_end(self) -> None:
        """Let those who watch the run see the weights that the training ended with. Raises Stopped."""
        self.evaluator.measure_at_end(self.progress)
        if self.engine.is_main:
            for look in self.at_end:
                look(self.progress)

    def _deliver(self) -> None:
        """Give the model the weights that it is to be saved with."""
        if sentence := self.ending.deliver(self.progress):
            self._log(sentence)

    def _run_epoch(self) -> None:
        if not self.progress.planned and not self._begin_epoch():
            return
        progress, policy = self.progress, self.policy
        self._show_training()
        batches = self.loader.start(self._current_plan(), progress.step_in_plan, progress.epoch)
        while progress.step_in_plan < self._current_plan().steps and not self.schedule.end_if_due(progress):
            if self.evaluator.evaluate_if_due(progress):
                self._show_training()
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
        """Score what the policy asks for, and plan; False when nothing is left to train on and the run is over."""
        progress = self.progress
        self._scan_if_asked(When.EPOCH_START)
        plan = self.policy.begin_epoch(EpochInfo(progress.epoch, progress.step, self.share_done))
        if plan is None:
            progress.finished, progress.reason = True, self.policy.reason
            self._emit(Message(progress.reason))
            return False
        progress.begin_epoch()
        self._emit(reports.partitioned(plan, progress, self.policy))
        return True

    def _end_epoch(self) -> None:
        progress = self.progress
        if not progress.finished:
            self._scan_if_asked(When.EPOCH_END)  # first: a stop in the middle leaves the epoch unended
        summary = self.policy.end_epoch()
        progress.end_epoch()
        self.schedule.end_with_epoch(progress)
        progress.evaluation_due = not progress.is_evaluated
        for event in reports.epoch_ended(progress, summary):
            self._emit(event)

    # ------------------------------------------------------------ one step
    def _run_step(self, plan: Plan, batches: Iterator[dict[str, Tensor]]) -> None:
        progress, args = self.progress, self.args
        result = self.steps.run(plan, progress.step_in_plan, batches, self._present_learning_rate())
        self.steps.record(result, progress, self.policy)
        self._tick()
        self.ending.after_step(progress)
        if self.ending.is_check_due(progress):
            self.evaluator.check_length(progress)
        figures = reports.StepFigures(
            result.loss, result.learning_rate, len(result.ids), self.share_done, self.engine.gradient_norm
        )
        planned = self.schedule.steps_planned(self.info, progress, plan)
        self._emit(reports.step_completed(self.info, progress, self.policy, planned, figures))
        if args.eval_steps and progress.step % args.eval_steps == 0:
            progress.evaluation_due = True  # before a checkpoint, so that a resume from it evaluates too
        if args.save_steps and progress.step % args.save_steps == 0:
            self._save_periodic()
            self._show_training()

    def _show_training(self) -> None:
        number = self.progress.epoch + 1
        self._emit(PhaseChanged("training", f"epoch {number} of {max(self.info.epochs, number)}"))

    # ------------------------------------------------------------ scoring without training
    def _scan_if_asked(self, when: When) -> None:
        self.scans.for_policy(self.policy, self.samples, self.progress, when)

    def evaluate(self) -> Evaluated:
        """Loss and exact match on the evaluation set; not counted as compute on either side.

        Raises:
            RunError: when there is no evaluation set. Stopped: when a stop was asked for.
        """
        return self.evaluator.evaluate(self.progress)

    # ------------------------------------------------------------ where the run stands
    @property
    def share_done(self) -> float:
        """Share of the run in [0, 1], by steps; the learning rate follows it."""
        return self.schedule.share_done(self.progress, self.policy.plan)

    def _present_learning_rate(self) -> float:
        phase = self.policy.phase(self.share_done)
        factor = phase.learning_rate_factor if phase else 1.0
        return self.schedule.learning_rate(self.progress, self.share_done, factor)

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
        return checkpoint.snapshot_of(
            self.engine, self.tokenizer, self.policy, self.progress, self.ending, self.samples, self.config
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
