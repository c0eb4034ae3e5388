"""Patterns of personal data in a text: e-mail addresses, telephone numbers, bank card numbers and IBANs. Pure.

Numbers with a checksum (cards, IBANs) are checked. Addresses and numbers that are reserved for examples are not reported.
A name or a street is not recognized.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

EMAIL, PHONE, CARD, IBAN = "e-mail address", "telephone number", "card number", "IBAN"
EMAILS = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@((?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24})\b")
EXAMPLES = re.compile(
    r"(?:^|\.)(?:example|test|invalid|localhost|domain|email|mail|company|yourcompany)(?:\.|$)", re.IGNORECASE
)
PHONES = re.compile(
    r"(?<![\w+.,/-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){2,4}|\(\d{3}\) ?\d{3}-\d{4}|\d{3}-\d{3}-\d{4})"
    r"(?![\w]|[.,-]\d)"
)
FICTIONAL = re.compile(r"555\D?01\d\d$|555\D?\d{4}$|123\D?4567?")
CARDS = re.compile(r"(?<![\w.-])(?:\d[ -]?){12,18}\d(?![\w-]|\.\d)")
ISSUERS = re.compile(
    r"4\d{12}(?:\d{3}|\d{6})?|5[1-5]\d{14}|2(?:2[2-9]|[3-6]\d|7[01])\d{13}|3[47]\d{13}|6(?:011|5\d\d)\d{12}"
)
TEST_CARDS = {"4111111111111111", "4242424242424242", "5555555555554444", "378282246310005", "4012888888881881"}
IBANS = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")


def personal_data(text: str) -> list[str]:
    """The kinds of personal data in a text, each once, in the order EMAIL, PHONE, CARD, IBAN."""
    kinds = []
    if "@" in text and any(not EXAMPLES.search(found[1]) for found in EMAILS.finditer(text)):
        kinds.append(EMAIL)
    if any(True for _ in _phones(text)):
        kinds.append(PHONE)
    if any(_is_card(re.sub(r"\D", "", found[0])) for found in CARDS.finditer(text)):
        kinds.append(CARD)
    if any(_is_iban(found[0].replace(" ", "")) for found in IBANS.finditer(text)):
        kinds.append(IBAN)
    return kinds


def _phones(text: str) -> Iterator[str]:
    for found in PHONES.finditer(text):
        digits = re.sub(r"\D", "", found[0])
        if 9 <= len(digits) <= 15 and len(set(digits)) > 3 and not FICTIONAL.search(found[0]):
            yield found[0]


def _is_card(digits: str) -> bool:
    """Whether the digits have an issuer's form and the right check digit (Luhn)."""
    if not ISSUERS.fullmatch(digits) or digits in TEST_CARDS or len(set(digits)) < 4:
        return False
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(digits))]
    return sum(d - 9 * (d > 9) for d in doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    """Whether the two check digits fit (ISO 13616)."""
    moved = text[4:] + text[:4]
    return 15 <= len(text) <= 34 and int("".join(str(int(c, 36)) for c in moved)) % 97 == 1
