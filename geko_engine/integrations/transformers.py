"""GekoMixin: GEKO's record and skipping in transformers.Trainer and TRL's SFTTrainer.

    class Trainer(GekoMixin, transformers.Trainer): ...

The other trainer keeps its loop, its optimizer, its logs and its checkpoints. Three of its methods are asked for the next
batches, the loss and the schedule, and those are GEKO's; a callback notes in the session where the loop stands.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from geko_engine.config.selection import GEKOConfig
from geko_engine.exceptions import CheckpointNotFoundError, RunError
from geko_engine.integrations.evaluation import EvaluationWatch
from geko_engine.integrations.loader import PlanBatches
from geko_engine.integrations.run_files import RunFiles, load_state
from geko_engine.integrations.samples import TrainingSamples
from geko_engine.integrations.session import Session
from geko_engine.integrations.settings import run_info, training_args
from geko_engine.integrations.support import require_lambda, require_separate_rows, require_supported
from geko_engine.reporting.events import PhaseChanged
from geko_engine.selection.history import History
from geko_engine.selection.sample_records import SampleStates

if TYPE_CHECKING:
    from transformers import Trainer as Base
else:
    Base = object


class GekoMixin(Base):  # type: ignore[misc]  # transformers has no types
    """Put it before transformers.Trainer or TRL's SFTTrainer, or a subclass of theirs: one process, one sample a row.

    Args:
        geko: which samples get compute (default GEKO_RECOMMENDED).
        runs_dir: folder in which each training gets a run folder, which the page shows; None for no run folder.
        All other arguments are the trainer's.

    Raises:
        ConfigError, ModelError: for what GEKO cannot work with, before anything is trained.
    """

    def __init__(
        self, *args: Any, geko: GEKOConfig | None = None, runs_dir: str | Path | None = "runs", **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        require_supported(self)
        self._geko_config, self._runs_dir = geko or GEKOConfig(), runs_dir
        self._session: Session | None = None
        self._waiting: list[Any] = []  # micro-batches that come before the next one of the loop
        self._in_step = False  # whether compute_loss is asked for a micro-batch of training
        self.loss_is_scaled_for_ga = True  # by all targets of the step
        self.add_callback(_Progress(self))

    # ------------------------------------------------------------ what it found
    @property
    def session(self) -> Session:
        """The training that runs, or ran last. Raises RunError before the first one."""
        if self._session is None:
            raise RunError("Nothing was trained yet: call train() first.")
        return self._session

    @property
    def states(self) -> SampleStates:
        """The record of every sample of train_dataset."""
        return self.session.policy.states

    @property
    def history(self) -> History:
        """The path of every sample over the epochs."""
        return self.session.policy.history

    def get_efficiency_report(self) -> dict[str, Any]:
        """Counted figures of the training; the keys are those of report.json."""
        return self.session.report()

    # ------------------------------------------------------------ the training
    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As the trainer's own, inside a run folder."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                raise CheckpointNotFoundError(
                    f"There is no checkpoint in {str(self.args.output_dir)!r}: give its path."
                )
        checkpoint = str(resume_from_checkpoint) if resume_from_checkpoint else None
        self._session = self._new_session(checkpoint)
        with self._files.run(self._session):
            return super().train(checkpoint, *args, **kwargs)

    def _new_session(self, checkpoint: str | None) -> Session:
        args = self.args
        dataloader = super().get_train_dataloader()  # for its dataset and its collator, without unused columns
        dataset, collate = dataloader.dataset, dataloader.collate_fn
        require_separate_rows(dataset, collate)
        samples = TrainingSamples(dataset, collate)
        step_size = args.per_device_train_batch_size * args.gradient_accumulation_steps
        steps = math.ceil(len(samples) / step_size)
        max_steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * steps)
        settings, unlisted = training_args(args, epochs=math.ceil(max_steps / steps), max_steps=max_steps)
        info = run_info(self, samples, settings, self._geko_config, steps)
        self._files = files = RunFiles(self._runs_dir, self, settings, self._geko_config, unlisted)
        session = Session(
            self.model,
            samples,
            PlanBatches(dataset, collate, args),
            self._geko_config,
            info,
            max_steps=max_steps,
            step_size=step_size,
            seed=args.seed,
            device=args.device,
            autocast=self.accelerator.autocast,
            emit=files.emit,
        )
        if checkpoint is not None:
            files.resume(load_state(session, Path(checkpoint)))
        return session

    def get_train_dataloader(self) -> Any:
        """Stands for the plan; the batches come from get_batch_samples."""
        return _Slots(self.session, self.args.gradient_accumulation_steps)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The micro-batches of the next step, as many as the loop expects: empty ones stand for those that GEKO saves."""
        batches = self.session.next_step()
        if not batches:
            return [], None
        empty = {name: values[:0] for name, values in batches[0].items() if isinstance(values, torch.Tensor)}
        slots = [empty] * (num_batches - len(batches)) + batches
        self._waiting = slots[:-num_batches]  # a step of even sizes may be a little larger than one of plain training
        return slots[-num_batches:], self.session.targets

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """As the trainer's own; nothing for an empty micro-batch."""
        if not len(inputs["input_ids"]):
            return torch.zeros((), device=self.args.device)
        step, batches, self._waiting = super().training_step, [*self._waiting, inputs], []
        return torch.stack([self._micro_step(step, model, batch, num_items_in_batch) for batch in batches]).sum()

    def _micro_step(self, step: Any, *given: Any) -> Any:
        self._in_step = True
        try:
            return self.session.counted(lambda: step(*given))
        finally:
            self._in_step = False

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """In training the loss that GEKO's scores come from; else the trainer's own."""
        return self.session.loss(inputs) if self._in_step else super().compute_loss(model, inputs, *args, **kwargs)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The trainer's own schedule, moved by the data that is done instead of by the steps."""
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        require_lambda(scheduler)
        session = self.session

        def follow(schedule: Any) -> Any:
            return lambda _: schedule(session.position) * session.learning_rate_factor()

        scheduler.lr_lambdas = [follow(schedule) for schedule in scheduler.lr_lambdas]
        return scheduler

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As the trainer's own; while training, exact match is counted on the way."""
        if self._session is None or not self.is_in_train:
            return super().evaluate(*args, **kwargs)
        self._session.emit(PhaseChanged("evaluating"))
        with EvaluationWatch(self.model) as self._watch:
            metrics = super().evaluate(*args, **kwargs)
        self._session.show_training()
        return metrics

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As the trainer's own, with the share of compute that was saved so far."""
        if self._session is not None and "loss" in logs:
            logs["compute_saved_ratio"] = self._session.compute_saved_ratio
        super().log(logs, *args, **kwargs)

    # ------------------------------------------------------------ where the loop has no public place
    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        """Where the loop goes on: GEKO's epochs may have fewer steps than it takes them to have."""
        super()._init_training_state(*args, **kwargs)
        return self.session.state.epoch + self.session.plan_is_done, 0

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        began = time.monotonic()
        super()._save_checkpoint(*args, **kwargs)
        path = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        self._files.save_state(self.session, path, began)

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        norm = super()._get_grad_norm(*args, **kwargs)
        length = math.nan if norm is None else float(norm)
        self.session.gradient_norm = length if math.isfinite(length) else None
        return norm


