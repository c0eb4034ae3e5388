"""Run folders, checkpoints and configurations written by version 1 are still read (see tests/fixtures/version1).

Only public entry points are used, so that the tests outlive the inside of the engine: geko-train, and what the page's
endpoints call. Where torch and processor are those that made the files, results are compared bit by bit, elsewhere
within a tolerance, as the last bits of a sum differ from processor to processor.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file

from geko_app.runs.live_state import RunState
from geko_app.runs.store import RunStore
from geko_app.runs.summary import FactsReader
from geko_app.samples.store import SampleStore
from geko_app.views.dashboard import Cursor, payload
from geko_app.views.runs import curve, run_row
from geko_app.views.sample_filters import Query
from geko_app.views.samples import lines, overview
from geko_engine.selection.buckets import Bucket
from geko_engine.training.compute import compute_saved_ratio
from tests.engine.test_cli import geko_train

VERSION_1 = Path(__file__).parents[1] / "fixtures" / "version1"
STOPPED = ("stopped_first_epoch", "stopped_panel")
NOT_FIGURES = {
    "seconds",
    "train_seconds",
    "scan_seconds",
    "plain_train_seconds",
    "seconds_saved_ratio",
    "model_path",
    "reason",
    "mastery",
    "mastery_reason",
    "best_step",
    "general_loss_before",
    "general_loss_after",
    "known_before",
    "criterion",
}
LOOKED_AT = {  # figures that change when the suspects are scored once more at the end, as version 1 did not
    "compute_saved_ratio",
    "tokens_forwarded",
    "tokens_scanned",
    "tokens_padding",
    "final_buckets",
}
MADE_WITH = json.loads((VERSION_1 / "stopped_panel/finished_by_version1/made_with.json").read_text("utf-8"))
RENAMED = {  # key of version 1 -> key that replaced it
    "data.marks": "data.row_flags",
    "data.marked": "data.flag_action",
    "geko.settled_share": "geko.stable_share",
}

RENAMED_FIGURES = {
    "tokens_uniform": "plain_training_tokens",
    "settled": "stable",
    "settled_churn": "stable_churn",
}
NEW_VALUES: dict[str, dict[Any, str]] = {
    "geko.mastery": {"exact": "exact_match", "relative": "below_mean_loss"},
    "data.chat_template": {False: "raw", True: "chat"},
}


def processor() -> str:
    """Vendor, family, model and vector extension of this machine's processor; they decide the last bits of a sum."""
    facts = dict.fromkeys(("vendor_id", "cpu family", "model"), "unknown")
    info = Path("/proc/cpuinfo")
    for line in info.read_text("utf-8").splitlines() if info.exists() else ():
        name, _, value = line.partition(":")
        if name.strip() in facts:
            facts[name.strip()] = value.strip()
    vendor, family, model = facts.values()
    return f"{vendor} family {family} model {model} {torch.backends.cpu.get_cpu_capability()}"


SAME_BITS = MADE_WITH["torch"].split("+")[0] == torch.__version__.split("+")[0] and MADE_WITH["cpu"] == processor()


def figures(value: Any) -> Any:
    """The figures of a report under their present names: no texts, and no seconds, which depend on the machine.

    Version 1 took a backward pass to cost 2, so what it saved is worked out from the counts in the same way here.
    """
    if isinstance(value, dict):
        if "compute_saved_ratio" in value:
            plain = value.get("plain_training_tokens", value.get("tokens_uniform"))
            ratio = compute_saved_ratio(value["tokens_forwarded"], value["tokens_backwarded"], plain)
            value = {key: item for key, item in value.items() if key != "backward_cost"} | {
                "compute_saved_ratio": ratio
            }
        kept = {name: item for name, item in value.items() if name not in NOT_FIGURES}
        return {RENAMED_FIGURES.get(name, name): figures(item) for name, item in kept.items()}
    return [figures(item) for item in value] if isinstance(value, list) else value


def equal_to(value: Any) -> Any:
    """What compares equal to a `value` computed by version 1: itself, or on other processors what is near it."""
    if isinstance(value, dict):
        return {name: equal_to(item) for name, item in value.items()}
    if isinstance(value, list):
        return [equal_to(item) for item in value]
    if SAME_BITS or not isinstance(value, int | float):
        return value
    return pytest.approx(value, rel=0.1, abs=0.05 if isinstance(value, float) else 40)


def digests(path: Path, kept: np.ndarray) -> set[str]:
    """SHA-256 of each array in a safetensors file, whatever the array is called; of the samples in the mask `kept`."""
    arrays = (array[kept] if len(array) == len(kept) else array for array in load_file(path).values())
    return {hashlib.sha256(array.tobytes()).hexdigest() for array in arrays}


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def steps(found: list[dict[str, Any]]) -> list[int]:
    """The optimizer steps in the order in which they were reported."""
    return [event["step"] for event in found if event["type"] == "StepCompleted"]


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A copy of the finished run's folder and its rows, as a user would have kept them."""
    return shutil.copytree(VERSION_1 / "finished", tmp_path / "finished")


@pytest.fixture
def store(finished: Path) -> RunStore:
    return RunStore(finished)


