"""The events of a run: frozen dataclasses, passed to the listeners. Knows no screen.

The training loop, with the place where each event is emitted:

    LogOpened                                  # by the writer of events.jsonl
    PhaseChanged("starting"), load model; PhaseChanged("tokenising"), render and tokenise the rows
    RunStarted, Answered
    Evaluated                                  # before training
    for epoch in epochs:
        partition -> Partitioned; plan
        PhaseChanged("scanning"), re-check     # forward only, counted
        for step in plan:                      # a step = one optimizer step; the plan is revised on the way
            for micro-batch in step: forward, record, backward;   should_stop() is called here
            optimizer step -> StepCompleted
            CheckpointSaved, Evaluated         # when due
        EpochEnded, Answered
        Evaluated
    PhaseChanged("scanning"), listed samples   # with the weights that are saved; forward only, counted
    PhaseChanged("saving"), save -> ModelSaved
    RunEnded
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

PAUSED = "paused"  # the phase of a run that waits for room on its disk
EVENTS_VERSION = 2  # of events.jsonl: raised when an event or a field changes its name or meaning


@dataclass(frozen=True)
class Event:
    """Base of all events; `type` is the class name in the JSON form."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values with the class name under "type"."""
        return {"type": type(self).__name__, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class LogOpened(Event):
    """A process begins to write events: the first line of events.jsonl, and one more for each resume.

    Every event up to the next LogOpened has this version. Files of version 1 have no such line.
    """

    events_version: int = EVENTS_VERSION


@dataclass(frozen=True)
class PhaseChanged(Event):
    """The run entered another phase, or made progress in it (done of total; total 0 = unknown)."""

    phase: str
    message: str = ""
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class RunStarted(Event):
    """Model and data are ready. Tokens are real tokens (no padding) of one epoch over all samples.

    resumed_from_seq: the events up to this number are part of the run. Later steps, evaluations, epochs and ends before
    this line were undone by a resume and are repeated: `reporting.event_lines.without_undone` drops them. None where the
    checkpoint is of an earlier version.
    """

    model: str
    samples: int
    eval_samples: int
    epochs: int
    steps_per_epoch: int
    batch_size: int
    tokens_per_epoch: int
    target_tokens_per_epoch: int
    parameters: int
    trainable_parameters: int
    device: str
    precision: str
    resumed_from_step: int = 0
    resumed_from_seq: int | None = None
    processes: int = 1
    max_steps: int = 0  # after which the run ends; 0 where the epochs decide
    mastery: str = ""  # the criterion for FREEZE, and why
    mastery_reason: str = ""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # the efficiency switches, for the header


@dataclass(frozen=True)
class Partitioned(Event):
    """The samples were sorted into buckets before pass `epoch` (from 0). Counts of samples.

    planned: will be trained on in this pass (replayed ones included); replayed: frozen ones among them;
    left_out: suspects and samples over max_times_seen; suspects: now held for wrong labels; pruned: FREEZE for
    more than prune_frozen_after passes.
    """

    epoch: int
    step: int
    freeze: int
    light: int
    focus: int
    hard: int
    unseen: int
    planned: int
    replayed: int
    left_out: int
    suspects: int
    pruned: int = 0


@dataclass(frozen=True)
class StepCompleted(Event):
    """One optimizer step. `loss` = mean over the step's target tokens; token counts and seconds since the start.

    progress: share of the run in [0, 1]. plain_training_tokens: what plain training would have forwarded by now.
    steps_planned: total optimizer steps as the plan stands now. bucket counts: as of the record now. grad_norm: of the
    gradient before clipping; None where it was not finite, and in the events of version 1. backward_cost: of a backward pass, the forward pass being 1.
    seconds_saved_ratio: share of plain training's seconds that were saved, an estimate from the steps of this run; None
    while too few of them were measured.
    """

    step: int
    epoch: int
    progress: float
    steps_planned: int
    loss: float
    learning_rate: float
    phase: str
    samples: int
    tokens_forwarded: int
    tokens_backwarded: int
    plain_training_tokens: int
    compute_saved_ratio: float
    seconds: float
    train_seconds: float
    freeze: int
    light: int
    focus: int
    hard: int
    unseen: int
    grad_norm: float | None = None
    backward_cost: float = 2.0
    seconds_saved_ratio: float | None = None


@dataclass(frozen=True)
class EpochEnded(Event):
    """`epoch` epochs are done, by optimizer step `step`. `loss`: mean over the target tokens of this epoch.

    predicted_left_out: samples left out because similar samples are answered correctly; predicted_met: such samples that
    were trained on all the same; predicted_right: of these, answered right. criterion: what is left out from now on,
    and why, in words.
    """

    epoch: int
    step: int
    loss: float
    predicted_left_out: int = 0
    predicted_met: int = 0
    predicted_right: int = 0
    criterion: str = ""


@dataclass(frozen=True)
class Evaluated(Event):
    """Mean loss per target token and share answered exactly (teacher-forced) on the evaluation set."""

    step: int
    epoch: int
    eval_loss: float
    exact_match: float
    samples: int
    tokens_trained: int
    seconds: float


@dataclass(frozen=True)
class RetentionMeasured(Event):
    """Mean loss per target token on rows of general knowledge, which are never trained on: it rises where a model forgets."""

    step: int
    epoch: int
    loss: float
    samples: int
    tokens_trained: int
    seconds: float


@dataclass(frozen=True)
class LengthChecked(Event):
    """With num_epochs = auto: whether training more is likely to help, from the loss of the averaged weights.

    epochs: of plain training, that `step` stands for. loss: on held-out samples, nats per target token. lowest_at: the step at
    which it is expected to be lowest; gain: share of it to be won by then; None while unknown. goes_on: False
    where the run ends. sentence: why.
    """

    step: int
    epochs: float
    loss: float
    lowest_at: int | None
    gain: float | None
    goes_on: bool
    seconds: float
    sentence: str


@dataclass(frozen=True)
class Answered(Event):
    """Answers to the same prompts before the training (epoch 0), after epochs and at the end, generated greedily.

    answers: for each prompt a mapping with prompt, reference, answer, and what the measures say of it: exact, contains,
    numeric (see inference.answer_metrics). seconds: what it took; it is not counted as compute.
    """

    epoch: int
    step: int
    answers: list[dict[str, Any]]
    seconds: float


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A checkpoint was saved."""

    step: int
    path: str
    seconds: float


@dataclass(frozen=True)
class ModelSaved(Event):
    """The tuned model (or adapter) and its tokenizer were saved. `bytes` is the size of the folder."""

    path: str
    bytes: int


@dataclass(frozen=True)
class Message(Event):
    """A sentence for the user; level is "info" or "warning"."""

    text: str
    level: str = "info"


@dataclass(frozen=True)
class DataPreviewed(Event):
    """The first training samples as the model will see them, before all rows are read.

    columns: all columns of the data. shape: what is read as what. samples: each a list of (text, learnt) pieces.
    """

    columns: list[str]
    shape: str
    samples: list[list[tuple[str, bool]]]


@dataclass(frozen=True)
class DataChecked(Event):
    """All rows of one dataset are tokens. `name` is training or evaluation; counts of rows, samples and tokens.

    lengths: histogram of the samples' lengths as (longest of the bin, count). findings: kind, count, the first row
    numbers (from 1) and the sentence for the user.
    """

    name: str
    source: str
    rows: int
    samples: int
    tokens: int
    target_tokens: int
    longest: int
    lengths: list[tuple[int, int]]
    findings: list[dict[str, Any]]


@dataclass(frozen=True)
class DataIssuesFound(Event):
    """The texts of the training data were checked for label errors, duplicates, personal data and more.

    findings: as of DataChecked, the most severe first.
    """

    findings: list[dict[str, Any]]


@dataclass(frozen=True)
class StepEstimated(Event):
    """Estimated memory in bytes and time in seconds. `verdict` is fits, tight or too much.

    parts: bytes by part. needed: bytes at the worst moment. seconds: of the whole run if nothing were skipped.
    """

    parameters: int
    trainable: int
    parts: dict[str, int]
    needed: int
    free: int
    total: int
    steps: int
    seconds: float
    verdict: str
    sentence: str


@dataclass(frozen=True)
class RunEnded(Event):
    """The end, once. `end` is complete, stopped or failed; `report` is the content of report.json."""

    end: str
    reason: str
    report: dict[str, Any]
    field: str = ""


NAMES_OF_VERSION_1 = {"tokens_uniform": "plain_training_tokens"}


def with_present_names(values: dict[str, Any]) -> dict[str, Any]:
    """An event or a report that version 1 wrote, with the names of this version; `report` inside an event too."""
    if "report" not in values and values.keys().isdisjoint(NAMES_OF_VERSION_1):
        return values  # nearly always: a long run has hundreds of thousands of events
    renamed = {NAMES_OF_VERSION_1.get(name, name): value for name, value in values.items()}
    if isinstance(renamed.get("report"), dict):
        renamed["report"] = with_present_names(renamed["report"])
    return renamed
