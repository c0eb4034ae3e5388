"""The training samples of a run as people read them: texts.parquet and rows.safetensors beside it. Knows no page.

texts.parquet      row i is sample i: `text` (the whole rendered sample), `learnt` (character offsets, begin and end of
                   each learnt part in turn), `messages` and `tools` (as JSON, for conversations that have them), `cut`. Its metadata
                   `layout` is how the rows were read: text, pair or conversation.
rows.safetensors   one array [count] of each: `row` (number in the source, from 1), `tokens`, `targets`, `truncated`
                   (cut at max_length tokens), `equal_to` and `contradicts` (the row number of the first equal sample
                   and of the first one with the same prompt and another answer; 0 for none)

Written once, before the training. A text is kept up to TEXT_LIMIT characters; beyond, `cut` is true.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray
from safetensors.numpy import save_file

from geko_engine.data.batches import TokenizedData
from geko_engine.data.earlier_run import TEXT_LIMIT
from geko_engine.data.formats import Rendering, Segment
from geko_engine.data.rendering import RenderedRows
from geko_engine.exceptions import Stopped
from geko_engine.storage.atomic_files import replace_file

ROWS_AT_A_TIME = 1000
SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("learnt", pa.list_(pa.int32())),
        ("messages", pa.string()),
        ("cut", pa.bool_()),
        ("tools", pa.string()),
    ]
)
Progress = Callable[[int, int], None]


def write_sample_texts(
    folder: Path,
    rendered: RenderedRows,
    data: TokenizedData,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Progress = lambda done, total: None,
) -> None:
    """Write both files to `folder`, each whole or not at all.

    Args:
        folder: the run folder.
        rendered: the rows that `data` was made of.
        data: the samples of the run.
        should_stop: asked every ROWS_AT_A_TIME samples.
        on_progress: called with the samples done and the samples to do.

    Raises:
        Stopped: when should_stop says so.
        OSError: when the disk is full.
    """
    digests = np.zeros((2, len(data)), np.uint64)  # of each sample's prompt and answer

    def write(path: Path) -> None:
        with parquet.ParquetWriter(path, SCHEMA, compression="zstd") as file:
            file.add_key_value_metadata({"layout": rendered.format.layout})
            for first in range(0, len(data), ROWS_AT_A_TIME):
                if should_stop():
                    raise Stopped
                batch = slice(first, first + ROWS_AT_A_TIME)
                chosen = zip(data.rows[batch].tolist(), data.parts[batch].tolist(), strict=True)
                kept = [_text(rendered[number][part]) for number, part in chosen]
                digests[:, first : first + len(kept)] = np.array([digest for digest, _ in kept], np.uint64).T
                file.write_table(pa.Table.from_pylist([values for _, values in kept], SCHEMA))
                on_progress(first + len(kept), len(data))

    replace_file(folder / "texts.parquet", write)
    replace_file(
        folder / "rows.safetensors",
        lambda path: save_file(_facts(data, digests, rendered.format.has_answers), str(path)),
    )


def _text(rendering: Rendering) -> tuple[tuple[int, int], dict[str, Any]]:
    """(digests of prompt and answer, values of the columns) of one sample."""
    turns, tools = _as_json(rendering.turns), _as_json(rendering.tools)
    cut = max(len(rendering.text), len(turns or ""), len(tools or "")) > TEXT_LIMIT
    values = {
        "text": rendering.text[:TEXT_LIMIT],
        "learnt": learnt_spans(rendering, TEXT_LIMIT),
        "messages": None if cut else turns,
        "cut": cut,
        "tools": None if cut else tools,
    }
    return _digests(rendering.segments), values


def _as_json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def learnt_spans(rendering: Rendering, limit: int) -> list[int]:
    """Begin and end of each learnt piece in the text, one after the other, up to `limit` characters."""
    return [place for begin, end in rendering.spans if begin < limit for place in (begin, min(end, limit))]


def _digests(pieces: Sequence[Segment]) -> tuple[int, int]:
    """Of what is read before the last learnt piece, and of that piece: spaces at their ends do not count."""
    last = max((i for i, (text, learnt) in enumerate(pieces) if learnt and text), default=len(pieces) - 1)
    prompt = "".join(text for text, _ in pieces[:last])
    return _digest(prompt.strip()), _digest(pieces[last][0].strip())


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _facts(data: TokenizedData, digests: NDArray[Any], has_answers: bool) -> dict[str, NDArray[Any]]:
    rows = (data.rows + 1).astype(np.int32)
    none = np.zeros(len(data), np.int32)
    return {
        "row": rows,
        "tokens": data.lengths.astype(np.int32),
        "targets": data.targets.astype(np.int32),
        "truncated": np.isin(data.rows, np.array(data.truncated, np.int64)).astype(np.uint8),
        "equal_to": equal_to(data.digests, rows),
        "contradicts": contradictions(digests[0], digests[1], rows) if has_answers else none,
    }


def equal_to(digests: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
    """Row number of the first sample with the same digest, [count]; 0 for the first ones themselves."""
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    original = rows[first[inverse]]
    return np.where(original == rows, 0, original).astype(np.int32)


def contradictions(prompts: NDArray[Any], answers: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
    """Row number of the first sample with the same prompt and another answer, [count]; 0 where there is none."""
    found = np.zeros(len(rows), np.int32)
    _, group, sizes = np.unique(prompts, return_inverse=True, return_counts=True)
    shared = np.flatnonzero(sizes[group] > 1)
    members = np.split(shared[np.argsort(group[shared], kind="stable")], np.cumsum(sizes[sizes > 1])[:-1])
    for ids in members if len(shared) else ():
        other = np.flatnonzero(answers[ids] != answers[ids[0]])
        if len(other):
            # All say against the first one, or, where they agree with it, against the first that does not.
            found[ids] = np.where(answers[ids] == answers[ids[0]], rows[ids[other[0]]], rows[ids[0]])
    return found
