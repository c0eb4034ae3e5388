"""Flags that a person sets on samples, kept in the run's folder, and the exports that leave flagged rows out.

row_flags.json holds {"rows": [...]}, row numbers in the source from 1. Knows no page.
"""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from geko_app.samples.correction_log import file_version, own_decisions
from geko_app.samples.store import Samples, Texts
from geko_engine.data.corrections import DELETE, REPLACE, Correction, correct_turns
from geko_engine.data.excluded_rows import EXCLUDE
from geko_engine.exceptions import RunError
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.atomic_files import replace_json

LOCK = threading.Lock()  # reading and rewriting the flags is one step
CSV_COLUMNS = ("row", "flagged", "bucket", "loss", "confidence", "issues", "prompt", "answer")
EXPORTED_AS = {
    "text": "each line has the text",
    "pair": "each line has prompt and completion, whatever the columns were called before",
    "conversation": "each line has the messages of a conversation",
}


def flagged_rows(folder: RunFolder) -> set[int]:
    """The flagged row numbers of a run; none if the file is missing or damaged."""
    try:
        rows = json.loads(folder.saved_row_flags().read_text(encoding="utf-8"))["rows"]
        return {row for row in rows if isinstance(row, int)}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def flags_version(folder: RunFolder) -> str:
    """A text that changes with the flags."""
    return file_version(folder.saved_row_flags())


def set_flags(folder: RunFolder, rows: Iterable[int], *, flagged: bool) -> int:
    """Flag or unflag rows.

    Args:
        folder: the run.
        rows: their numbers.
        flagged: True to flag, False to unflag.

    Returns:
        How many rows are flagged now.

    Raises:
        RunError: the disk refuses.
    """
    with LOCK:
        before = flagged_rows(folder)
        after = before | set(rows) if flagged else before - set(rows)
        try:
            replace_json(folder.row_flags_path, {"rows": sorted(after)})
        except OSError as error:
            raise RunError(f"The flags cannot be saved ({error.strerror}): free some space on the disk.") from error
    return len(after)


def as_settings(folder: RunFolder) -> dict[str, str]:
    """The form fields, by key, with which another run leaves the flagged rows out; none where nothing was ever flagged."""
    path = folder.saved_row_flags()
    return {"data.row_flags": str(path.absolute()), "data.flag_action": EXCLUDE} if path.is_file() else {}


def export_sentence(samples: Samples, flagged: int, contents: str = "") -> str:
    """What the exported dataset contains.

    Args:
        flagged: number of flagged rows. contents: what the corrections change in it, as a sentence; "" for nothing.
    """
    begin = f"{contents} The dataset is saved as JSONL" if contents else "The dataset is saved as JSONL"
    everything = "" if contents else ", with all samples, as none is flagged"
    rows = "row" if flagged == 1 else "rows"
    without = f", without the {flagged:,} flagged {rows}" if flagged else everything
    return (
        f"{begin}{without}; {EXPORTED_AS.get(samples.texts.layout, EXPORTED_AS['pair'])}. You can "
        "train on it as it is. Rows that were not trained on (empty, unusable, held out) are not included."
    )


def dataset_name(folder: RunFolder) -> str:
    """The name of the file that `write_dataset` is to write all rows of a run to."""
    return f"{folder.id}-cleaned.jsonl"


def write_dataset(samples: Samples, path: Path, only: Collection[int] | None = None) -> tuple[int, int]:
    """Write the samples that are neither flagged nor deleted to `path`, as JSONL; edited ones as they were edited.

    Args:
        samples: of the run. path: of the file. only: the row numbers to write; None for all.

    Returns:
        (number written, number left out because the run has not kept their whole text).
    """
    flagged, rows, decided = flagged_rows(samples.folder), samples.facts["row"].tolist(), own_decisions(samples.folder)
    texts = Texts(samples.folder.texts_path)  # its own: an export must not block the page
    written = cut = index = 0
    with path.open("w", encoding="utf-8") as file:
        for batch in texts.batches():
            for values in batch:
                row, index = rows[index], index + 1
                made = decided.get(row)
                if only is not None and row not in only:
                    continue
                if row in flagged or (made is not None and made.action == DELETE):
                    continue
                if values["cut"]:
                    cut += 1
                    continue
                file.write(json.dumps(corrected(exported(values, texts.layout), made), ensure_ascii=False) + "\n")
                written += 1
    return written, cut


def exported(values: dict[str, Any], layout: str) -> dict[str, Any]:
    """One sample in a format that is detected as training data and renders to the same text again."""
    text = values["text"]
    if layout == "text":
        return {"text": text}
    if layout == "conversation":
        tools = values.get("tools")  # runs of version 1 have not kept them
        return {"messages": json.loads(values["messages"]), **({"tools": json.loads(tools)} if tools else {})}
    begin = values["learnt"][0] if values["learnt"] else len(text)
    return {"prompt": text[:begin].removesuffix("\n"), "completion": text[begin:]}  # rendering adds the line break


def corrected(sample: dict[str, Any], made: Correction | None) -> dict[str, Any]:
    """An exported sample as a person has edited it."""
    if made is None or made.action != REPLACE:
        return sample
    if "text" in sample:
        return sample if made.answer is None else {"text": made.answer}
    if "messages" in sample:
        return {**sample, "messages": correct_turns(sample["messages"], made.prompt, made.answer)}
    texts = {"prompt": made.prompt, "completion": made.answer}
    return sample | {name: text for name, text in texts.items() if text is not None}


def write_list(lines: Iterable[dict[str, Any]], path: Path) -> int:
    """Write a list of samples to `path`, as CSV; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS)
        writer.writeheader()
        for line in lines:
            writer.writerow({name: escape_formula(value) for name, value in line.items()})
            count += 1
    return count


def escape_formula(value: Any) -> Any:
    """The value, with an apostrophe before a text that a spreadsheet would run as a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
