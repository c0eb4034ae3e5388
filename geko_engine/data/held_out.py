"""Rows that a run held out of its training data, so that a run made from it (data.replay, corrections, row flags) holds out the same.

held_out.json   {"texts": [...]}: a digest of the text of each, in hexadecimal digits; written by runs that held rows out

Otherwise such a run would be trained on rows that the earlier one was evaluated on, and the two could not be compared.
"""

from __future__ import annotations

import json
from pathlib import Path

from geko_engine.config.run_config import RunConfig
from geko_engine.data.batches import TokenizedData
from geko_engine.data.corrected_rows import digests_of_row
from geko_engine.data.rendering import RenderedRows
from geko_engine.storage.atomic_files import replace_json
from geko_engine.storage.user_paths import expand

NAME = "held_out.json"


def wants_held_out(config: RunConfig) -> bool:
    """Whether a run evaluates on a share of its training data."""
    return not config.data.eval and bool(config.data.eval_ratio or config.training.finds_length)


def held_out_before(config: RunConfig, rendered: RenderedRows) -> frozenset[int]:
    """Numbers, from 0, of the rows that the run held out which this one goes on from; none where it wants none itself.

    Args:
        config: names that run by data.replay, data.corrections or data.row_flags.
        rendered: all rows of the training data.
    """
    folders = [expand(config.data.replay)] if config.data.replay else []
    folders += [expand(file).parent for file in (config.data.corrections, config.data.row_flags) if file]
    texts = {text for folder in folders for text in _read(folder / NAME)} if wants_held_out(config) else set()
    if not texts:
        return frozenset()
    found = ((number, digests_of_row(rendered, number)) for number in range(len(rendered)))
    return frozenset(n for n, digests in found if digests and all(digest.hex() in texts for digest in digests))


def write_held_out(folder: Path, rendered: RenderedRows, held: TokenizedData) -> None:
    """Write down which rows a run holds out. Raises OSError when the disk refuses."""
    digests = {
        digest.hex() for number in sorted(set(held.rows.tolist())) for digest in digests_of_row(rendered, number)
    }
    replace_json(folder / NAME, {"texts": sorted(digests)})


def _read(path: Path) -> list[str]:
    """What `write_held_out` wrote; none where there is no such file, or a damaged one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["texts"]
        return [text for text in found if isinstance(text, str)]
    except (OSError, ValueError, KeyError, TypeError):
        return []