def test_a_finished_run_is_listed_with_its_figures(store: RunStore) -> None:
    assert store.ids() == ["run"]
    entry = store.entry("run")
    assert (entry.phase, entry.alive) == ("complete", False)
    report = json.loads((VERSION_1 / "finished/run/report.json").read_text("utf-8"))
    facts = FactsReader().facts(store.folder("run"))
    assert (facts.samples, facts.epochs, facts.epochs_done, facts.steps) == (400, 2, 2, 100)
    assert facts.compute_saved_ratio == report["compute_saved_ratio"]
    assert (facts.model, facts.data, facts.end) == ("demo", "rows.jsonl", "complete")
    cells = run_row(facts)["cells"]
    assert cells["saved"]["text"] == f"{100 * report['compute_saved_ratio']:.1f} %"
    assert cells["loss"]["text"] == f"{report['eval_loss_after']:.3f}"
    assert cells["loss"]["second"] == f"from {report['eval_loss_before']:.3f}"


def test_the_events_of_a_finished_run_are_drawn(store: RunStore) -> None:
    folder, state = store.folder("run"), RunState()
    for _, event in folder.events():
        state.apply(event)
    shown = payload(folder, state, Cursor(), alive=False)
    assert len(shown["points"]["step"]) == len(steps(events(folder.events_path))) == 100
    assert len(shown["evaluations"]["step"]) == 3
    final = json.loads(folder.report_path.read_text("utf-8"))["final_buckets"]
    assert {line["bucket"]: line["count"] for line in shown["buckets"]} == {k: f"{v:,}" for k, v in final.items()}
    assert shown["phase"] == "complete" and not shown["resumable"]
    assert "155 of 400 samples" in shown["mastery"] and "39 samples" in shown["mastery"]
    assert shown["summary"]["rows"]
    drawn = curve(state)
    assert drawn["points"]["step"] == list(range(1, 101)) and drawn["evaluations"]["step"] == [0, 50, 100]


def test_the_samples_of_a_finished_run_are_shown(store: RunStore) -> None:
    samples = SampleStore(store).samples("run")
    counts = overview(samples, set())["counts"]
    assert counts[""] == 400
    shown = lines(samples, Query(), set())
    assert shown["total"] == 400
    first = json.loads((store.root / "rows.jsonl").read_text("utf-8").splitlines()[0])
    assert first["prompt"] in json.dumps(shown["lines"][0])
    assert samples.never_freeze == {3, 17, 200}
    assert [int(step) for step in samples.history["steps"]] == [50, 100]


def test_a_complete_run_is_not_resumed(finished: Path) -> None:
    done = geko_train("--resume", "run", cwd=finished)
    assert done.returncode == 2
    assert "complete" in done.stderr and "Traceback" not in done.stderr


def test_a_configuration_of_version_1_keeps_its_values(finished: Path) -> None:
    shown = geko_train("run/config.yaml", "--show-config", cwd=finished)
    assert shown.returncode == 0, shown.stderr
    old = yaml.safe_load((finished / "run/config.yaml").read_text("utf-8"))
    new = yaml.safe_load(shown.stdout)
    for section, values in old.items():
        if not isinstance(values, dict):
            assert new[section] == values
            continue
        kept = {
            key: value for key, value in values.items() if key in new[section] and f"{section}.{key}" not in NEW_VALUES
        }
        assert {key: new[section][key] for key in kept} == kept
        for key, value in values.items():
            if f"{section}.{key}" in NEW_VALUES:
                assert new[section][key] == NEW_VALUES[f"{section}.{key}"][value]
        gone = {f"{section}.{key}" for key in values} - {f"{section}.{key}" for key in new[section]}
        assert gone <= set(RENAMED)
        for key in gone - {"data.marked"}:  # its values have new names too
            assert new[section][RENAMED[key].split(".")[1]] == values[key.split(".")[1]]


def test_one_line_names_the_new_key_for_each_old_one(finished: Path) -> None:
    shown = geko_train("run/config.yaml", "--show-config", cwd=finished)
    said = shown.stderr.splitlines()
    new = yaml.safe_load(shown.stdout)
    for old_key, new_key in RENAMED.items():
        assert len([line for line in said if old_key in line.split() or f"{old_key!r}" in line]) == 1, old_key
        assert len([line for line in said if new_key in line]) == 1, new_key
    assert len([line for line in said if "geko.mastery" in line and "exact_match" in line]) == 1
    assert new["data"]["row_flags"] == "marks.json" and new["data"]["flag_action"] == "never_freeze"
    assert new["geko"]["stable_share"] == 0.25 and new["geko"]["mastery"] == "exact_match"


@pytest.mark.parametrize("name", STOPPED)
def test_a_run_that_version_1_stopped_ends_as_version_1_ended_it(tmp_path: Path, name: str) -> None:
    place = shutil.copytree(VERSION_1 / name, tmp_path / name)
    done = geko_train("--resume", "run", cwd=place)
    assert done.returncode == 0, done.stderr
    run, expected = place / "run", place / "finished_by_version1"
    report, reference = (json.loads((at / "report.json").read_text("utf-8")) for at in (run, expected))
    found, known = (
        {key: value for key, value in figures(values).items() if key not in LOOKED_AT} for values in (report, reference)
    )
    assert found == equal_to(known)
    trained, before = (values["tokens_forwarded"] - values["tokens_scanned"] for values in (report, reference))
    assert trained == equal_to(before)
    weights, wanted = load_file(run / "model/model.safetensors"), load_file(expected / "model.safetensors")
    assert weights.keys() == wanted.keys()
    if SAME_BITS:
        old = gzip.decompress((expected / "events.jsonl.gz").read_bytes()).splitlines()
        assert steps(events(run / "events.jsonl")) == steps([json.loads(line) for line in old])
        assert all(np.array_equal(weights[key], wanted[key]) for key in wanted)
        others = load_file(expected / "samples.safetensors")["bucket"] != Bucket.HARD
        missing = digests(expected / "samples.safetensors", others) - digests(run / "samples.safetensors", others)
        assert not missing
