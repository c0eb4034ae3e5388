"""Prompt and answer of a sample, from its rendering or from what texts.parquet keeps of it. Imports no torch.

Of a conversation these are its last answer and what stands before it, without the marks of the chat template. A plain text
is an answer without a prompt.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet

from geko_engine.data.formats.base import Rendering

COLUMNS = ["text", "learnt", "messages"]
AT_A_TIME = 1000


def prompt_and_answer(values: Mapping[str, Any], layout: str) -> tuple[str, str]:
    """What is asked and what is learned as the answer.

    Args:
        values: the columns text, learnt and messages of one sample.
        layout: text, pair or conversation.
    """
    if layout == "text":
        return "", values["text"]
    turns = json.loads(values["messages"]) if values.get("messages") else []
    return _of_turns(turns) or _of_text(values["text"], values["learnt"])


def of_rendering(rendering: Rendering, layout: str) -> tuple[str, str]:
    """The same of a sample that is not written yet."""
    if layout == "text":
        return "", rendering.text
    spans = [place for span in rendering.spans for place in span]
    return _of_turns(rendering.turns or []) or _of_text(rendering.text, spans)


def _of_turns(turns: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """What is asked and answered last, without the system's words; None where turns hold more than text."""
    spoken = [(turn.get("role"), turn.get("content")) for turn in turns]
    if len(spoken) < 2 or spoken[-1][0] != "assistant" or not all(isinstance(content, str) for _, content in spoken):
        return None
    return "\n".join(str(content) for role, content in spoken[:-1] if role != "system"), str(spoken[-1][1])


def _of_text(text: str, learnt: Sequence[int]) -> tuple[str, str]:
    begin, end = learnt[-2:] if learnt else (len(text), len(text))
    return text[:begin].strip(), text[begin:end].strip()


def read_pairs(path: Path) -> Iterator[tuple[str, str]]:
    """(prompt, answer) of every sample in a texts.parquet."""
    file = parquet.ParquetFile(path)
    layout = (file.metadata.metadata or {}).get(b"layout", b"pair").decode()
    for batch in file.iter_batches(AT_A_TIME, columns=COLUMNS):
        for values in batch.to_pylist():
            yield prompt_and_answer(values, layout)
