"""The base model of the mixes with long answers: pre-trained here, once, from a seed, on the kinds that it is to know.

python -m benchmarks.long_base makes it anew; the savings benchmark makes it when it is missing (about ten minutes).
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from scripts.long_tasks import make_long_rows
from scripts.make_assets import IGNORED, batch_of, encode, make_model, make_tokenizer

FOLDER = Path(__file__).parent / ".long-base"  # ignored by git
MIX = {"known": 0.96, "new": 0.01, "hard": 0.03}
STEPS, BATCH, POOL, LEARNING_RATE, WARMUP = 3000, 32, 32, 2e-3, 200


def long_base() -> str:
    """Path of the model, made when it is missing."""
    if not (FOLDER / "config.json").exists():
        make(0)
    return str(FOLDER)


def make(seed: int) -> None:
    """Pre-train and write the model."""
    tokenizer = make_tokenizer(make_long_rows(4000, seed + 2), 640)
    model = make_model(tokenizer, seed)
    print(f"pre-training the base of the long answers, {STEPS} steps", flush=True)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.98), fused=True
    )
    rng = random.Random(seed + 3)
    batches: list[Any] = []
    model.train()
    for step in range(STEPS):
        batches = batches or _batches(tokenizer, rng)
        rate = LEARNING_RATE * min(1.0, (step + 1) / WARMUP) * max(0.01, 1 - step / STEPS)
        for group in optimizer.param_groups:
            group["lr"] = rate
        ids, labels = batch_of(batches.pop())
        kept = labels[:, 1:] != IGNORED
        loss = cross_entropy(model(input_ids=ids).logits[:, :-1][kept], labels[:, 1:][kept])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 500 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    model.save_pretrained(FOLDER)
    tokenizer.save_pretrained(FOLDER)


def _batches(tokenizer: Any, rng: random.Random) -> list[list[tuple[list[int], int]]]:
    """POOL batches of fresh rows, of similar length each, in random order."""
    rows = make_long_rows(BATCH * POOL, rng.randrange(2**31), mix=MIX)
    samples = sorted(encode(rows, tokenizer), key=lambda sample: len(sample[0]))
    batches = [samples[start : start + BATCH] for start in range(0, len(samples), BATCH)]
    rng.shuffle(batches)
    return batches


if __name__ == "__main__":
    torch.set_num_threads(1)
    make(0)
