"""What the page says when something is wrong is translated: every sentence of the source has an entry, and no other has one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from geko_app.languages import FOLDER, catalogue, languages
from geko_engine.data.excluded_rows import read_row_flags
from geko_engine.data.local_files import local_rows
from geko_engine.exceptions import GekoError
from geko_engine.runs.folder import RunFolder
from tests.app.error_sentences import SENTENCE_END, keys, keys_of, tidy

PLACEHOLDER = re.compile(r"\{([a-z_]\w*)\}")


@pytest.fixture(scope="module")
def needed() -> list[str]:
    return keys()


def normal(key: str) -> str:
    """The key whatever its placeholders are called."""
    return PLACEHOLDER.sub("{}", key)


@pytest.mark.parametrize("language", languages())
def test_every_sentence_has_an_entry(language: str, needed: list[str]) -> None:
    known = {normal(key) for key in catalogue(language)}
    assert [key for key in needed if normal(key) not in known] == []


@pytest.mark.parametrize("language", languages())
def test_no_entry_is_of_a_sentence_that_is_gone(language: str, needed: list[str]) -> None:
    entries = json.loads((FOLDER / language / "errors.json").read_text(encoding="utf-8"))
    source = {normal(key) for key in needed}
    assert [key for key in entries if normal(key) not in source] == []


def test_sentences_of_every_kind_are_found(needed: list[str]) -> None:
    assert len(needed) > 600
    assert {
        "The file cannot be written ({reason}).",  # Gradio's
        "All epochs are done.",  # the end of a run
        "There is room on the disk again: the run goes on.",  # an event
        "This request comes from another site ({site}): only the page itself can be opened.",  # a refused request
        "whose answer seems to be cut off",  # of a finding
        "A library met what it cannot survive: a damaged data file, most often.",  # from a table
        "The config.json of {name} is damaged: download the model again.",  # a template of str.format
        "The only row has nothing to learn: every text is empty.",  # one of two alternatives
    } <= set(needed)


def test_a_template_is_split_where_the_page_splits_it() -> None:
    assert keys_of(tidy("There is no {a}. Choose {b}.")) == ["There is no {a}.", "Choose {b}."]
    assert keys_of(tidy("It failed ({a}). {b} is full.")) == ["It failed ({a}). {b} is full."]
    assert tidy("{name!r} and {name!r}: {share:.1f} %") == "{name} and {name2}: {n_share} %"


@pytest.mark.parametrize(
    "fail",
    [
        lambda folder: list(local_rows(str(folder / "none.jsonl"))),
        lambda folder: list(local_rows(str(folder / "broken.jsonl"))),
        lambda folder: list(local_rows(str(folder / "pictures"))),
        lambda folder: read_row_flags(str(folder / "none.json")),
        lambda folder: RunFolder.open(str(folder)),
    ],
    ids=["no file", "no JSON", "no data", "no flags", "no run"],
)
@pytest.mark.parametrize("language", languages())
def test_errors_are_translated_as_they_are_raised(
    fail: Callable[[Path], object], language: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.jsonl").write_text('{"a": 1}\n{', encoding="utf-8")
    (tmp_path / "pictures").mkdir()
    with pytest.raises(GekoError) as caught:
        fail(tmp_path)
    patterns = [re.compile(re.escape(normal(key)).replace(r"\{\}", ".+")) for key in catalogue(language)]

    def is_known(text: str) -> bool:
        return any(pattern.fullmatch(text) for pattern in patterns)

    message = str(caught.value)
    assert is_known(message) or all(map(is_known, SENTENCE_END.split(message))), message
