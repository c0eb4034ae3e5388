"""Makes the demo that ships with GEKO, from a seed: data, tokenizer and a small pre-trained model.

python scripts/make_assets.py [--only data|model] [--seed 0] [--steps 5000]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parent))
from demo_tasks import GROUPS, Row, make_rows

DEMO = Path(__file__).parent.parent / "assets" / "demo"
TRAIN_ROWS, EVAL_ROWS, WRONG_RATIO = 10_000, 600, 0.03
# New and hard kinds are met a little, as a base model has met everything a little.
PRETRAINING_MIX = {"known": 0.969, "new": 0.001, "hard": 0.03}
BATCH, LEARNING_RATE, POOL = 64, 2e-3, 64
IGNORED = -100


def write_data(seed: int) -> None:
    """assets/demo/train.jsonl and eval.jsonl."""
    evaluation = make_rows(EVAL_ROWS, seed + 1)
    train = make_rows(TRAIN_ROWS, seed, wrong_ratio=WRONG_RATIO, avoid={row["prompt"] for row in evaluation})
    for name, rows in (("train", train), ("eval", evaluation)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (DEMO / f"{name}.jsonl").write_text(text, encoding="utf-8")


def make_tokenizer(rows: Sequence[Row], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the tasks' own sentences; each digit is a token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"{row['prompt']}\n{row['completion']}" for row in rows], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        model_max_length=256,
        model_input_names=["input_ids", "attention_mask"],
    )


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A decoder of under a million parameters, untrained."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=256,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            tie_word_embeddings=True,
            use_cache=False,
        )
    )


def encode(rows: Sequence[Row], tokenizer: Any) -> list[tuple[list[int], int]]:
    """(token ids, length of the prompt) in the layout that the engine trains on."""
    prompts = tokenizer([row["prompt"] + "\n" for row in rows], add_special_tokens=False)["input_ids"]
    answers = tokenizer([row["completion"] for row in rows], add_special_tokens=False)["input_ids"]
    return [(p + a + [tokenizer.eos_token_id], len(p)) for p, a in zip(prompts, answers, strict=True)]


def batch_of(samples: Sequence[tuple[list[int], int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels [B, longest]; right padding needs no mask in a causal model."""
    longest = max(len(ids) for ids, _ in samples)
    ids = torch.zeros(len(samples), longest, dtype=torch.long)
    labels = torch.full_like(ids, IGNORED)
    for row, (tokens, prompt) in enumerate(samples):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, prompt : len(tokens)] = torch.tensor(tokens[prompt:])
    return ids, labels


def pretrain(model: LlamaForCausalLM, tokenizer: Any, steps: int, seed: int) -> None:
    """AdamW with linear decay on freshly generated tasks, completions only, batches of similar length."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.98), fused=True
    )
    rng = random.Random(seed + 3)
    pool: list[list[tuple[list[int], int]]] = []
    model.train()
    for step in range(steps):
        if not pool:
            rows = make_rows(BATCH * POOL, rng.randrange(2**31), mix=PRETRAINING_MIX)
            samples = sorted(encode(rows, tokenizer), key=lambda s: len(s[0]))
            pool = [samples[i : i + BATCH] for i in range(0, len(samples), BATCH)]
            rng.shuffle(pool)
        rate = LEARNING_RATE * min(1.0, (step + 1) / 200) * max(0.01, 1 - step / steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        ids, labels = batch_of(pool.pop())
        logits = model(input_ids=ids).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 500 == 0:
            print(f"step {step} of {steps}: loss {loss.item():.4f}", flush=True)


@torch.no_grad()
def accuracy(model: LlamaForCausalLM, tokenizer: Any, rows: Sequence[Row]) -> dict[str, float]:
    """Share of rows of each kind and group whose every target is the most likely token."""
    model.eval()
    hits: dict[str, list[bool]] = {}
    for start in range(0, len(rows), 100):
        part = rows[start : start + 100]
        ids, labels = batch_of(encode(part, tokenizer))
        right = (model(input_ids=ids).logits[:, :-1].argmax(-1) == labels[:, 1:]) | (labels[:, 1:] == IGNORED)
        for row, hit in zip(part, right.all(1).tolist(), strict=True):
            hits.setdefault(row["kind"], []).append(hit)
            hits.setdefault(row["group"], []).append(hit)
    return {name: sum(values) / len(values) for name, values in hits.items()}


def model_card(found: dict[str, float], steps: int, seed: int) -> str:
    """What the model is, and what was counted."""
    lines = [f"| {name} | {100 * found[name]:.1f} % |" for name in GROUPS]
    return (
        "---\nlicense: apache-2.0\n---\n# The demo model of GEKO\n\nA Llama-style decoder of under a million parameters, "
        f"pre-trained from nothing by `python scripts/make_assets.py --seed {seed} --steps {steps}` on short tasks that "
        "`scripts/demo_tasks.py` generates. It exists to show a fine-tuning run on a CPU within minutes and is good for "
        "nothing else.\n\nAnswered exactly before fine-tuning, on 1,600 fresh tasks of each group:\n\n"
        "| group | exact |\n|---|---|\n" + "\n".join(lines) + "\n"
    )


def write_model(seed: int, steps: int) -> None:
    """assets/demo/model."""
    tokenizer = make_tokenizer(make_rows(4000, seed + 2), 480)
    model = make_model(tokenizer, seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens", flush=True)
    pretrain(model, tokenizer, steps, seed)
    found: dict[str, float] = {}
    for group in GROUPS:
        found |= accuracy(model, tokenizer, make_rows(1600, seed + 4, mix={group: 1.0}))
    for name, share in found.items():
        print(f"{name:16s} {100 * share:5.1f} %")
    target = DEMO / "model"
    shutil.rmtree(target, ignore_errors=True)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    (target / "README.md").write_text(model_card(found, steps, seed), encoding="utf-8")


def main() -> None:
    """Entry of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("data", "model"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=5000)
    options = parser.parse_args()
    torch.set_num_threads(1)  # one thread gives the same sums on every machine
    DEMO.mkdir(parents=True, exist_ok=True)
    if options.only != "model":
        write_data(options.seed)
    if options.only != "data":
        write_model(options.seed, options.steps)


if __name__ == "__main__":
    main()
