"""A run and its baseline are matched although an older one lacks settings that have come since."""

from __future__ import annotations

import dataclasses
from typing import Any

import yaml

from geko_app.runs.store import RunStore
from geko_app.runs.summary import FactsReader, RunFacts, all_settings, twin_key
from geko_app.views.control_run import control_sentence
from geko_engine.config.run_config import RunConfig


def older_run_and_baseline(store: RunStore) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two configurations as their folders give them; the first was written before there was a replay."""
    reader, found = FactsReader(), []
    for enabled in (True, False):
        config = RunConfig.demo()
        config.geko.enabled, config.output_dir = enabled, str(store.root)
        folder = store.create(config)
        if enabled:
            values = yaml.safe_load(folder.config_path.read_text("utf-8"))
            del values["data"]["replay_share"]
            folder.config_path.write_text(yaml.safe_dump(values), "utf-8")
        found.append(reader.config(folder))
    return found[0], found[1]


def test_an_older_run_and_its_new_baseline_are_twins(store: RunStore) -> None:
    older, baseline = older_run_and_baseline(store)
    assert twin_key(older) == twin_key(baseline) != ""
    changed = {**baseline, "data": {**baseline["data"], "replay_share": 0.5}}
    assert twin_key(changed) != twin_key(older)


def test_an_older_run_and_its_new_baseline_are_compared(store: RunStore) -> None:
    configs = [all_settings(config) for config in older_run_and_baseline(store)]
    facts = RunFacts("a", 0.0, end="complete", tokens=100, compute_saved_ratio=0.3, seconds=4.0)
    assert control_sentence([facts, dataclasses.replace(facts, id="b")], configs).startswith("GEKO used 30.0 % less")


def test_an_unreadable_configuration_has_no_settings() -> None:
    assert all_settings({}) == {} and twin_key({}) == ""
