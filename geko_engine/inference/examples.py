"""Example prompts from a run's data, HARD samples first. Knows rows and the sample record.

The answer of an example comes from its row; nothing is generated here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DataConfig
from geko_engine.data.batches import TokenizedData
from geko_engine.data.formats import (
    Format,
    Row,
    Segment,
    Turn,
    UnusableRow,
    format_as_configured,
    recognise,
    recognise_evaluation,
)
from geko_engine.data.preparation import prepare, render_rows, use_template
from geko_engine.data.rendering import RenderedRows
from geko_engine.data.sources import load_rows
from geko_engine.data.tokenization import encode
from geko_engine.exceptions import GekoError
from geko_engine.inference.generation import readable
from geko_engine.runs.folder import RunFolder
from geko_engine.selection.buckets import Bucket
from geko_engine.selection.sample_records import SampleStates

EACH = 6  # examples per group
FIRST_ROWS = 200  # rows to read if a few are enough
LARGEST = 200_000  # most samples of a run whose rows are all read again to find the HARD ones
TEXT_SHOWN = 40  # words of a plain text used as a prompt
Numbered = tuple[int, Row]


@dataclass(frozen=True)
class Example:
    """One row as an example.

    Attributes:
        ref: group and row number, such as "evaluation:17". before: the rendered prompt, as in training.
        answer_piece: the rendered answer, as in training; `answer` is its readable text.
        earlier: turns before the prompt that go with it. exact: whether an answer can be right or wrong.
        turns: the conversation up to the prompt, and tools that go with it, for formats that have one.
    """

    ref: str
    group: str
    prompt: str
    answer: str
    note: str
    earlier: int
    exact: bool
    before: list[Segment]
    answer_piece: str
    turns: list[Turn] = field(default_factory=list)
    tools: list[Any] | None = None

    @property
    def pieces(self) -> list[Segment]:
        return [*self.before, (self.answer_piece, True)]


def dataset_format(config: RunConfig, tokenizer: Any, should_stop: Callable[[], bool]) -> tuple[Format, str]:
    """(format of the run's rows, "" or why it had to be guessed); the tokenizer gets its template."""
    note = ""
    count = min(100, config.data.sample_count or 100)
    try:
        rows = load_rows(replace(config.data, sample_count=count), should_stop=should_stop)
        format = recognise(rows, config.data, tokenizer)
    except GekoError as error:
        format = format_as_configured(config.data)
        note = f"The run's data cannot be read, so its format is taken from the settings. {error}"
    use_template(format, tokenizer, lambda event: None, config.data.chat_template)
    return format, note


def find_examples(
    folder: RunFolder, config: RunConfig, tokenizer: Any, longest: int, should_stop: Callable[[], bool]
) -> tuple[list[Example], list[str]]:
    """(examples, notes): HARD samples and evaluation rows, or training rows if there are none; notes say what is missing."""
    found: list[Example] = []
    notes: list[str] = []
    groups: tuple[Callable[[], list[Example]], ...] = (
        lambda: _hard_and_held_out(folder, config, tokenizer, longest, should_stop),
        lambda: _evaluation(config, tokenizer, should_stop),
        lambda: [] if found else _training(config, tokenizer, should_stop),
    )
    for group in groups:
        try:
            found += group()
        except GekoError as error:
            notes.append(str(error))
    return found, list(dict.fromkeys(notes))


def first_examples(
    config: RunConfig, tokenizer: Any, should_stop: Callable[[], bool]
) -> tuple[list[Example], list[str]]:
    """(examples, notes): the first evaluation rows, or training rows if there are none. Reads few rows, and no record."""
    notes: list[str] = []
    for group in (_evaluation, _training):
        try:
            found = group(config, tokenizer, should_stop)
        except GekoError as error:
            notes.append(str(error))
        else:
            if found:
                return found, notes
    return [], notes


def _format_of(rows: list[Row], config: DataConfig, tokenizer: Any) -> Format:
    """The format of `rows`; the tokenizer gets its template."""
    format = recognise(rows, config, tokenizer)
    use_template(format, tokenizer, lambda event: None, config.chat_template)
    return format


def _first(asked: int | None) -> int:
    return min(FIRST_ROWS, asked or FIRST_ROWS)


def _evaluation(config: RunConfig, tokenizer: Any, should_stop: Callable[[], bool]) -> list[Example]:
    if not config.data.eval:
        return []
    few = replace(config.data, eval_count=_first(config.data.eval_count))
    rows = load_rows(few, evaluation=True, should_stop=should_stop)
    training, unread = dataset_format(config, tokenizer, should_stop)
    format = recognise_evaluation(rows, None if unread else training, config.data, tokenizer)
    use_template(format, tokenizer, lambda event: None, config.data.chat_template)
    return _usable("evaluation", list(enumerate(rows)), format, tokenizer, {})


def _training(config: RunConfig, tokenizer: Any, should_stop: Callable[[], bool]) -> list[Example]:
    few = replace(config.data, sample_count=_first(config.data.sample_count))
    rows = load_rows(few, should_stop=should_stop)
    return _usable("training", list(enumerate(rows)), _format_of(rows, config.data, tokenizer), tokenizer, {})


def _hard_and_held_out(
    folder: RunFolder, config: RunConfig, tokenizer: Any, longest: int, should_stop: Callable[[], bool]
) -> list[Example]:
    """What the record calls HARD, the most confident first; and what the run itself held out."""
    record = folder.samples_path
    if not record.is_file() or (config.data.sample_count or 0) > LARGEST:
        return []
    data = replace(config.data, eval_ratio=0.0) if config.data.eval else config.data
    rows = load_rows(data, should_stop=should_stop)
    if len(rows) > LARGEST:
        return []
    alone = replace(config, data=replace(data, eval=None))
    if config.data.eval:  # then the run held nothing out, whatever its length is found by
        alone = replace(alone, training=replace(config.training, num_epochs=1))
    rendered = render_rows(alone, {"training": rows}, tokenizer, lambda event: None)
    format = rendered["training"].format
    all_rows = [row or {} for row in rendered["training"].rows]  # replayed ones included
    parts = prepare(alone, rendered, longest, lambda event: None, should_stop)
    samples, notes = _hardest(record, parts[0].data)
    found = _usable("hard", [(row, all_rows[row]) for row in samples], format, tokenizer, notes)
    if len(parts) > 1:
        held = [(int(row), all_rows[row]) for row in parts[1].data.rows[:FIRST_ROWS]]
        found += _usable("evaluation", held, format, tokenizer, {})
    return found


def _hardest(record: Any, data: TokenizedData) -> tuple[list[int], dict[int, str]]:
    """(row numbers of HARD samples, the most confident first; row number -> what the record says of it)."""
    states = SampleStates(len(data))
    states.load(record)
    hard = np.flatnonzero(states.bucket == Bucket.HARD)
    suspects = states.suspects()
    # Where the label is probably wrong, the model may be right: those come last.
    hard = hard[np.lexsort((-states.confidence[hard], suspects[hard]))][: 4 * EACH]
    notes = {
        int(data.rows[i]): f"{100 * float(states.confidence[i]):.0f} % confident, loss {float(states.loss[i]):.2f}"
        + ("; possibly mislabeled" if suspects[i] else "")
        for i in hard
    }
    return list(notes), notes


def examples_of_rows(rendered: RenderedRows, numbers: Iterable[int], count: int) -> list[Example]:
    """The first `count` usable ones of the rows `numbers` of a dataset, counted from 0."""
    rows = ((number, row) for number in numbers if (row := rendered.rows[number]) is not None)
    return list(islice(_examples("evaluation", rows, rendered.format, rendered.tokenizer, {}), count))


def _usable(
    group: str, rows: Sequence[Numbered], format: Format, tokenizer: Any, notes: dict[int, str]
) -> list[Example]:
    return list(islice(_examples(group, rows, format, tokenizer, notes), EACH))


def _examples(
    group: str, rows: Iterable[Numbered], format: Format, tokenizer: Any, notes: dict[int, str]
) -> Iterator[Example]:
    for number, row in rows:
        try:
            rendering = format.render(row, tokenizer)[-1]
        except UnusableRow:
            continue
        pieces = rendering.segments
        if not format.has_answers:
            pieces = _cut(pieces[0][0])
        last = max((i for i, (text, learnt) in enumerate(pieces) if learnt and text), default=-1)
        if last < 0:
            continue
        asked, earlier = format.question(row)
        before, piece = pieces[:last], pieces[last][0]
        ids, learnt = encode([(piece, True)], format, tokenizer)
        answer = readable(tokenizer, [token for token, flag in zip(ids, learnt, strict=True) if flag])
        prompt = before[0][0] if not format.has_answers else asked
        yield Example(
            f"{group}:{number}",
            group,
            prompt,
            answer,
            notes.get(number, ""),
            earlier,
            format.has_answers,
            before,
            piece,
            (rendering.turns or [])[:-1],
            rendering.tools,
        )


def _cut(text: str) -> list[Segment]:
    """The beginning of a text as a prompt, and what follows as the answer."""
    words = text.split(" ")
    count = min(TEXT_SHOWN, len(words) // 2)
    if not count:
        return []
    return [(" ".join(words[:count]), False), (" " + " ".join(words[count:]), True)]
