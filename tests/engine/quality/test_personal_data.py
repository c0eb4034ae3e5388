"""Personal data is recognized by its form and its checksum; examples, prices and dates are not taken for it."""

from __future__ import annotations

import pytest

from geko_engine.quality.personal_data import CARD, EMAIL, IBAN, PHONE, personal_data


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Write to jane.miller@gmx.de today.", [EMAIL]),
        ("Call +49 30 901820 or come by.", [PHONE]),
        ("My number is (212) 736-5000.", [PHONE]),
        ("Card 4539 1488 0343 6467, please.", [CARD]),
        ("Pay to DE75 5121 0800 1245 1261 99 now", [IBAN]),
        ("j@web.de, +33 1 44 55 66 77", [EMAIL, PHONE]),
    ],
)
def test_found(text: str, kinds: list[str]) -> None:
    assert personal_data(text) == kinds


@pytest.mark.parametrize(
    "text",
    [
        "Write to jane@example.com.",
        "user@localhost and @handle",
        "It cost 1,234,567.89 on 2024-01-15 at 10:30.",
        "Version 10.0.19041.1 of 192.168.100.200",
        "4539 1488 0343 6468",  # the check digit is wrong
        "DE75 5121 0800 1245 1261 98",  # the same
        "4111 1111 1111 1111",  # the number that tests use
        "(212) 555-0123",  # reserved for fiction
        "1 + 2 - 3 + 4 = 4",
        "The order 12345678901234 has the id 987654321.",
        "3.14159265358979",
        "[1000, 2000, 3000, 4000]",
    ],
)
def test_not_found(text: str) -> None:
    assert personal_data(text) == []
