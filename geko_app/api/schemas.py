"""What the REST API takes and gives, for its checks and its documentation. Knows no run and no request."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from geko_app.api.corrections import ACTIONS, MOST_DECIDED

HUB_TOKEN = "Of the Hugging Face Hub. It is passed to the worker process and written nowhere."
SHARE = "share of all rows, above 0 and at most 1; without it as many as carried the training."


class Strict(BaseModel):
    """What a client sends: a name that is not known is an error, not ignored."""

    model_config = ConfigDict(extra="forbid")


class StartRequest(Strict):
    """A run to start."""

    config: dict[str, Any] = Field(
        default_factory=dict,
        description="Sections with their settings, as in a YAML file for geko-train. What is left out has its default.",
        examples=[{"model": {"name": "HuggingFaceTB/SmolLM2-135M"}, "data": {"train": "/data/answers.jsonl"}}],
    )
    demo: bool = Field(
        False, description="Begin with the settings of the built-in demo, and change what `config` names."
    )
    hub_token: str = Field("", description=HUB_TOKEN)


class ExportRequest(Strict):
    """An export to begin."""

    to: str = Field(description="merged, gguf, ollama or hub.", examples=["merged"])
    repo: str = Field("", description="Repository for hub, such as ada/support-answers.")
    merged: bool = Field(False, description="For hub: push a complete model instead of the adapter.")
    private: bool = Field(True, description="For hub: whether a new repository is private.")
    hub_token: str = Field("", description=HUB_TOKEN)


class DecideRequest(Strict):
    """A decision on samples."""

    samples: list[StrictInt] = Field(
        min_length=1,
        max_length=MOST_DECIDED,
        description="Their ids. A decision holds for the whole row.",
        examples=[[3]],
    )
    action: str = Field(
        description=f"One of {', '.join(ACTIONS)}. `replace` takes one sample, `accept` takes the suggested answers, `undo` "
        "takes back the last decision.",
        examples=["replace"],
    )
    prompt: str | None = Field(None, description="For replace: the new prompt; null keeps the one that is there.")
    answer: str | None = Field(None, description="For replace: the new answer; null keeps the one that is there.")


class RetrainRequest(Strict):
    """A run to train again."""

    rows: str = Field(
        description="`changed` goes on from the run's model, for two epochs, with what was edited. `corrected` is the same run "
        "from its base model on the corrected rows. `core_set` and `random_set` are the same run on these rows alone.",
        examples=["changed"],
    )
    share: float | None = Field(None, gt=0, le=1, description=f"Of core_set and random_set: {SHARE}")
    changes: dict[str, Any] = Field(
        default_factory=dict,
        description="Settings to change besides, as `config` of a start has them.",
        examples=[{"training": {"num_epochs": 3}}],
    )
    hub_token: str = Field("", description=HUB_TOKEN)


class RunState(BaseModel):
    """How a run is going, or how it ended. Null is what is not known (yet)."""

    id: str
    state: str = Field(
        description="Its phase (queued, starting, training ...), or complete, stopped, failed, interrupted."
    )
    ended: bool = Field(description="Whether it has ended and its process is gone.")
    reason: str = Field(description="Why it ended.")
    queue_position: int | None = Field(description="1 is the first in the queue; null if it is not queued.")
    waits_for: str = Field(description='What a queued run waits for, such as "waits for GPU 0: run NAME".')
    gpus: list[int] = Field(description="The GPUs that the page gave the run, on a machine with several.")
    progress: float | None = Field(description="From 0 to 1.")
    model: str
    data: str
    samples: int | None
    epochs: int | None
    epochs_done: int | None
    steps: int | None
    tokens: int | None = Field(description="Trained tokens.")
    compute_saved_ratio: float | None = Field(
        description="Share of plain training's compute that was saved, from 0 to 1."
    )
    eval_loss_before: float | None
    eval_loss_after: float | None
    exact_match_before: float | None
    exact_match_after: float | None
    train_loss: float | None
    seconds: float | None
    note: str
    folder: str = Field(description="The run's folder on the machine of the page.")
    model_folder: str | None = Field(description="The tuned model's folder.")


class RunList(BaseModel):
    """Some runs, newest first."""

    total: int
    runs: list[RunState]


class Sample(BaseModel):
    """One training sample and its record. Null is what is not known before its first visit."""

    id: int
    row: int = Field(description="In the source, from 1.")
    bucket: str
    loss: float | None
    first_loss: float | None
    confidence: float | None
    correct: bool | None
    q_value: float | None
    times_seen: int
    flagged: bool
    decision: str = Field(description="kept, edited or deleted since the run; empty if nobody has decided.")
    suspicions: list[str] = Field(description="Why it looks wrong; empty if it does not.")
    text: str = Field(description="In a list only the beginning.")


class SampleList(BaseModel):
    """Some samples, and how many match in all."""

    total: int
    check_state: str = Field(
        description="Of the check of the texts, which the first request begins: running, waiting, failed or done. Before its end "
        "nothing is likely mislabeled."
    )
    check: str = Field(description="What was checked, or that it is not.")
    samples: list[Sample]


class SampleEpoch(BaseModel):
    """A sample after one epoch."""

    epoch: int
    loss: float | None
    confidence: float | None
    correct: bool
    bucket: str


class SampleDetail(Sample):
    """One sample with its whole text and its history."""

    prompt: str = Field(description="As `replace` would change it.")
    answer: str = Field(description="As `replace` would change it; of a plain text all of it.")
    cannot_edit: str = Field(description="Why it can only be kept or deleted; empty if it can be edited.")
    suggested_answer: str = Field(description="What `accept` would make of the answer; empty without a suggestion.")
    similar_answer: str = Field(description="Of the row that it contradicts or nearly repeats, if that is another one.")
    learned: list[str] = Field(description="The parts of the text that are learned.")
    why: str = Field(description="Why it is in its bucket.")
    history: list[SampleEpoch]


class Log(BaseModel):
    """How many rows of a run are decided."""

    kept: int
    edited: int
    deleted: int


class Decided(BaseModel):
    """What a decision did."""

    rows: int = Field(description="Rows that it decided.")
    log: Log


class Texts(BaseModel):
    """Of a sample."""

    prompt: str
    answer: str


class Decision(BaseModel):
    """What was decided about one row."""

    sample: int = Field(description="Id of its first sample.")
    row: int = Field(description="In the source, from 1.")
    action: str = Field(description="keep, replace or delete.")
    origin: str = Field(
        description="Where the new text comes from: program (this API), edited (by hand), suggested, similar or model."
    )
    at: str = Field(description="When, in UTC.")
    before: Texts
    after: Texts = Field(description="The same as before, unless the action is replace.")


class DecisionList(BaseModel):
    """What was decided about the rows of a run, in the order of the source; what was undone is not in it."""

    total: int
    log: Log
    decisions: list[Decision]


class CoreSet(BaseModel):
    """The rows that carried the training of a run."""

    kept: int = Field(description="Rows in the set.")
    of: int = Field(description="Rows that the run was trained on.")
    share: float = Field(description="The one of the other.")
    about: str = Field(description="Its size, and what the record says.")
    checked: bool = Field(description="Whether a run on exactly these rows is complete.")
    verdict: str = Field(description="What that run has shown, or that none has.")
    rows: list[int] = Field(description="Their numbers in the source, from 1.")


class ExportState(BaseModel):
    """How far an export has come."""

    to: str
    merged: bool
    running: bool
    text: str = Field(description="What it is doing.")
    error: str = Field(description="Why it failed; empty if it did not.")
    place: str = Field(description="Folder, file or address of the result.")
    sentences: list[str] = Field(description="What to know about the result.")


class Problem(BaseModel):
    """One thing that is wrong."""

    field: str = Field(
        description='Dotted name of the setting or argument to change, or "".', examples=["training.num_epochs"]
    )
    message: str


class ErrorAnswer(BaseModel):
    """Every answer that is no success."""

    detail: str = Field(description="All problems in one text.")
    problems: list[Problem]
