"""GEKO's rule: mastered samples are skipped, and so is what similar samples show to need no compute. Numpy only.

Composes the rules of this package, one a file; a new rule is a file of its own and a line here.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geko_engine.config.selection import GEKOConfig
from geko_engine.selection.curriculum import MountainCurriculum, Phase
from geko_engine.selection.epoch_plan import Plan, choose_rechecks, is_full_epoch, is_mastered, plan_epoch
from geko_engine.selection.explanation import criterion_sentence, predicted_sentence
from geko_engine.selection.final_look import final_request, looked_at_again
from geko_engine.selection.known_prediction import KnownPrediction
from geko_engine.selection.label_noise import NoiseEvidence, loss_outliers
from geko_engine.selection.mastery import MASTERY_CRITERIA
from geko_engine.selection.policy import EpochInfo, EpochSummary, SampleSignals, ScanRequest, When
from geko_engine.selection.prior_knowledge import PriorKnowledge
from geko_engine.selection.samples import Agree, SelectionData
from geko_engine.selection.stability import Stability
from geko_engine.selection.uniform_policy import UniformPolicy, part, prefixed


class BucketPolicy(UniformPolicy):
    """Skips FREEZE, replays a share of it, and leaves suspected wrong labels out; what InfoBatch and GEKO share."""

    def __init__(self, config: GEKOConfig, samples: SelectionData, **options: Any) -> None:
        super().__init__(config, samples, **options)
        self.curriculum, self.noise = MountainCurriculum(), NoiseEvidence(wanted=config.noise_guard)
        self._sorted = self.states.bucket.copy()  # as of the last partition
        self._shared_draws = False  # but in a run that version 1 began

    def scan_request(self, when: When, steps_done: int = 0) -> ScanRequest | None:
        if when is When.RUN_END:
            has_trained = bool(self.states.seen.any())
            return final_request(self.states, self.listed, self.config.final_scan) if has_trained else None
        if when is not When.EPOCH_START:
            return None
        ids = choose_rechecks(self.states, self.config, epoch=self.epoch, seed=self.seed)
        return ScanRequest(ids, phase="scanning", message=f"scoring {len(ids):,} samples") if len(ids) else None

    def scanned(self, request: ScanRequest, signals: SampleSignals) -> None:
        finite = np.isfinite(signals.loss)
        ids, found = request.ids[finite], signals.of(finite)
        with looked_at_again(self.states, ids) if request.at_end else nullcontext():
            self._record(ids, found, trained=False)
        if request.at_end and self.config.final_scan:
            self._mark_outliers(ids)

    def _plan(self, epoch: EpochInfo) -> Plan | None:
        config, states = self.config, self.states
        if epoch.number % config.repartition_every == 0:
            states.partition(config)
            self._sorted = states.bucket.copy()
        if epoch.number and is_mastered(states, self.epoch_start_step, config):
            self.reason = f"All samples are mastered after {epoch.number} of {self.epochs} epochs."
            return None
        states.begin_epoch()
        phase = self.phase(epoch.progress)
        plan = plan_epoch(
            states,
            self.samples.lengths,
            config,
            bucket=self._sorted,
            epoch=epoch.number,
            seed=self.seed,
            step_size=self.step_size,
            batch_size=self.batch_size,
            group_by_length=self.group_by_length,
            bucket_weights=phase.weights if phase else config.bucket_weights,
            longest_first=epoch.number == 0,
            everything=is_full_epoch(config, epoch.number, self.epochs),
            skips_mastered=self._skips_mastered,
            skips_suspects=self._skips_suspects(),
            shared_draws=self._shared_draws,
        )
        if plan.steps == 0:
            self.reason = (
                "Every sample is mastered, stable or was seen max_times_seen times: nothing is left to train on."
            )
            return None
        return plan

    @property
    def _skips_mastered(self) -> bool:
        """Whether samples are skipped because they are mastered."""
        return True

    def _skips_suspects(self) -> bool:
        """Whether most of the suspects are left out."""
        return self.noise.leaves_out(int(self.states.suspects().sum()), self.states.count)

    def _conclude(self) -> None:
        if not self.config.noise_guard:
            return
        self._mark_outliers(self.states.met_since(self.epoch_start_step))
        self.noise.conclude(self.states.suspects(), self.epoch)

    def _mark_outliers(self, met: NDArray[Any]) -> None:
        """Note which of the samples `met` [n], in the order in which they came up, have a loss far above that of similar ones."""
        states = self.states
        ids, outlier = loss_outliers(
            self.samples, met, states.bucket[met], states.loss[met], states.min_target_probability[met]
        )
        states.loss_outlier[ids] = self.agree(outlier)

    def _epoch_summary(self, left_out: int = 0, met: int = 0, right: int = 0) -> EpochSummary:
        criterion = self.criterion()
        messages: list[tuple[str, str]] = []
        if left_out:
            messages.append(("info", predicted_sentence(left_out, met, right)))
        if self.epoch < self.epochs:
            found = self.counts().freeze > 0 or self.epoch > 1  # a warning once is enough
            messages.append(("info" if found else "warning", criterion))
        return EpochSummary(left_out, met, right, criterion, tuple(messages))

    def criterion(self) -> str:
        """What is left out as the record stands now, and why."""
        return self._criterion_sentence()

    def _criterion_sentence(self, **more: Any) -> str:
        suspects = int(self.states.suspects().sum())
        leaves_out = self._skips_suspects()
        return criterion_sentence(self.config, self.counts(), suspects, leaves_suspects_out=leaves_out, **more)

    def phase(self, progress: float) -> Phase | None:
        return self.curriculum.phase_at(progress) if self.config.use_curriculum else None

    def pruned_count(self) -> int:
        return int(self.states.pruned(self.config).sum())

    def summary(self) -> dict[str, Any]:
        criterion = MASTERY_CRITERIA[self.config.mastery]
        return super().summary() | {
            "mastery": self.config.mastery,
            "mastery_reason": criterion.reason,
            "criterion": self.criterion(),
        }

    def state_dict(self) -> dict[str, Any]:
        own = {"sorted": self._sorted, "shared_draws": self._shared_draws}
        return super().state_dict() | own | prefixed("noise", self.noise.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._sorted = np.asarray(state["sorted"]) if "sorted" in state else self.states.bucket.copy()
        self._shared_draws = bool(state.get("shared_draws", True))
        self.noise.load_state_dict(part(state, "noise"))


class InfoBatchPolicy(BucketPolicy):
    """Skips samples with a loss below the mean, and trains on everything in the last epochs (Qin and others, 2024)."""


class GekoPolicy(BucketPolicy):
    """GEKO's rule: BucketPolicy, KnownPrediction in the first epoch, and Stability on long free text."""

    def __init__(self, config: GEKOConfig, samples: SelectionData, **options: Any) -> None:
        super().__init__(config, samples, **options)
        self.prediction = KnownPrediction(
            config,
            samples,
            self.states,
            seed=self.seed,
            step_size=self.step_size,
            batch_size=self.batch_size,
            agree=self.agree,
        )
        self.prior = PriorKnowledge(len(samples), config.min_known_share)
        self.stability = Stability(config, samples, self.states, seed=self.seed, epochs=self.epochs, agree=self.agree)

    def scan_request(self, when: When, steps_done: int = 0) -> ScanRequest | None:
        if when in (When.EPOCH_START, When.RUN_END):
            return super().scan_request(when)
        if when is When.STEP:
            ids = self.stability.first_scan(self.plan, steps_done, epoch=self.epoch, since=self.epoch_start_step)
        else:
            ids = self.stability.next_scan(self.epoch, since=self.epoch_start_step, step=self.step)
        return None if ids is None else ScanRequest(ids, with_tokens=True)

    def scanned(self, request: ScanRequest, signals: SampleSignals) -> None:
        if request.with_tokens:
            self.stability.scanned(signals.target_probabilities)
            return
        if self.epoch == 0:  # a scan before the training
            self.prior.observe(signals.correct)
        super().scanned(request, signals)

    def begin_epoch(self, epoch: EpochInfo) -> Plan | None:
        plan = super().begin_epoch(epoch)
        if plan is not None:
            self.prediction.begin_epoch(plan)
        return plan

    def replan(self, steps_done: int) -> Plan | None:
        if self.plan is None or not self.prior.pays:
            return None
        plan = self.prediction.replan(self.plan, steps_done, epoch=self.epoch, since=self.epoch_start_step)
        self.plan = plan or self.plan
        return plan

    def observe(self, ids: NDArray[Any], signals: SampleSignals, step: int) -> None:
        self.prediction.observe(ids, signals.correct)
        if self.epoch == 0:
            self.prior.observe(signals.correct)
        super().observe(ids, signals, step)

    def _conclude(self) -> None:
        self.prediction.end_epoch()
        super()._conclude()
        self.stability.end_epoch(self.epoch)

    def _epoch_summary(self, left_out: int = 0, met: int = 0, right: int = 0) -> EpochSummary:
        return super()._epoch_summary(**self.prediction.results[-1])

    def criterion(self) -> str:
        known = None if self.prior.pays else self.prior.share
        return self._criterion_sentence(churn=self.stability.results, known=known)

    @property
    def _skips_mastered(self) -> bool:
        return self.prior.pays

    def summary(self) -> dict[str, Any]:
        return super().summary() | {
            "known_before": self.prior.share,
            "predicted": self.prediction.results,
            "churn": self.stability.results,
        }

    def state_dict(self) -> dict[str, Any]:
        return (
            super().state_dict()
            | prefixed("prediction", self.prediction.state_dict())
            | prefixed("prior", self.prior.state_dict())
            | prefixed("stability", self.stability.state_dict())
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.prediction.load_state_dict(part(state, "prediction"))
        self.prior.load_state_dict(part(state, "prior"))
        self.stability.load_state_dict(part(state, "stability"))


def policy_for(
    config: GEKOConfig,
    samples: SelectionData,
    *,
    epochs: int,
    seed: int,
    step_size: int,
    batch_size: int = 0,
    group_by_length: bool = True,
    agree: Agree = lambda value: value,
) -> UniformPolicy:
    """The policy that `config` describes: plain training, InfoBatch's rule, or GEKO's."""
    kind = UniformPolicy if not config.enabled else GekoPolicy if config.mastery == "exact_match" else InfoBatchPolicy
    return kind(
        config,
        samples,
        epochs=epochs,
        seed=seed,
        step_size=step_size,
        batch_size=batch_size,
        group_by_length=group_by_length,
        agree=agree,
    )
