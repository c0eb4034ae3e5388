"""Flags that a person sets on samples, kept in the run's folder; and what is exported by them. Knows no page.

row_flags.json holds {"rows": [...]}, row numbers in the source from 1.
"""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from geko_app.samples.store import Samples, Texts, changed
from geko_engine.data.excluded_rows import EXCLUDE
from geko_engine.exceptions import RunError
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.atomic_files import replace_json

LOCK = threading.Lock()  # reading and writing anew is one act
HOW = {
    "text": "each line has the text as it was learnt",
    "pair": "each line has prompt and completion, whatever the columns were called before",
    "conversation": "each line has the messages of a conversation",
}


def marked_rows(folder: RunFolder) -> set[int]:
    """Row numbers that are marked; none where the file is missing or is not ours."""
    try:
        rows = json.loads(folder.saved_row_flags().read_text(encoding="utf-8"))["rows"]
        return {row for row in rows if isinstance(row, int)}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def marks_version(folder: RunFolder) -> str:
    """Changes with the marks."""
    return changed(folder.saved_row_flags())


def mark(folder: RunFolder, rows: Iterable[int], *, marked: bool) -> int:
    """Set or take the marks of `rows`; returns how many there are now. Raises RunError."""
    with LOCK:
        before = marked_rows(folder)
        after = before | set(rows) if marked else before - set(rows)
        try:
            replace_json(folder.row_flags_path, {"rows": sorted(after)})
        except OSError as error:
            raise RunError(f"The marks cannot be written ({error.strerror}): free space on the disk.") from error
    return len(after)


def as_settings(folder: RunFolder) -> dict[str, str]:
    """The fields of the form by which another run leaves the marked rows out."""
    return {"data.row_flags": str(folder.saved_row_flags().absolute()), "data.flag_action": EXCLUDE}


def export_sentence(samples: Samples, marked: int) -> str:
    """What the exported dataset is, for the page."""
    left = f"without the {marked:,} marked" if marked else "all of them, as nothing is marked"
    return (
        f"The dataset is written as JSONL, {left}; {HOW.get(samples.texts.layout, HOW['pair'])}. It can be trained on as "
        "it is. Rows that were never trained on (empty, unusable, held out) are not in it."
    )


def write_dataset(samples: Samples, path: Path) -> tuple[int, int]:
    """Write the samples that are not marked to `path` as JSONL; (written, left out as too long to be kept whole)."""
    marked, rows = marked_rows(samples.folder), samples.facts["row"].tolist()
    texts = Texts(samples.folder.texts_path)  # its own: an export must not hold up the page
    written = cut = index = 0
    with path.open("w", encoding="utf-8") as file:
        for batch in texts.batches():
            for values in batch:
                row, index = rows[index], index + 1
                if row in marked:
                    continue
                if values["cut"]:
                    cut += 1
                    continue
                file.write(json.dumps(exported(values, texts.layout), ensure_ascii=False) + "\n")
                written += 1
    return written, cut


def exported(values: dict[str, Any], layout: str) -> dict[str, Any]:
    """One sample in a shape that is recognised as training data and renders to the same text again."""
    text = values["text"]
    if layout == "text":
        return {"text": text}
    if layout == "conversation":
        return {"messages": json.loads(values["messages"])}
    begin = values["learnt"][0] if values["learnt"] else len(text)
    return {"prompt": text[:begin].removesuffix("\n"), "completion": text[begin:]}  # the line break is set anew


def write_list(lines: Iterable[dict[str, Any]], path: Path) -> int:
    """Write the suspicious samples to `path` as CSV; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ("row", "marked", "bucket", "loss", "confidence", "reasons", "beginning"))
        writer.writeheader()
        for line in lines:
            writer.writerow({name: unarmed(value) for name, value in line.items()})
            count += 1
    return count


def unarmed(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula stands behind an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
