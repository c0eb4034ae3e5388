"""The configuration of a run is parsed once, and again when its file has changed."""

from __future__ import annotations

import pytest

from geko_app.runs.saved_config import saved_config
from geko_app.runs.store import RunStore
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import ConfigError


def test_a_configuration_is_parsed_once_and_again_when_it_has_changed(tmp_path) -> None:
    folder = RunStore(tmp_path).create(RunConfig(output_dir=str(tmp_path)))
    first = saved_config(folder)
    assert first == folder.config()
    assert saved_config(folder) is first
    folder.change_config({"training.num_epochs": 7})
    assert saved_config(folder).training.num_epochs == 7


def test_a_configuration_that_cannot_be_read_is_said_each_time(tmp_path) -> None:
    folder = RunStore(tmp_path).create(RunConfig(output_dir=str(tmp_path)))
    folder.config_path.write_text("training: {num_epochs: never}\n", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(ConfigError, match="num_epochs"):
            saved_config(folder)
