"""The form: every setting is on it, bad values are reported at their fields, and it can be exported in three ways."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from geko_app.form import export, preset_results
from geko_app.form import values as form
from geko_app.form.fields import FIELDS, GROUPS, PRECISION_KEY, PRESET_KEY, STEPS
from geko_engine.cli import build_parser, parse_override
from geko_engine.config.run_config import SECTIONS, RunConfig, apply_overrides
from geko_engine.config.selection import GEKO_AGGRESSIVE, PRESETS
from geko_engine.exceptions import ConfigError
from geko_engine.runs.folder import RunFolder


def values(**changes: Any) -> list[Any]:
    shown = {**form.defaults("runs"), **{key.replace("__", "."): value for key, value in changes.items()}}
    return [shown[field.key] for field in FIELDS]


def test_the_untouched_form_is_the_demo() -> None:
    assert form.to_config(values()) == RunConfig.demo()
    assert form.problems_of(values()) == {}


def test_the_form_shows_what_a_configuration_says_and_gives_it_back() -> None:
    config = RunConfig.from_dict(
        {
            "model": {"name": "gpt2"},
            "data": {"train": "squad", "sample_count": 200},
            "geko": {"preset": "aggressive"},
            "training": {"learning_rate": 2e-5, "num_epochs": 7},
            "lora": {"enabled": True, "r": 4},
            "output_dir": "elsewhere",
        }
    )
    shown = form.from_config(config)
    back = form.to_config([shown[field.key] for field in FIELDS])
    assert back.geko == GEKO_AGGRESSIVE and back.lora == config.lora and back.output_dir == "elsewhere"
    assert (back.data.sample_count, back.training.learning_rate, back.training.num_epochs) == (200, 2e-5, 7)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("model__name", "", "No model is given"),
        ("model__name", "./nowhere", "There is no folder"),
        ("data__train", "none.jsonl", "There is no file"),
        ("data__eval", "none.csv", "There is no file"),
        ("training__num_epochs", 0, "give at least 1"),
        ("training__num_epochs", None, "A value is missing"),
        ("data__sample_count", "0", "give at least 1"),
        ("data__sample_count", "-3", "give at least 1"),
        ("data__sample_count", "many", "not a whole number"),
        ("training__learning_rate", "abc", "'abc' is not a number"),
        ("training__learning_rate", "", "A value is missing"),
        ("output_dir", "/proc/x", "cannot be written"),
        ("training__batch_size", 2.5, "not a whole number"),
    ],
)
def test_each_bad_value_is_reported_at_its_field(key: str, value: Any, sentence: str) -> None:
    problems = form.problems_of(values(**{key: value}))
    assert list(problems) == [key.replace("__", ".")] and sentence in problems[key.replace("__", ".")]


def test_all_bad_values_are_reported_at_once() -> None:
    assert set(form.problems_of(values(training__num_epochs=0, training__learning_rate="x"))) == {
        "training.num_epochs",
        "training.learning_rate",
    }


def test_every_setting_is_on_the_form_once() -> None:
    settings = {f"{s}.{f.name}" for s, cls in SECTIONS.items() for f in dataclasses.fields(cls)} | {"output_dir"}
    behind = {"training.output_dir", "training.bf16", "training.fp16"}  # the first is output_dir, the others a choice
    keys = [field.key for field in FIELDS]
    assert set(keys) - {PRESET_KEY, PRECISION_KEY} == settings - behind and len(keys) == len(set(keys))


def test_every_setting_has_one_short_line_of_help_and_details_of_its_own() -> None:
    texts = {field.key: (field.help, field.details) for field in FIELDS}
    for section, cls in SECTIONS.items():
        specs = {f"{section}.{field.name}": field.metadata["spec"] for field in settings_of(cls)}
        texts |= {key: (spec.help, spec.details) for key, spec in specs.items()}
    for key, (text, details) in texts.items():
        assert text.endswith(".") and text.count(". ") == 0 and 20 <= len(text) <= 80, (key, text)
        assert details.endswith(".") and 25 <= len(details) <= 300 and text not in details, (key, details)


def settings_of(cls: type) -> list[Any]:
    return [field for field in dataclasses.fields(cls) if "spec" in field.metadata]


def test_precision_is_one_choice() -> None:
    config = form.to_config(values(training__precision="bf16"))
    assert (config.training.bf16, config.training.fp16) == (True, False)
    assert form.from_config(config)[PRECISION_KEY] == "bf16"
    assert list(form.problems_of(values(training__precision="fp8"))) == [PRECISION_KEY]
    assert form.label_of("training.fp16") == "Precision"


def test_presets_fill_every_rule_in_and_are_recognised() -> None:
    for name, shown in form.preset_values().items():
        config = form.to_config(values(**{key.replace(".", "__"): value for key, value in shown.items()}))
        assert config.geko == PRESETS[name] and form.from_config(config)[PRESET_KEY] == name
    assert form.from_config(RunConfig.from_dict({"geko": {"freeze_confidence": 0.7}}))[PRESET_KEY] == form.CUSTOM


def test_presets_show_what_was_measured() -> None:
    for entry in preset_results.measured():
        assert set(entry["arms"]) == {"plain", *PRESETS} and entry["arms"]["plain"]["compute"] == 1
        assert entry["what"] in preset_results.preset_note()
    assert "banking77" in preset_results.measured()[0]["what"], "real data first: its figures stand beside the presets"
    found = preset_results.measured()[0]["arms"]
    lines = preset_results.preset_lines()
    assert set(lines) == {name for _, name in preset_results.preset_choices()}
    for name in PRESETS:
        assert lines[name].startswith(f"{100 * found[name]['compute']:.0f} % compute")


def test_the_data_to_read_is_what_the_form_says_of_it_and_nothing_else() -> None:
    sent = {
        "data.train": " rows.csv ",
        "data.prompt_column": "ask",
        "data.sample_count": "",
        "training.num_epochs": "x",
    }
    config = form.data_to_read(sent)
    assert (config.data.train, config.data.prompt_column, config.data.sample_count) == ("rows.csv", "ask", None)
    assert config.training == RunConfig().training
    with pytest.raises(ConfigError, match="not a whole number"):
        form.data_to_read({"data.sample_count": "many"})


def test_every_group_is_in_one_step() -> None:
    in_steps = [group for step in STEPS for group in (step.open, *step.folded) if group]
    assert sorted(in_steps) == sorted(GROUPS)


def test_only_texts_and_choices_of_the_form_change_single_fields() -> None:
    asked = {"data.row_flags": "m.json", "data.flag_action": "never_freeze", "nothing": "x", 3: "x"}
    refused = {"data.train": 7, "geko.mastery": "none", "training.batch_size": "9", "output_dir": ["x"]}
    assert form.changed_fields(asked | refused) == {"data.row_flags": "m.json", "data.flag_action": "never_freeze"}


# ---------------------------------------------------------------- YAML, command and Python

CHANGED = st.fixed_dictionaries(
    {},
    optional={
        "model": st.fixed_dictionaries({"name": st.sampled_from(["demo", "gpt2", "owner/some-model"])}),
        "data": st.fixed_dictionaries(
            {"train": st.sampled_from(["demo", "a b's.jsonl", "squad"]), "eval": st.sampled_from([None, "x.csv"])}
        ),
        "training": st.fixed_dictionaries(
            {"learning_rate": st.sampled_from([5e-5, 1e-4]), "bf16": st.booleans(), "num_epochs": st.integers(1, 9)}
        ),
        "geko": st.fixed_dictionaries({"preset": st.sampled_from(list(PRESETS)), "noise_guard": st.booleans()}),
        "lora": st.fixed_dictionaries({"enabled": st.booleans(), "target_modules": st.just(["q_proj", "v_proj"])}),
    },
)


@given(CHANGED)
def test_yaml_command_and_python_are_the_form_in_other_words(changed: dict[str, Any]) -> None:
    config = RunConfig.from_dict(changed)
    shown = export.from_yaml(export.as_yaml(config), on_renamed=pytest.fail)
    assert form.to_config([shown[field.key] for field in FIELDS]) == config

    words = shlex.split(export.as_command(config).replace("\\\n", ""))
    options = build_parser().parse_args(words[1:])
    base = RunConfig.demo().to_dict() if options.demo else {}
    assert RunConfig.from_dict(apply_overrides(base, dict(map(parse_override, options.overrides)))) == config

    seen: dict[str, Any] = {}
    script = export.as_python(config).split("report =")[0]
    exec(script, seen)
    assert seen["config"] == config


def test_the_command_really_starts_the_run(tmp_path: Any) -> None:
    from geko_engine import cli

    config = RunConfig.from_dict({"data": {"train": "demo", "sample_count": 3}, "output_dir": str(tmp_path)})
    config.training.num_epochs = 9
    words = shlex.split(export.as_command(config).replace("\\\n", ""))
    folder, found = cli._open(build_parser().parse_args(words[1:]))
    assert found == config and isinstance(folder, RunFolder) and folder.config() == config


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("training:\n  num_epoch: 3", "There is no setting named 'num_epoch'. Did you mean 'num_epochs'?"),
        ("training:\n  num_epochs: 0", "give at least 1"),
        ("a: [", "This is not valid YAML"),
        ("[" * 5000, "more than 20 levels"),
        ("a: " + "[" * 50 + "]" * 50, "more than 20 levels"),
        ("training:\n  seed: " + "1" * 5000, "has a value that cannot be read: Exceeds the limit"),
        ("model:\n  name: 2024-13-45", "has a value that cannot be read: month must be in 1..12"),
        (
            "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 18)),
            "more than 10,000",
        ),
        ('model:\n  name: "\\0"', "holds a NUL character: type it again"),
        ("just words", "must be a mapping of keys and values"),
        ("x" * 200_000, "at most 100,000 characters, but this has 200,000"),
    ],
)
def test_a_yaml_that_is_wrong_is_refused_in_words(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        export.from_yaml(text, on_renamed=pytest.fail)
    assert any(sentence in message for _, message in caught.value.problems)


def test_an_empty_yaml_is_the_defaults() -> None:
    shown = export.from_yaml("", on_renamed=pytest.fail)
    assert form.to_config([shown[field.key] for field in FIELDS]) == RunConfig()
    assert yaml.safe_load(export.as_yaml(RunConfig())) == {"model": {"name": "demo"}, "data": {"train": "demo"}}


HOSTILE = st.one_of(
    st.text(st.characters(), max_size=60),  # surrogates and NUL too
    st.text("/.~\\\0\ud800\n", max_size=12).filter(lambda text: "//" not in text + "/" and text.strip() != "/"),
    st.sampled_from(["1" * 5000, "-" + "9" * 400, "1e400", "nan", "inf", "x" * 5000, "/dev/zero", "~nobody/x", "a\0b.csv"]),
    st.floats(),
    st.integers() | st.sampled_from([10**400, -(10**400), 16**5000]),
    st.none() | st.booleans() | st.lists(st.text(max_size=3), max_size=3) | st.dictionaries(st.text(max_size=3), st.none()),
)  # fmt: skip


@given(st.sampled_from([field.key for field in FIELDS]), HOSTILE)
def test_every_value_of_a_field_is_answered_in_sentences(key: str, value: Any) -> None:
    problems = form.problems_of(values(**{key: value}))
    for field, sentence in problems.items():
        assert field and sentence.endswith((".", "?", ")")) and len(sentence) < 2000, sentence
        sentence.encode()
    if not problems and key != PRESET_KEY:
        form.to_config(values(**{key: value})).to_yaml().encode()


def test_values_of_every_field_are_answered_at_once() -> None:
    for value in ("\ud83d", "a\0", "1" * 5000, 16**5000, ["x"] * 1000, {"a": {}}):
        problems = form.problems_of([value] * len(FIELDS))
        assert problems and all(len(sentence) < 2000 for sentence in problems.values())
