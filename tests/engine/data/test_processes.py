"""Several processes share the rows of a dataset, and nobody can tell from the result."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys

import numpy as np
import pytest

from geko_engine.config.sections import DataConfig
from geko_engine.data import tokenization
from geko_engine.data.formats import recognise
from geko_engine.data.processes import MOST_PROCESSES, in_order, process_count
from geko_engine.data.rendering import RenderedRows
from geko_engine.data.tokenization import tokenise_rendered
from tests.engine.data.template_families import tokenizer_of

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="one process elsewhere")
HERE = os.getpid()


def square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def dies_elsewhere(number: int) -> int:
    if number == 3 and os.getpid() != HERE:
        os._exit(1)
    return number


def fails(number: int) -> int:
    if number == 3:
        raise ValueError("row 3")
    return number


def test_results_come_in_order_and_from_every_process() -> None:
    found = list(in_order(square, range(10), 3))

    assert [value for value, _ in found] == [number * number for number in range(10)]
    assert len({process for _, process in found}) == 3
    assert os.getpid() not in {process for _, process in found}


def test_the_batches_of_a_process_that_died_are_done_here() -> None:
    assert list(in_order(dies_elsewhere, range(10), 2)) == list(range(10))


def test_an_error_is_raised_here() -> None:
    with pytest.raises(ValueError, match="row 3"):
        list(in_order(fails, range(10), 2))


def test_no_process_is_left_when_the_reader_stops_early() -> None:
    results = in_order(square, range(1000), 2)
    next(results)
    results.close()

    assert multiprocessing.active_children() == []


def test_no_process_is_left_when_the_reader_is_killed() -> None:
    """Each of them holds the writing end of a pipe; it reads as ended once the last one is gone."""
    alive, held = os.pipe()
    reader = os.fork()
    if not reader:
        results = in_order(lambda number: bytes(100_000), range(1000), 2)
        next(results)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(reader, 0)
    os.close(held)

    assert os.read(alive, 1) == b""
    os.close(alive)


def test_few_batches_are_not_worth_a_process() -> None:
    assert process_count(1) == process_count(2) == 1
    assert process_count(1_000_000) == min(len(os.sched_getaffinity(0)), MOST_PROCESSES)


def test_tokens_and_findings_do_not_depend_on_the_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"messages": [{"role": "user", "content": "two plus two"}, {"role": "assistant", "content": "four"}]}
    hidden = {
        "messages": [*good["messages"], {"role": "user", "content": "and?"}, {"role": "assistant", "content": ""}]
    }
    silent = {"messages": good["messages"][:1]}
    rows = [(good, hidden, silent)[number % 3] for number in range(100)]
    monkeypatch.setattr(tokenization, "TOKENISE_ROWS", 10)
    found = []
    for processes in (1, 3):
        monkeypatch.setattr(tokenization, "process_count", lambda batches, count=processes: count)
        tokenizer = tokenizer_of("qwen2")
        rendered = RenderedRows(rows, recognise(rows, DataConfig(train="rows"), tokenizer), tokenizer)
        found.append((tokenise_rendered(rendered, 100), rendered))

    (alone, by_one), (together, by_three) = found
    assert len(alone) > 60
    for name, value in vars(alone).items():
        assert np.array_equal(value, getattr(together, name)), name
    assert by_one.known(range(100)) == by_three.known(range(100))
