"""The section `geko` of a run: which samples to train on, and the presets. Knows no sample record and no file."""

from __future__ import annotations

from dataclasses import dataclass

from geko_engine.config.declaration import Problem, check, raise_problems, setting


@dataclass
class GEKOConfig:
    """Which samples to train on. The defaults are GEKO_RECOMMENDED; `GEKOConfig.seed()` has the defaults of gekolib.

    Buckets with mastery "exact_match":
        FREEZE: correct, confidence > freeze_confidence, Q-value >= min_q_for_freeze, quality > freeze_quality.
        LIGHT: correct, but not FREEZE.
        FOCUS: wrong, confidence <= focus_confidence.
        HARD: wrong, confidence > focus_confidence.

    Raises:
        ConfigError: if a value is invalid.
    """

    enabled: bool = setting(
        True,
        "Select samples with GEKO; off is plain training.",
        "Switch it off for a control run: every sample in every epoch, at full cost.",
        kw_only=True,
    )
    freeze_confidence: float = setting(
        0.85,
        "Confidence that a correct sample needs to be mastered.",
        "The confidence of a correct sample is the probability of its least likely target token. A lower threshold freezes sooner: it saves more and forgets more.",
        minimum=0,
        maximum=1,
    )
    freeze_quality: float = setting(
        0.80,
        "Quality that a correct sample needs to be mastered.",
        "Quality is 1 minus the rise of the loss since the sample's best visit. At the default thresholds every mastered sample has enough. Raise it if mastered samples are forgotten; less is saved.",
        minimum=0,
        maximum=1,
    )
    focus_confidence: float = setting(
        0.60,
        "A wrong answer above this confidence is HARD, otherwise FOCUS.",
        "Lower it to find more suspicious samples. The noise guard then leaves out more.",
        minimum=0,
        maximum=1,
    )
    bucket_weights: tuple[float, float, float] = setting(
        (1.0, 1.0, 1.0),
        "Loss weights of HARD, FOCUS and LIGHT.",
        "Equal weights gave the best results in our benchmarks.",
        minimum=0,
    )
    use_curriculum: bool = setting(
        False,
        "Mountain curriculum: five phases with their own weights and learning rates.",
        "For comparison only: in our benchmarks it was worse than no curriculum.",
    )
    q_value_lr: float = setting(
        0.1,
        "How fast the Q-value of a sample follows its loss.",
        "The rate of an exponential moving average. Lower it if samples are frozen after one lucky visit; less is saved.",
        minimum=0,
        exclusive=True,
        maximum=1,
    )
    min_q_for_freeze: float = setting(
        0.8,
        "Q-value that a correct sample needs to be mastered.",
        "Raise it to freeze only samples whose loss has been low all along; less is saved.",
        minimum=0,
        maximum=1,
    )
    q_value_loss_scale: float = setting(
        10.0,
        "Loss at which the Q-value of a visit is 0.",
        "Raise it if losses are high from the start and nothing freezes. A higher value freezes sooner and forgets more.",
        unit="nats",
        minimum=0,
        exclusive=True,
    )
    repartition_every: int = setting(
        1,
        "Re-partition the samples into buckets every N epochs.",
        "In between, epochs are planned with the buckets of the last partition, so samples mastered since then still cost compute. Raise it in runs of many short epochs.",
        minimum=1,
    )
    log_bucket_stats: bool = setting(
        True,
        "Print the bucket counts of each epoch on the command line.",
        "The page shows them anyway.",
    )
    max_times_seen: int = setting(
        50,
        "Train on each sample at most this often.",
        "Lower it in long runs on few rows, which are memorized otherwise. Saves compute.",
        unit="visits",
        minimum=1,
    )
    prune_frozen_after: int = setting(
        0,
        "Prune samples that were frozen for more than N epochs; 0 for never.",
        "Pruned samples are replayed more rarely. For runs of many epochs: saves more, and some samples are forgotten.",
        unit="epochs",
        minimum=0,
    )
    pruned_replay: float = setting(
        0.10,
        "Share of the pruned samples to train on again in each epoch.",
        "A lower share saves a little more. 0 removes them for good, and some are forgotten.",
        minimum=0,
        maximum=1,
    )
    frozen_replay: float = setting(
        0.15,
        "Share of the frozen samples to train on again in each epoch.",
        "Replay prevents forgetting, and its cost is counted. A lower share saves more and forgets more.",
        minimum=0,
        maximum=1,
    )
    recheck_ratio: float = setting(
        0.0,
        "Share of the frozen samples to score again in each epoch, without training.",
        "Samples that were forgotten are unfrozen. Raise it if little is replayed; scoring costs a third of training.",
        minimum=0,
        maximum=1,
    )
    prediction_confidence: float = setting(
        0.85,
        "Skip unseen samples with a predicted accuracy above this; 1 for never.",
        "From the first epoch on, GEKO predicts from samples with similar prompts whether a new one would be answered correctly. A lower value saves more and misses more.",
        minimum=0.5,
        maximum=1,
    )
    min_known_share: float = setting(
        0.25,
        "Skip mastered samples only if this share was known before; 0 for always.",
        "Read from the first visits of a sixteenth of the samples. Where the model knew less, what it masters was just learned, and skipping it ended worse than a shorter plain run: then GEKO trains on everything, and says so.",
        minimum=0,
        maximum=1,
        kw_only=True,
    )
    stable_share: float = setting(
        0.25,
        "Skip the most stable samples, up to this share of all change; 0 for never.",
        "For free text, where answers hardly ever match exactly: skips the samples whose predictions training changes least, which together have this share of all change. A higher share saves more.",
        minimum=0,
        maximum=0.5,
    )
    initial_scan: bool = setting(
        False,
        "Score every sample before the first epoch.",
        "Samples that the model already knows are skipped at once. Worth it if the model knows much of the data; costs a third of an epoch.",
    )
    final_scan: bool = setting(
        False,
        "Score every sample once more with the final model.",
        "The list of probably wrong answers then knows samples that were skipped before their first visit, too, and every figure of a sample is that of the final model. Costs a third of an epoch, beyond max_minutes, too; worth it if you want to clean the data. A stopped run is not scanned.",
        kw_only=True,
    )
    mastery: str = setting(
        "exact_match",
        "What counts as mastered.",
        "exact_match: answered exactly, with enough confidence; for free text, what training hardly changes any more. below_mean_loss (InfoBatch): loss below the mean of the data; in our benchmarks no better than simply training for fewer steps.",
        choices=("exact_match", "below_mean_loss"),
    )
    noise_guard: bool = setting(
        True,
        "Leave out samples that are probably mislabeled.",
        "Samples that stay confidently wrong, or whose loss is far above that of similar ones, are listed; 90 % of them are skipped where they are more than clean data has: 1 % after the first epoch, 3 % later. Switch it off if your data is hard.",
    )

    def __post_init__(self) -> None:
        self.bucket_weights = tuple(self.bucket_weights)  # type: ignore[assignment]
        raise_problems(list(self.problems()))

    def problems(self, prefix: str = "") -> list[Problem]:
        """(dotted field, message) of every invalid value; `prefix` is put before the field names."""
        found = list(check(self, prefix))
        broken = {name for name, _ in found}
        if prefix + "bucket_weights" not in broken and not any(self.bucket_weights):
            found.append(
                (prefix + "bucket_weights", "All three weights are 0, so nothing would be trained: raise one of them.")
            )
        return found

    @classmethod
    def seed(cls) -> GEKOConfig:
        """The defaults of gekolib: weights (3, 1, 0) and the mountain curriculum."""
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
