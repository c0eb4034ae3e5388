"""The texts of the page in other languages: complete entries, and how the page gets them."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from geko_app.languages import FOLDER, catalogue, languages
from geko_app.pages.components import SCRIPTS_URL, static_text
from geko_app.server import own_routes

PLACEHOLDER = re.compile(r"\{([a-z_][a-z0-9_]*)\}", re.IGNORECASE)
FILES = sorted(FOLDER.rglob("*.json"))


def test_the_picker_offers_the_languages_that_there_are() -> None:
    declared = re.search(r"LANGUAGES = \{(.*?)\}", static_text("language.js"), re.DOTALL)
    assert declared
    assert sorted(re.findall(r"'?([\w-]+)'?:", declared[1])) == sorted(["en", *languages()])


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_entries_are_whole_and_use_the_placeholders_of_their_key(path) -> None:
    pairs = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=list)
    assert [key for key, count in Counter(key for key, _ in pairs).items() if count > 1] == []
    for key, text in pairs:
        assert key == " ".join(key.split()), f"blanks: {key!r}"
        assert text.strip(), f"no translation: {key!r}"
        assert set(PLACEHOLDER.findall(key)) == set(PLACEHOLDER.findall(text)), key
        names = PLACEHOLDER.findall(key)
        assert len(names) == len(set(names)), f"a placeholder twice: {key!r}"
        assert re.search(r"[A-Za-z,]", PLACEHOLDER.sub("", key)), f"nothing but placeholders: {key!r}"


@pytest.mark.parametrize("language", languages())
def test_two_files_agree_on_a_text(language: str) -> None:
    known: dict[str, tuple[str, str]] = {}
    for path in sorted((FOLDER / language).glob("*.json")):
        for key, text in json.loads(path.read_text(encoding="utf-8")).items():
            first, where = known.setdefault(key, (text, path.stem))
            assert first == text, f"{key!r} is {first!r} in {where} and {text!r} in {path.stem}"


def test_the_page_serves_each_language_and_no_other_file(tmp_path) -> None:
    client = TestClient(Starlette(routes=own_routes(None)))
    for language in languages():
        answer = client.get(f"/{SCRIPTS_URL}/languages/{language}.json")
        assert answer.json() == catalogue(language)
        assert "immutable" in answer.headers["cache-control"]
    for name in ("en", "..", "%2e%2e", "__pycache__"):
        assert client.get(f"/{SCRIPTS_URL}/languages/{name}.json").status_code == 404
