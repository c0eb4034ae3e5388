"""Texts that are no configuration are refused in a sentence, and cost neither the memory nor the time that they ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geko_engine.cli import parse_override
from geko_engine.config.run_config import RunConfig, read_yaml
from geko_engine.config.yaml_text import MAX_TEXT, parse_yaml
from geko_engine.exceptions import ConfigError

LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "This is not valid YAML: while parsing a flow node (line 1: "),
        ("a: 1\nb:\n\tc: 2", r"next token (line 3: found character '\t' that cannot start any token)."),
        ("[" * 50_000, "more than 20 levels. Give only settings"),
        (LAUGHS, "more than 10,000 values"),
        ("a: &a [*a]", "more than 20 levels"),
        ("a: " + "1" * 5000, "has a value that cannot be read: Exceeds the limit"),
        ("a: 2024-13-45", "has a value that cannot be read: month must be in 1..12."),
        ("a: !!python/object/apply:os.system [ls]", "This is not valid YAML: could not determine a constructor"),
        (
            "training:\n  seed: 1\n  num_epochs: 2\n  seed: 3",
            "The key 'seed' stands in lines 2 and 4 of the same section: keep one of them.",
        ),
        ("data: {}\nlora: {}\ndata: {}", "The key 'data' stands in lines 1 and 3 of the same section"),
        ("#" * (MAX_TEXT + 1), "at most 100,000 characters, but this has 100,001"),
    ],
)
def test_what_is_no_configuration(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text)
    assert sentence in str(caught.value)
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be used"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("/dev/zero", "'/dev/zero' is a device, not a file or a folder"),
        ("a\0", "holds a NUL character"),
        ("/none.yaml", r"cannot be read \(No such file"),
        ("/", r"cannot be read \(Is a directory\)"),
    ],
)
def test_what_is_no_configuration_file(name: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_yaml(name)


def test_anchors_are_followed() -> None:
    assert parse_yaml("a: &a {b: 1}\nc: {<<: *a, d: 2}") == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}


def test_an_override_that_is_no_yaml_is_text() -> None:
    assert parse_override("data.train=[") == ("data.train", "[")
    assert parse_override("data.train=2024-13-45.csv") == ("data.train", "2024-13-45.csv")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.just(10**400)
    | st.text(max_size=20)
    | st.dates()
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
SETTINGS = st.dictionaries(
    st.sampled_from(["model", "data", "lora", "training", "geko", "output_dir", "other"]),
    VALUES
    | st.dictionaries(
        st.sampled_from(["name", "train", "eval", "row_flags", "num_epochs", "preset", "target_modules", "seed"]),
        VALUES,
    ),
)


@given(SETTINGS)
def test_every_mapping_is_a_configuration_or_refused_in_sentences(settings: dict) -> None:
    try:
        config = RunConfig.from_dict(settings, on_renamed=lambda sentence: None)
    except ConfigError as error:
        assert all(sentence and len(sentence) < 3000 for _, sentence in error.problems)
    else:
        assert RunConfig.from_dict(parse_yaml(config.to_yaml())) == config


@pytest.mark.parametrize(
    "key", ["geko.preset", "model.name", "data.text_column", "training.seed", "lora.target_modules"]
)
def test_a_number_of_thousands_of_digits_is_no_value(key: str) -> None:
    section, name = key.split(".")
    with pytest.raises(ConfigError, match="This int is not") as caught:
        RunConfig.from_dict(parse_yaml(f"{section}: {{{name}: {16**5000:#x}}}"))
    assert caught.value.problems[0][0] == key


@given(st.text(max_size=200))
def test_every_text_is_read_or_refused(text: str) -> None:
    try:
        RunConfig.from_dict(parse_yaml(text), on_renamed=lambda sentence: None)
    except ConfigError as error:
        assert str(error)
