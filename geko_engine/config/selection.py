"""The section `geko` of a run: which samples get compute, and the presets. Knows no record and no file."""

from __future__ import annotations

from dataclasses import dataclass

from geko_engine.config.declaration import Problem, check, raise_problems, setting


@dataclass
class GEKOConfig:
    """Which samples get compute. The defaults are GEKO_RECOMMENDED; `GEKOConfig.seed()` gives gekolib's own.

    FREEZE = correct, confidence > freeze_confidence, Q >= min_q_for_freeze, quality > freeze_quality;
    LIGHT = correct otherwise; FOCUS = wrong, confidence <= focus_confidence; HARD = wrong, above it.
    """

    enabled: bool = setting(
        True,
        "Off: every sample in every epoch, as plain training does, for comparison. Costs all the compute that GEKO would save.",
        kw_only=True,
    )
    freeze_confidence: float = setting(
        0.85,
        "A correct sample is mastered when its least likely token is at least this likely. Lower freezes sooner: it saves more and forgets more.",
        minimum=0,
        maximum=1,
    )
    freeze_quality: float = setting(
        0.80,
        "A sample whose loss has risen since its best visit by 1 minus this is not mastered. Raise it when mastered samples are forgotten; it saves less then.",
        minimum=0,
        maximum=1,
    )
    focus_confidence: float = setting(
        0.60,
        "A wrong answer above this confidence is HARD, below it FOCUS. Lower it to find more suspicious samples; the noise guard then leaves out more.",
        minimum=0,
        maximum=1,
    )
    bucket_weights: tuple[float, float, float] = setting(
        (1.0, 1.0, 1.0),
        "Loss weights of HARD, FOCUS and LIGHT. Equal weights measured best: change them only to try something. Costs no compute.",
        minimum=0,
    )
    use_curriculum: bool = setting(
        False,
        "Mountain curriculum: five phases with their own weights and learning-rate factors. It measured worse than none: only for comparison. Costs no compute.",
    )
    q_value_lr: float = setting(
        0.1,
        "How fast a sample's Q-value follows its loss. Lower it when samples are frozen after one lucky visit; it saves less then.",
        minimum=0,
        exclusive=True,
        maximum=1,
    )
    min_q_for_freeze: float = setting(
        0.8,
        "Q-value that a mastered sample needs. Raise it to freeze only what had a low loss all along; it saves less then.",
        minimum=0,
        maximum=1,
    )
    q_value_loss_scale: float = setting(
        10.0,
        "Loss that counts as Q = 0. Raise it when losses are high from the start and nothing freezes; a higher one freezes sooner and forgets more.",
        unit="nats",
        minimum=0,
        exclusive=True,
    )
    repartition_every: int = setting(
        1,
        "Sort the samples into buckets again every so many epochs. Raise it in runs of many short epochs; what is mastered meanwhile still costs compute.",
        minimum=1,
    )
    log_bucket_stats: bool = setting(
        True, "The command line prints the bucket counts of each epoch; the page shows them anyway. Costs nothing."
    )
    max_times_seen: int = setting(
        50,
        "A sample is trained on at most so often. Lower it in long runs on few rows, where they are learnt by heart. Saves compute.",
        unit="visits",
        minimum=1,
    )
    prune_frozen_after: int = setting(
        0,
        "After so many epochs as FREEZE a sample is pruned, that is replayed more rarely; 0 for never. For runs of many epochs: saves more, and some are forgotten.",
        unit="epochs",
        minimum=0,
    )
    pruned_replay: float = setting(
        0.10,
        "Share of the pruned samples trained on again in each epoch. Lower saves a little more; 0 removes them for good, and some are forgotten.",
        minimum=0,
        maximum=1,
    )
    frozen_replay: float = setting(
        0.15,
        "Share of the frozen samples trained on again in each epoch, against forgetting. Lower saves more and forgets more; what they cost is counted.",
        minimum=0,
        maximum=1,
    )
    recheck_ratio: float = setting(
        0.0,
        "Share of the frozen samples only looked at in each epoch, so that forgotten ones thaw. Raise it where little is replayed; a look costs a third of training.",
        minimum=0,
        maximum=1,
    )
    prediction_confidence: float = setting(
        0.85,
        "What samples with similar prompts make so likely to be answered right is left out before it has come up, from the "
        "first epoch on. Lower saves more and misses more; 1 for never.",
        minimum=0.5,
        maximum=1,
    )
    stable_share: float = setting(
        0.25,
        "Where hardly any answer is ever exactly right, as in long texts, the samples that training changes least are left out: "
        "those with this share of all change. Higher saves more; 0 for never.",
        minimum=0,
        maximum=0.5,
    )
    initial_scan: bool = setting(
        False,
        "Look at every sample before the first epoch, so that what is known is skipped at once. On when the model knows much already; costs a third of an epoch.",
    )
    mastery: str = setting(
        "exact_match",
        "exact_match: answered exactly and surely; for free text, what training hardly changes. below_mean_loss (InfoBatch): in our benchmarks no better than simply training for fewer steps.",
        choices=("exact_match", "below_mean_loss"),
    )
    noise_guard: bool = setting(
        True,
        "Leave out 90 % of the samples that stay confidently wrong, or at once where samples like them are not: most are wrong labels. Off when your data is clean but hard; they then cost compute again.",
    )

    def __post_init__(self) -> None:
        self.bucket_weights = tuple(self.bucket_weights)  # type: ignore[assignment]
        raise_problems(list(self.problems()))

    def problems(self, prefix: str = "") -> list[Problem]:
        """Every broken rule as (dotted field, message)."""
        found = list(check(self, prefix))
        broken = {name for name, _ in found}
        if prefix + "bucket_weights" not in broken and not any(self.bucket_weights):
            found.append(
                (prefix + "bucket_weights", "All three weights are 0, so nothing would be trained: raise one.")
            )
        return found

    @classmethod
    def seed(cls) -> GEKOConfig:
        """The defaults that GEKO was first published with: weights (3, 1, 0) and the mountain curriculum."""
        return cls(bucket_weights=(3.0, 1.0, 0.0), use_curriculum=True)


GEKO_RECOMMENDED = GEKOConfig()
GEKO_AGGRESSIVE = GEKOConfig(freeze_confidence=0.90, bucket_weights=(5.0, 2.0, 0.0))
GEKO_BALANCED = GEKOConfig(freeze_confidence=0.85, bucket_weights=(3.0, 2.0, 1.0))
GEKO_CONSERVATIVE = GEKOConfig(freeze_confidence=0.80, bucket_weights=(2.0, 2.0, 1.0))
PRESETS: dict[str, GEKOConfig] = {
    "recommended": GEKO_RECOMMENDED,
    "aggressive": GEKO_AGGRESSIVE,
    "balanced": GEKO_BALANCED,
    "conservative": GEKO_CONSERVATIVE,
}
