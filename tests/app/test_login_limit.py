"""Waits between attempts to sign in, on a clock of the test."""

from __future__ import annotations

import pytest

from geko_app.login_limit import FORGOTTEN_AFTER, FREE, LONGEST, REMEMBERED, LoginLimit


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limit(clock: Clock) -> LoginLimit:
    return LoginLimit(clock)


def test_waits_double_up_to_the_longest(limit: LoginLimit, clock: Clock) -> None:
    waits = []
    for _ in range(FREE + 12):
        assert limit.attempt("10.0.0.1") == 0
        waits.append(limit.wait("10.0.0.1"))
        clock.now += waits[-1]
    assert waits == [0] * (FREE - 1) + [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, LONGEST, LONGEST, LONGEST]


def test_who_comes_too_early_is_not_counted_and_the_wait_stays(limit: LoginLimit, clock: Clock) -> None:
    for _ in range(FREE + 1):
        clock.now += limit.wait("10.0.0.1")
        limit.attempt("10.0.0.1")
    assert [limit.attempt("10.0.0.1") for _ in range(50)] == [2] * 50
    clock.now += 2
    assert limit.attempt("10.0.0.1") == 0


def test_a_success_forgets_and_so_does_an_hour(limit: LoginLimit, clock: Clock) -> None:
    for address in ("10.0.0.1", "10.0.0.2"):
        for _ in range(FREE):
            limit.attempt(address)
    limit.forget("10.0.0.1")
    assert limit.wait("10.0.0.1") == 0 and limit.wait("10.0.0.2") == 1
    clock.now += FORGOTTEN_AFTER + 1
    assert limit.attempt("10.0.0.2") == 0 and limit.wait("10.0.0.2") == 0


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),  # one /64 has one holder
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("", "10.0.0.1", False),
    ],
)
def test_who_counts_as_one_client(limit: LoginLimit, first: str, second: str, same: bool) -> None:
    for _ in range(FREE):
        limit.attempt(first)
    assert (limit.wait(second) > 0) == same


def test_it_remembers_no_more_than_so_many_addresses(limit: LoginLimit) -> None:
    for number in range(REMEMBERED + 100):
        limit.attempt(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(limit._attempts) == REMEMBERED
