"""Which queued runs can start now: on several GPUs, on one, and where a run that needs many would starve."""

from __future__ import annotations

from typing import Any

import pytest

from geko_app.runs.lanes import Lanes, Need, gpu_words
from geko_engine.config.training_args import GEKOTrainingArgs


def ready(gpus: int, busy: list[int], *waiting: dict[str, Any]) -> dict[str, list[int]]:
    """The runs that can start, a b c ... by the settings of each, with their GPUs."""
    lanes = Lanes(range(gpus))
    needs = [(name, lanes.need(GEKOTrainingArgs(**args))) for name, args in zip("abcdef", waiting, strict=False)]
    return {name: sorted(found) for name, found in lanes.ready(busy, needs).items()}


def test_runs_share_the_gpus_out_first_come_first_served() -> None:
    assert ready(3, [], {}, {}, {}, {}) == {"a": [0], "b": [1], "c": [2]}
    assert ready(3, [1], {}, {"gpu_ids": "1"}, {}) == {"a": [0], "c": [2]}
    assert ready(4, [], {"num_processes": 2}, {"gpu_ids": "3"}, {"num_processes": 2}) == {"a": [0, 1], "b": [3]}
    assert ready(2, [], {"gpu_ids": "all"}, {}) == {"a": [0, 1]}


def test_a_run_that_needs_many_gpus_keeps_them_and_is_passed_only_beside_them() -> None:
    many = {"gpu_ids": "0,1"}
    assert ready(3, [0], many, {}, {}) == {"b": [2]}  # 1 is free, and kept
    assert ready(3, [0], many, {"gpu_ids": "1"}, {"gpu_ids": "2"}) == {"c": [2]}
    assert ready(3, [0, 2], {"num_processes": 2}, {}) == {}  # it takes the next one, whichever that is
    assert ready(3, [0], {"gpu_ids": "all"}, {}, {"gpu_ids": "2"}) == {}


@pytest.mark.parametrize("gpus", [0, 1])
def test_with_one_gpu_or_none_there_is_one_lane_whatever_the_settings_ask_for(gpus: int) -> None:
    asked = ({}, {"gpu_ids": "3"}, {"num_processes": 2}, {"gpu_ids": "all"})
    for args in asked:
        assert ready(gpus, [], args, {}) == {"a": [0]}
        assert ready(gpus, [0], args, {}) == {}


def test_gpus_that_are_not_here_hold_nobody_up() -> None:
    assert ready(2, [0], {"gpu_ids": "7"}, {}) == {"a": [7], "b": [1]}  # the run says that it has no GPU 7
    assert ready(2, [], {"num_processes": 5}) == {"a": [0, 1]}
    assert ready(2, [0], {"num_processes": 5}, {}) == {}


def test_a_process_beside_the_runs_takes_the_last_gpu_without_a_run_else_the_first() -> None:
    lanes = Lanes([0, 1, 2])
    assert (lanes.beside([]), lanes.beside([2]), lanes.beside([1, 2]), lanes.beside([0, 1, 2])) == (2, 1, 0, 0)
    assert lanes.beside([0], now=1) == 1  # it stays while no run is on its GPU, and moves away from one
    assert lanes.beside([1], now=1) == 2
    assert lanes.beside([0, 1, 2], now=1) == 1 and lanes.beside([], now=7) == 2
    assert Lanes([5]).beside([]) is None and Lanes().beside([0], now=0) is None


def test_a_preview_sees_the_gpu_first_that_its_run_would_begin_on() -> None:
    lanes = Lanes([0, 1, 2])
    assert lanes.in_order([], Need()) == [0, 1, 2] and lanes.in_order([0], Need()) == [1, 2, 0]
    assert lanes.in_order([], Need(frozenset([2]))) == lanes.in_order([2], Need(frozenset([2]))) == [2, 0, 1]
    assert lanes.in_order([0, 1, 2], Need(count=2)) == lanes.in_order([], Need(frozenset([7]))) == [0, 1, 2]
    assert Lanes([5]).in_order([], Need()) == []


def test_what_a_run_waits_for_is_in_words() -> None:
    lanes, holders = Lanes(range(4)), {0: "first", 1: "first", 2: "second"}
    assert lanes.waits_for(Need(frozenset([0])), holders) == "waits for GPU 0: run first"
    many = lanes.waits_for(Need(frozenset([0, 1, 2, 3])), holders)
    assert many == "waits for GPUs 0, 1: run first, GPU 2: run second"
    assert lanes.waits_for(Need(), {**holders, 3: "third"}) == "waits for a free GPU"
    assert lanes.waits_for(Need(count=2), holders) == "waits for 2 free GPUs"
    assert lanes.waits_for(Need(frozenset([3])), holders) == ""
    assert gpu_words([1]) == "GPU 1" and gpu_words({2, 0}) == "GPUs 0, 2"


def test_a_run_whose_gpus_are_free_says_which_run_it_stands_behind() -> None:
    lanes, holders = Lanes(range(4)), {0: "first", 1: "first", 2: "second"}
    order = "waits for the run before it: pair"
    assert lanes.waits_for(Need(frozenset([3])), holders, "pair") == order
    assert lanes.waits_for(Need(frozenset([7])), holders, "pair") == order
    assert lanes.waits_for(Need(), holders, "pair") == order  # GPU 3 is free
    assert lanes.waits_for(Need(count=2), holders, "pair") == "waits for 2 free GPUs"
    assert lanes.waits_for(Need(frozenset([0])), holders, "pair") == "waits for GPU 0: run first"
