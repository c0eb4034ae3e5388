"""The data of the savings benchmark: one entry of MIXES for each kind of data that a claim is made for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from benchmarks.long_base import long_base
from benchmarks.real_data import banking77, drawn, first, gsm8k, small_base
from benchmarks.smollm2 import smollm2
from scripts.demo_tasks import DEFAULT_MIX, Row, make_rows
from scripts.long_tasks import make_long_rows

NOTHING_KNOWN = {"new": 0.6, "hard": 0.4}


@dataclass(frozen=True)
class Mix:
    """Data of one kind, and the model that it is learnt by.

    Attributes:
        what: in words, for the tables. train: (count, seed, prompts to avoid) -> rows. groups: shares of the evaluation rows' groups.
        make_rows: of the evaluation. base: name or path of the model. samples, evaluated: rows, epochs: by default.
        lora: adapters are trained, in bfloat16, instead of all weights. longest: tokens of a row; longer ones are cut.
        tuned: learning rate and batch size of the arm "short, tuned": the best ones of savings --tune.
    """

    what: str
    train: Callable[[int, int, set[str]], list[Row]]
    groups: Mapping[str, float] = field(default_factory=lambda: DEFAULT_MIX)
    make_rows: Callable[..., list[Row]] = make_rows
    base: Callable[[], str] = lambda: "demo"
    samples: int = 4000
    evaluated: int = 1200
    epochs: int = 3
    batch_size: int = 16
    learning_rate: float = 7e-4
    lora: bool = False
    longest: int = 256
    tuned: tuple[float, int] | None = None

    def evaluation(self) -> list[Row]:
        """Held-out rows: the same for every arm and seed."""
        return self.make_rows(self.evaluated, 900, mix=self.groups)


def _duplicates(count: int, seed: int, avoid: set[str]) -> list[Row]:
    half = make_rows(count // 2, seed, wrong_ratio=0.03, avoid=avoid)
    return half + [{**row, "prompt": f"Please: {row['prompt']}"} for row in half]


def _long_rows(*, wrong_ratio: float = 0.0, twice_ratio: float = 0.0) -> Callable[[int, int, set[str]], list[Row]]:
    return lambda count, seed, avoid: make_long_rows(
        count, seed, wrong_ratio=wrong_ratio, twice_ratio=twice_ratio, avoid=avoid
    )


def _long(what: str, *, wrong_ratio: float = 0.0, twice_ratio: float = 0.0) -> Mix:
    return Mix(
        what,
        _long_rows(wrong_ratio=wrong_ratio, twice_ratio=twice_ratio),
        make_rows=make_long_rows,
        base=long_base,
        evaluated=1000,
    )


def _banking77(intents: int, samples: int) -> Mix:
    def rows() -> list[Row]:
        return banking77("train", intents)

    return Mix(
        f"banking77: customers' questions, {intents} intents",
        drawn(rows),
        make_rows=first(lambda: banking77("test", intents)),
        base=small_base(f"banking77-{intents}", rows, 256),
        samples=samples,
        evaluated=3080,
        epochs=4,
        learning_rate=1e-3,
        tuned=(1.4e-3, 8) if intents == 25 else None,
    )


GSM8K = Mix(
    "GSM8K: worked solutions of grade-school maths",
    drawn(lambda: gsm8k("train")),
    make_rows=first(lambda: gsm8k("test")),
    base=small_base("gsm8k", lambda: gsm8k("train"), 512),
    samples=1000,
    evaluated=400,
    learning_rate=1e-3,
    longest=512,
)
REAL = ("banking77, 25 intents", "banking77", "gsm8k")  # need --data
DEMO = Mix(
    "the demo's mix: short answers, half known, 3 % wrong",
    lambda count, seed, avoid: make_rows(count, seed, wrong_ratio=0.03, avoid=avoid),
)
SMOLLM2 = replace(
    DEMO,
    what="SmolLM2-135M with LoRA: the demo's short answers",
    base=smollm2,
    samples=800,
    evaluated=300,
    batch_size=8,
    learning_rate=1e-3,
    lora=True,
)
MIXES: dict[str, Mix] = {
    "banking77, 25 intents": _banking77(25, 3000),
    "banking77": _banking77(77, 10_000),
    "gsm8k": GSM8K,
    "demo": DEMO,
    "demo, batch 8": replace(DEMO, what="the demo's mix in batches of 8", batch_size=8, learning_rate=5e-4),
    "demo, ten epochs": replace(DEMO, what="the demo's mix, ten epochs", epochs=10),
    "wrong": Mix(
        "the demo's mix with 10 % wrong answers",
        lambda count, seed, avoid: make_rows(count, seed, wrong_ratio=0.10, avoid=avoid),
    ),
    "new": Mix(
        "short answers, nothing known before",
        lambda count, seed, avoid: make_rows(count, seed, mix=NOTHING_KNOWN, avoid=avoid),
        groups=NOTHING_KNOWN,
    ),
    "duplicates": Mix("the demo's mix, every row twice, reworded", _duplicates),
    "long": _long("long answers, half known"),
    "long wrong": _long("long answers, 10 % wrong", wrong_ratio=0.10),
    "long duplicates": _long("long answers, half of them near-duplicates", twice_ratio=1.0),
    "smollm2": SMOLLM2,
    "smollm2 long": replace(
        SMOLLM2,
        what="SmolLM2-135M with LoRA: long answers, 10 % wrong, a fifth near-duplicates",
        train=_long_rows(wrong_ratio=0.10, twice_ratio=0.4),
        make_rows=make_long_rows,
        samples=1600,
        batch_size=16,
    ),
}
