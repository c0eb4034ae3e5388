"""Scores of evaluation rows on disk, and the paired difference of two runs against a bootstrap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import RunError
from geko_engine.run import run
from geko_engine.runs.evaluation_scores import Arrays, compare, load, save
from geko_engine.runs.folder import RunFolder


def scores(count: int, seed: int, *, shift: float = 0.0) -> Arrays:
    """Rows that are easy or hard for every run alike, and a little noise of this one."""
    common, own = np.random.default_rng(7), np.random.default_rng(seed)
    difficulty, targets = common.exponential(1.0, count), common.integers(1, 9, count)
    loss = np.maximum(0.01, difficulty + shift + own.normal(0, 0.1, count))
    return {
        "digest": np.arange(count, dtype=np.uint64) * 2**50,
        "loss_sum": (loss * targets).astype(np.float32),
        "targets": targets.astype(np.int32),
        "correct": (loss < 0.7).astype(np.uint8),
    }


def test_the_margins_are_those_of_a_bootstrap() -> None:
    first, second = scores(600, 1), scores(600, 2, shift=0.05)
    found = compare(first, second)
    assert found is not None and found.rows == 600
    rng, losses, matches = np.random.default_rng(0), [], []
    loss = second["loss_sum"].astype(float) - first["loss_sum"]
    hit = second["correct"].astype(float) - first["correct"]
    for _ in range(2000):
        drawn = rng.integers(0, 600, 600)
        losses.append(loss[drawn].sum() / first["targets"][drawn].sum())
        matches.append(hit[drawn].mean())
    assert found.loss.value == pytest.approx(loss.sum() / first["targets"].sum())
    assert found.loss.margin == pytest.approx(1.96 * np.std(losses), rel=0.08)
    assert found.exact_match.value == pytest.approx(hit.mean())
    assert found.exact_match.margin == pytest.approx(1.96 * np.std(matches), rel=0.08)


def test_pairing_sees_what_two_separate_means_do_not() -> None:
    first, second = scores(600, 1), scores(600, 2, shift=0.05)
    found = compare(first, second)
    assert found is not None and found.loss.is_clear and found.loss.value > 0
    separate = np.sqrt(2) * 1.96 * np.std(first["loss_sum"] / first["targets"]) / np.sqrt(600)
    assert found.loss.margin < separate / 5
    same = compare(first, scores(600, 3))
    assert same is not None and not same.exact_match.is_clear


def test_only_common_rows_are_compared_each_once_in_any_order() -> None:
    first, second = scores(40, 1), scores(60, 2)
    order = np.random.default_rng(0).permutation(60)
    mixed: Arrays = {name: np.concatenate([array[order], array[order[:5]]]) for name, array in second.items()}
    assert compare(first, mixed) == compare(first, {name: array[:40] for name, array in second.items()})
    assert compare(scores(9, 1), second) is None


def test_scores_survive_the_disk_and_damage_is_said(tmp_path: Path) -> None:
    path, written = tmp_path / "e.safetensors", scores(20, 1)
    save(path, step=12, **written)
    found = load(path)
    assert found["step"].tolist() == [12] and all((found[name] == written[name]).all() for name in written)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match="cannot be read"):
        load(path)


def test_a_run_keeps_the_scores_of_its_last_evaluation(tmp_path: Path, model_folder: Path, data_file: Path) -> None:
    found = []
    for seed in (0, 0, 1):
        values: dict[str, Any] = {
            "model": {"name": str(model_folder)},
            "data": {"train": str(data_file), "eval": str(data_file)},
            "training": {"num_epochs": 2, "batch_size": 8, "learning_rate": 5e-3, "seed": seed},
            "output_dir": str(tmp_path / "runs"),
        }
        folder = RunFolder.create(RunConfig.from_dict(values))
        report = run(folder)
        arrays = load(folder.evaluation_path)
        assert arrays["step"].tolist() == [report["steps"]]
        assert arrays["correct"].mean() == pytest.approx(report["exact_match_after"])
        assert arrays["loss_sum"].sum() / arrays["targets"].sum() == pytest.approx(report["eval_loss_after"], rel=1e-5)
        found.append(arrays)
    same, other = compare(found[0], found[1]), compare(found[0], found[2])
    assert same is not None and other is not None
    assert same.exact_match.value == same.loss.value == 0 and other.loss.value != 0