class _Slots:
    """What the loop takes for its dataloader: as many micro-batches as plain training has, all given by the session."""

    def __init__(self, session: Session, accumulation: int) -> None:
        self.dataset = session.samples
        self._count = session.info.steps_per_epoch * accumulation

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class _Progress(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Notes in the session where the loop stands, and ends the loop when it should."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer.session.begin()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # Before the schedule moves on: its next value follows what is done with this step.
        self._trainer.session.step_done(kwargs["optimizer"].param_groups[0]["lr"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        session = self._trainer.session
        state.epoch = session.position / session.info.steps_per_epoch
        stops = self._trainer._files.stop_requested()
        if stops or session.is_complete:
            control.should_training_stop = True
            control.should_save |= stops or args.save_strategy == "steps"

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        session = self._trainer.session
        if not session.plan_is_done and control.should_training_stop:
            return  # in the middle of the epoch: a resume goes on from there
        session.end_epoch()
        if session.state.finished:
            ends_early = not control.should_training_stop and state.global_step < state.max_steps
            control.should_save |= ends_early and args.save_strategy == "steps"
            control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer.session.end()

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        trainer = self._trainer
        if trainer.is_in_train and "eval_loss" in (metrics or {}):
            trainer.session.evaluated(trainer._watch.event(trainer.session.state))
