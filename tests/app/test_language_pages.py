"""What the pages say, from their sources: a sentence that somebody adds needs an entry in each language."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import geko_app
import geko_engine
from geko_app.languages import catalogue, languages

APP, ENGINE = Path(geko_app.__file__).parent, Path(geko_engine.__file__).parent
SLOT = "\0"  # what the code puts into a text
PLACEHOLDER = re.compile(r"\{[a-z_][a-z0-9_]*\}", re.IGNORECASE)
SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+(?=[“\"'(]?[A-Z0-9\0])")
ATTRIBUTES = ("aria-label", "title", "placeholder", "alt")
SPEAKING = [  # modules that compose what a page shows
    *(APP / "views").glob("*.py"),
    *(APP / "runs").glob("*.py"),
    *(APP / "samples").glob("*.py"),
    *(APP / "workers").glob("*.py"),
    *(ENGINE / name for name in ("selection/explanation.py", "selection/sample_reasons.py", "training/auto_length.py")),
]
HTML = sorted((APP / "static").glob("*.html"))
SCRIPTS = sorted(path for path in (APP / "static").glob("*.js") if path.name != "language_catalogue.js")
NOT_SHOWN = {  # names in the code, and what goes to a log or console
    "Escape",
    "Enter",
    "Files",
    "Ollama",
    "Notification",
    "Evaluated",
    "label end",
    "label middle",
    "label name",
    "left issues",
    "#field-\0 :is(input, textarea)",
    "label input, label textarea",
    "The texts in \0 could not be loaded; the page stays English.",
    "events version \0, this one reads up to \0",
}


class Texts(HTMLParser):
    """The texts of an HTML file and of the attributes that are shown."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.found.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ATTRIBUTES and value]


def python_texts(source: str) -> Iterator[str]:
    """What a module may show: its strings without docstrings, errors that it raises, and annotations."""
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        found = pending.pop()
        if isinstance(found, ast.Raise | ast.Assert) or _is_log_line(found):
            continue
        if isinstance(found, ast.Expr) and isinstance(found.value, ast.Constant):
            continue
        if isinstance(found, ast.Constant) and isinstance(found.value, str):
            yield found.value
        elif isinstance(found, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else SLOT for part in found.values)
            pending += [part.value for part in found.values if isinstance(part, ast.FormattedValue)]
        else:
            pending += ast.iter_child_nodes(found)


def _is_log_line(found: ast.AST) -> bool:
    """Whether a call writes to the log of a run, which stays English."""
    return isinstance(found, ast.Call) and isinstance(found.func, ast.Attribute) and found.func.attr == "_note"


def script_texts(source: str) -> Iterator[str]:
    """The strings and templates of a script; of a template within a template the outer one has a slot."""
    source = re.sub(r"/\*[\s\S]*?\*/|(?m:(?:^|\s)//.*$)", "", source)
    inner = re.compile(r"'((?:[^'\\\n]|\\.)*)'|`([^`$\\]*(?:\$\{[^{}`]*\}[^`$\\]*)*)`")
    while found := inner.search(source):
        text = found[1] if found[1] is not None else re.sub(r"\$\{[^{}`]*\}", SLOT, found[2])
        yield text.replace("\\'", "'")
        source = source[: found.start()] + "0" + source[found.end() :]


def is_prose(text: str) -> bool:
    """Whether a string is words for people: some words in a row, or one with a capital."""
    if re.search(r"[<>{}=/_\\\n]|^\.|\b[a-z]+-[a-z]+-|%[a-zA-Z]\b|\btr$|button\.", text):
        return False  # code: paths, selectors, commands, formats
    return bool(re.search(r"[A-Za-z]{2,}[,:;]? [a-z]{2,}", text) or re.fullmatch(r"[A-Z][a-z]{2,}[ .:]*", text))


class Keys:
    """The English texts that a language has."""

    def __init__(self, language: str) -> None:
        self.keys = list(catalogue(language))
        self.all = "\n".join(PLACEHOLDER.sub(SLOT, key) for key in self.keys)  # {n} may catch "12 %"
        self.patterns = [
            re.compile(".+?".join(map(re.escape, PLACEHOLDER.split(key)))) for key in self.keys if "{" in key
        ]

    def missing(self, text: str) -> list[str]:
        """The sentences of a text that are no key and in no key."""
        text = " ".join(text.split())
        return [] if self.has(text) else [part for part in SENTENCE_END.split(text) if not self.has(part)]

    def has(self, text: str) -> bool:
        literal = text.replace(SLOT + " %", SLOT).strip(SLOT + " ·.,:;()*")
        if not re.search("[A-Za-z]{2}", literal):
            return True
        if (
            " " not in literal and SLOT not in literal and literal[0].isupper()
        ):  # a part of a key is no entry for a word
            return literal in self.keys or text in self.keys
        if re.search(".*?".join(map(re.escape, literal.split(SLOT))), self.all):
            return True
        return any(pattern.fullmatch(text) for pattern in self.patterns)


@pytest.fixture(scope="module", params=languages())
def keys(request: pytest.FixtureRequest) -> Keys:
    return Keys(request.param)


def untranslated(keys: Keys, texts: Iterator[str]) -> list[str]:
    return sorted({part for text in texts if text not in NOT_SHOWN for part in keys.missing(text)})


def report(left: list[str]) -> str:
    return json.dumps([text.replace(SLOT, "{}") for text in left], indent=1, ensure_ascii=False)


@pytest.mark.parametrize("path", HTML, ids=lambda path: path.name)
def test_texts_of_a_page_have_entries(path: Path, keys: Keys) -> None:
    left = untranslated(keys, iter(Texts(path.read_text(encoding="utf-8")).found))
    assert left == [], report(left)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_texts_of_a_script_have_entries(path: Path, keys: Keys) -> None:
    left = untranslated(keys, filter(is_prose, script_texts(path.read_text(encoding="utf-8"))))
    assert left == [], report(left)


@pytest.mark.parametrize("path", SPEAKING, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_sentences_that_the_server_composes_have_entries(path: Path, keys: Keys) -> None:
    left = untranslated(keys, filter(is_prose, python_texts(path.read_text(encoding="utf-8"))))
    assert left == [], report(left)
