"""A trainer's dataset and collator as the samples of a run. Knows no trainer and no rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geko_engine.data.batches import IGNORE_INDEX, DatasetView
from geko_engine.data.formats.base import Rendering
from geko_engine.runs.sample_texts import Progress, write_sample_texts

Collate = Callable[[Sequence[Any]], dict[str, Tensor]]


class TrainingSamples:
    """The items of a dataset, by number.

    Args:
        dataset: with len() and numbers. collate: the trainer's own: makes a batch of a list of items.

    Attributes:
        view: each sample as the model gets it, without padding; what the selection policy reads.
        lengths: tokens of each sample, [count].
    """

    def __init__(self, dataset: Any, collate: Collate) -> None:
        self.dataset, self.collate = dataset, collate
        self.view = DatasetView(_Collated(dataset, collate))
        self.lengths = self.view.lengths

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """Item `index` as the collator takes it."""
        return self.dataset[int(index)]


class _Collated:
    """Each item of a dataset as a batch of one makes it: with the labels that the collator gives it."""

    def __init__(self, dataset: Any, collate: Collate) -> None:
        self.dataset, self.collate = dataset, collate

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]:
        batch = self.collate([self.dataset[index]])
        names = ("input_ids", "labels", "attention_mask")
        return {name: batch[name][0].numpy() for name in names if name in batch}


def write_texts(folder: Path, samples: TrainingSamples, tokenizer: Any, on_progress: Progress) -> None:
    """Write the texts of the samples to the run folder `folder`, decoded from their tokens. Raises OSError."""
    view = samples.view
    numbers = np.arange(len(view), dtype=np.int32)
    digests = [_digest(view[int(index)]) for index in numbers]
    data = _Facts(
        rows=numbers,
        parts=np.zeros_like(numbers),
        digests=np.array(digests, np.uint64),
        truncated=[],
        lengths=view.lengths,
        targets=view.targets,
    )
    rendered: Any = _Decoded(view, tokenizer, bool((view.targets < view.lengths - 1).any()))
    write_sample_texts(folder, rendered, data, on_progress=on_progress)  # type: ignore[arg-type]  # has what it reads


class _Facts(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.rows)


class _Decoded:
    """Samples as text; `format` says how they are shown."""

    def __init__(self, view: DatasetView, tokenizer: Any, has_answers: bool) -> None:
        self._view, self._tokenizer = view, tokenizer
        self.format = SimpleNamespace(layout="pair" if has_answers else "text", has_answers=has_answers)

    def __getitem__(self, number: int) -> list[Rendering]:
        sample = self._view[number]
        learnt = sample["labels"] != IGNORE_INDEX
        segments = []
        for flag, group in groupby(zip(learnt, sample["input_ids"], strict=True), key=lambda pair: bool(pair[0])):
            segments.append((str(self._tokenizer.decode([int(token) for _, token in group])), flag))
        return [Rendering(segments)]


def _digest(sample: dict[str, NDArray[Any]]) -> int:
    content = sample["input_ids"].astype(np.int64).tobytes() + sample["labels"].tobytes()
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")
