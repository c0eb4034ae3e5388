"""Conversations to tokens with the answers marked, against datasets.map with two processes and the same chat template.

python -m benchmarks.tokenization [--repetitions N]

The peer renders and tokenises each conversation and marks nothing. Conversations: a system turn and one to three
questions with answers, of random words from the vocabulary of SmolLM2-135M-Instruct, whose tokenizer and template are used.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable
from typing import Any

from benchmarks.common import Ratio, arguments, interleave, print_table, write_results
from benchmarks.smollm2 import smollm2
from geko_engine.config.sections import DataConfig
from geko_engine.data.formats import recognise
from geko_engine.data.rendering import RenderedRows
from geko_engine.data.tokenization import tokenise_rendered

FULL, SMALL = 100_000, 4_000  # conversations
PEER = "datasets.map(num_proc=2)"
MAX_LENGTH = 2048


def conversations(count: int, tokenizer: Any) -> list[dict[str, Any]]:
    """Rows with `messages`: 172 tokens on average."""
    words = sorted(word[1:] for word in tokenizer.get_vocab() if word.startswith("Ġ") and word[1:].isalpha())
    chance = random.Random(0)

    def turn(role: str, least: int, most: int) -> dict[str, str]:
        return {"role": role, "content": " ".join(chance.choices(words, k=chance.randint(least, most)))}

    def row() -> dict[str, Any]:
        asked = [(turn("user", 5, 40), turn("assistant", 10, 80)) for _ in range(chance.randint(1, 3))]
        return {"messages": [turn("system", 8, 8), *(one for pair in asked for one in pair)]}

    return [row() for _ in range(count)]


def with_geko(rows: list[dict[str, Any]], tokenizer: Any) -> tuple[float, int]:
    """(seconds, tokens)."""
    begin = time.perf_counter()
    rendered = RenderedRows(rows, recognise(rows, DataConfig(train="rows"), tokenizer), tokenizer)
    found = tokenise_rendered(rendered, MAX_LENGTH)
    return time.perf_counter() - begin, len(found.tokens)


def peer(rows: list[dict[str, Any]], tokenizer: Any) -> Callable[[], tuple[float, int]]:
    """The same of datasets.map; making its Arrow table of the rows is not timed."""
    import datasets

    datasets.disable_progress_bars()
    table = datasets.Dataset.from_list(rows)

    def tokens(row: dict[str, Any]) -> dict[str, Any]:
        return dict(tokenizer.apply_chat_template(row["messages"], return_dict=True))

    def run() -> tuple[float, int]:
        begin = time.perf_counter()
        found = table.map(tokens, num_proc=2, remove_columns=["messages"], load_from_cache_file=False)
        seconds = time.perf_counter() - begin
        return seconds, sum(len(ids) for ids in found.with_format("arrow")["input_ids"])

    return run


def main() -> None:
    """Entry of the command line."""
    from transformers import AutoTokenizer

    options = arguments(__doc__ or "", 3)
    logging.getLogger("transformers").setLevel(logging.ERROR)  # the peer passes no limit of length
    tokenizer = AutoTokenizer.from_pretrained(smollm2())
    rows = conversations(SMALL if options.small else FULL, tokenizer)
    found = interleave({PEER: peer(rows, tokenizer), "GEKO": lambda: with_geko(rows, tokenizer)}, options.repetitions)
    tokens = {name: {count for _, count in values} for name, values in found.items()}
    if len(set().union(*tokens.values())) != 1:
        raise RuntimeError(f"Unequal work: {tokens} tokens.")
    seconds = {name: [value for value, _ in values] for name, values in found.items()}
    ratio = Ratio.of(seconds["GEKO"], seconds[PEER])
    count = tokens["GEKO"].pop()
    print_table(
        f"Rendering and tokenising {len(rows):,} conversations, {count:,} tokens: seconds / seconds of {PEER}",
        ["processes of GEKO", "ratio"],
        [[str(len(os.sched_getaffinity(0))), ratio]],
    )
    settings = {
        "repetitions": options.repetitions,
        "conversations": len(rows),
        "tokens": count,
        "max_length": MAX_LENGTH,
    }
    write_results("tokenization", settings, {"seconds": seconds, "ratio": ratio.to_dict()}, options)


if __name__ == "__main__":
    main()
