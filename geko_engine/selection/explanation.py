"""What the rule skips in the next epoch, by which criterion, and why: sentences for the user. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from geko_engine.config.selection import GEKOConfig
from geko_engine.selection.label_noise import MOST_SUSPECTS
from geko_engine.selection.mastery import MASTERY_CRITERIA
from geko_engine.selection.sample_records import BucketCounts

NOTHING = (
    "Nothing is mastered so far, so nothing is skipped: this is plain training. Long free-text answers are hardly ever "
    "exactly right; what saves compute there is batching, and fewer epochs."
)
LEARNED = (
    "The model knew {known:.0f} % of the samples before the training. Below {least:.0f} %, skipping what it has just learned "
    "ends worse than a shorter plain run, so no mastered sample is skipped: this is plain training."
)
ALIKE = (
    "Hardly any answer is exactly right here, and training still changes the answers to all kinds of samples, so none is "
    "skipped as stable."
)


def criterion_sentence(
    config: GEKOConfig,
    counts: BucketCounts,
    suspects: int,
    churn: Sequence[Mapping[str, float]] = (),
    known: float | None = None,
    leaves_suspects_out: bool = True,
) -> str:
    """What is skipped from now on.

    Args:
        suspects: samples that the noise guard takes for wrong labels. churn: the results of each scan of the panel, see
            Stability. known: share of the samples that the model knew beforehand, where that is too little for skipping.
        leaves_suspects_out: whether most of them are skipped.
    """
    last = churn[-1] if churn else {}
    stable = int(last.get("stable", 0))
    mastered = _mastered(config, counts.freeze - stable, counts.total)
    if known is not None and mastered:
        mastered = LEARNED.format(known=100 * known, least=100 * config.min_known_share)
    if last:
        mastered = " ".join(filter(None, [_stable(config, stable, counts.total, last), mastered]))
    return " ".join(filter(None, [mastered or NOTHING, _guarded(config, counts.total, suspects, leaves_suspects_out)]))


def _stable(config: GEKOConfig, count: int, total: int, scan: Mapping[str, float]) -> str:
    if not count:
        return ALIKE
    change = f"{scan['stable_churn']:.3f} on average, the others {scan['others_churn']:.3f}"
    return (
        f"Hardly any answer is exactly right here, so GEKO measures what training still changes: {_share(count, total)} are "
        f"similar to those whose target probabilities moved least since the last scan ({change}). {_left_out(config)}"
    )


def _mastered(config: GEKOConfig, count: int, total: int) -> str:
    if not count:
        return ""
    return f"{_share(count, total)} are mastered: {MASTERY_CRITERIA[config.mastery].reason_phrase}. {_left_out(config)}"


def _share(count: int, total: int) -> str:
    return f"{count:,} of {total:,} samples ({100 * count / total:.0f} %)"


def _left_out(config: GEKOConfig) -> str:
    replayed = f"except for a random {100 * config.frozen_replay:.0f} %" if config.frozen_replay else "with no replay"
    return f"They are skipped, {replayed}."


def _guarded(config: GEKOConfig, total: int, suspects: int, leaves_out: bool) -> str:
    if not config.noise_guard or not suspects:
        return ""
    if leaves_out:
        return f"{suspects:,} are probably mislabeled and are mostly skipped."
    why = "too many to be label errors" if suspects > MOST_SUSPECTS * total else "as few as in clean data"
    return f"{suspects:,} may be mislabeled, {why}: they are listed, and none is skipped."


def predicted_sentence(left_out: int, met: int, right: int) -> str:
    """How many samples were skipped because of similar prompts, and how those fared that were trained on all the same."""
    text = f"{left_out:,} samples were skipped because samples with similar prompts are answered correctly"
    return (
        f"{text}; of the {met:,} trained on as a test, {100 * right / met:.0f} % were correct." if met else text + "."
    )


PAST = (  # of the sentences above, for a run that has ended
    (
        "Nothing is mastered so far, so nothing is skipped: this is plain",
        "Nothing was mastered, so nothing was skipped: this was plain",
    ),
    ("answers are hardly ever", "answers were hardly ever"),
    ("so no mastered sample is skipped: this is plain", "so no mastered sample was skipped: this was plain"),
    ("Hardly any answer is exactly right", "Hardly any answer was exactly right"),
    ("and training still changes", "and training still changed"),
    ("so none is skipped", "so none was skipped"),
    ("GEKO measures what training still changes", "GEKO measured what training still changed"),
    ("are similar to those", "were similar to those"),
    (" are mastered:", " were mastered:"),
    ("They are skipped", "They were skipped"),
    ("their loss is below", "their loss was below"),
    ("they are listed, and none is skipped", "they are listed, and none was skipped"),
    ("are mostly skipped", "were mostly skipped"),
)


def in_past_tense(sentence: str) -> str:
    """What `criterion_sentence` said, once the run has ended."""
    for present, past in PAST:
        sentence = sentence.replace(present, past)
    return sentence
