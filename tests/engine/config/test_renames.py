"""Names of settings that earlier versions wrote are read, and reported once with the new ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from geko_engine import cli
from geko_engine.config.renames import KEYS, VALUES
from geko_engine.config.run_config import SECTIONS, RunConfig, apply_overrides
from geko_engine.exceptions import ConfigError
from geko_engine.reporting.events import Message
from geko_engine.run import run
from geko_engine.runs.folder import RunFolder

VERSION_1 = Path(__file__).parents[2] / "fixtures" / "version1"
OLD = {
    "data": {"marks": "m.json", "marked": "never freeze"},
    "geko": {"settled_share": 0.1, "mastery": "relative"},
}
SENTENCE = (
    "Old names of settings were read: data.marks is now data.row_flags; data.marked is now data.flag_action; "
    "geko.settled_share is now geko.stable_share; data.flag_action: never freeze is now data.flag_action: never_freeze; "
    "geko.mastery: relative is now geko.mastery: below_mean_loss."
)


def test_every_new_name_is_declared_and_no_old_one() -> None:
    declared = {
        f"{section}.{key}" for section, values in RunConfig().to_dict().items() if section in SECTIONS for key in values
    }
    assert set(KEYS.values()) <= declared and set(VALUES) <= declared and not set(KEYS) & declared


def test_old_names_and_values_are_read_and_reported_in_one_sentence() -> None:
    said: list[str] = []
    config = RunConfig.from_dict(OLD, on_renamed=said.append)
    assert (config.data.row_flags, config.data.flag_action) == ("m.json", "never_freeze")
    assert (config.geko.stable_share, config.geko.mastery) == (0.1, "below_mean_loss")
    assert said == [SENTENCE]
    assert RunConfig.from_dict(yaml.safe_load(config.to_yaml()), on_renamed=said.append) == config
    assert len(said) == 1


@pytest.mark.parametrize(("old", "new"), [(True, "chat"), (False, "raw"), ("true", "chat")])
def test_a_switch_for_the_chat_template_is_read_as_a_choice(old: object, new: str) -> None:
    said: list[str] = []
    config = RunConfig.from_dict({"data": {"chat_template": old}}, on_renamed=said.append)
    assert config.data.chat_template == new and "is now data.chat_template: " + new in said[0]


def test_python_code_with_old_names_gets_a_future_warning() -> None:
    with pytest.warns(FutureWarning, match=r"data\.marks is now data\.row_flags") as caught:
        RunConfig.from_dict(OLD)
    assert [warning.filename for warning in caught] == [__file__]


def test_both_names_of_a_setting_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match=r"which is given too: remove data\.marks") as caught:
        RunConfig.from_dict({"data": {"marks": "a.json", "row_flags": "b.json"}})
    assert caught.value.field == "data.marks"


@pytest.mark.parametrize("written", ["settled_share", "stable_share"])
@pytest.mark.parametrize("override", ["settled_share", "stable_share"])
def test_an_override_wins_under_either_name(written: str, override: str) -> None:
    values = apply_overrides({"geko": {written: 0.1}}, {f"geko.{override}": 0.2})
    assert RunConfig.from_dict(values, on_renamed=lambda sentence: None).geko.stable_share == 0.2


def test_the_command_line_says_it_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"geko": {"settled_share": 0.1}}), encoding="utf-8")
    assert cli.main([str(path), "--set", "geko.mastery=exact", "--show-config"]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert "geko.settled_share is now geko.stable_share; geko.mastery: exact is now" in printed.err
    assert yaml.safe_load(printed.out)["geko"]["stable_share"] == 0.1


def test_a_run_of_version_1_keeps_its_flags_and_is_shown_without_a_word() -> None:
    folder = RunFolder(VERSION_1 / "finished" / "run")
    config = folder.config_with_saved_flags()
    assert config.data.flag_action == "never_freeze" and config.geko.mastery == "exact_match"
    assert json.loads(Path(config.data.row_flags or "").read_text(encoding="utf-8")) == {"rows": [3, 17, 200]}


def test_a_run_begun_by_version_1_reports_the_new_names_as_one_message(tmp_path: Path) -> None:
    folder, events = RunFolder.create(RunConfig(output_dir=str(tmp_path))), []
    folder.config_path.write_text(folder.config_path.read_text().replace("stable_share", "settled_share"))
    assert run(folder, on_event=events.append, should_stop=lambda: True)["end"] == "stopped"
    assert [event.text for event in events if isinstance(event, Message)] == [
        "Old names of settings were read: geko.settled_share is now geko.stable_share."
    ]
