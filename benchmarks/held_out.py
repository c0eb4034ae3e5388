"""What a trained model makes of the held-out rows: loss, and answers that are right. Trains nothing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from geko_engine import GEKOTrainer
from geko_engine.data.batches import TokenizedData
from scripts.demo_tasks import Row
from scripts.make_assets import batch_of, encode

BATCH = 64


def held_out_figures(trainer: GEKOTrainer, rows: Sequence[Row], held_out: TokenizedData) -> dict[str, Any]:
    """eval_loss (nats per target token), exact_match and the same by group.

    Of a short answer all tokens must be the most likely ones, of a long one those of its results.
    """
    found = trainer.engine.score_samples(held_out, np.arange(len(held_out)), lambda: False, lambda done, total: None)
    if "results" in rows[0]:
        right = results_right(trainer.model, trainer.tokenizer, rows)
    else:
        right = [False] * len(rows)
        for index, correct in zip(found.ids, found.correct, strict=True):
            right[int(held_out.rows[index])] = bool(correct)
    groups: dict[str, list[bool]] = {}
    for row, hit in zip(rows, right, strict=True):
        groups.setdefault(row["group"], []).append(hit)
    return {
        "eval_loss": found.mean_loss,
        "exact_match": statistics.fmean(right),
        "groups": {name: statistics.fmean(hits) for name, hits in sorted(groups.items())},
    }


@torch.no_grad()
def results_right(model: Any, tokenizer: Any, rows: Sequence[Row]) -> list[bool]:
    """For each row whether every token of its results is the most likely one, after the tokens before it."""
    model.eval()
    samples = encode(rows, tokenizer)
    answers = tokenizer([row["completion"] for row in rows], add_special_tokens=False, return_offsets_mapping=True)
    right = [False] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(samples[i][0]))
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        ids, _ = batch_of([samples[i] for i in part])
        hits = model(input_ids=ids).logits[:, :-1].argmax(-1) == ids[:, 1:]
        for line, i in enumerate(part):
            prompt = samples[i][1]
            spans = answers["offset_mapping"][i]
            at = [prompt + k - 1 for k, span in enumerate(spans) if _is_result(span, rows[i]["results"])]
            right[i] = bool(hits[line, at].all())
    return right


def _is_result(span: tuple[int, int], results: Sequence[tuple[int, int]]) -> bool:
    return any(span[0] < end and span[1] > start for start, end in results)
