"""Which GPUs a run needs, and which of the queued runs can start now. Pure; knows no process and no disk.

A computer with several GPUs has a lane for each. With one GPU or none there is a single lane, which every run needs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.config.training_choices import ALL_GPUS

Gpus = frozenset[int]


@dataclass(frozen=True)
class Need:
    """The GPUs of a run.

    Attributes:
        named: their numbers, where the settings name them.
        count: how many it needs otherwise, whichever these are.
    """

    named: Gpus = frozenset()
    count: int = 1


class Lanes:
    """The lanes of this computer.

    Args:
        gpus: numbers of the GPUs that runs may use.
    """

    def __init__(self, gpus: Sequence[int] = ()) -> None:
        self.several = len(gpus) > 1
        self.all: Gpus = frozenset(gpus if self.several else (0,))

    def need(self, args: GEKOTrainingArgs) -> Need:
        """What a run with these settings needs: all GPUs where it asks for more than there are."""
        if not self.several or args.gpu_ids == ALL_GPUS:
            return Need(self.all)
        if args.gpus:
            return Need(frozenset(map(int, args.gpus)))
        return Need(count=args.num_processes) if args.num_processes < len(self.all) else Need(self.all)

    def first(self, args: GEKOTrainingArgs) -> Gpus:
        """The GPUs that a run takes which nobody has given any: those that it names, else the first ones."""
        need = self.need(args)
        return need.named or frozenset(sorted(self.all)[: need.count])

    def ready(self, busy: Collection[int], waiting: Iterable[tuple[str, Need]]) -> dict[str, Gpus]:
        """The runs that can start now, with the GPUs that each gets.

        First come, first served: a run that has to wait keeps what it needs, so a later one starts before it only on GPUs
        that it does not wait for.

        Args:
            busy: GPUs of the active runs.
            waiting: (id, need) of each run, the first one first.
        """
        free, found = set(self.all) - set(busy), {}
        kept = set(busy)
        for run_id, need in waiting:
            got = need.named - kept if need.named else frozenset(sorted(free)[: need.count])
            if len(got) == len(need.named or range(need.count)):
                found[run_id] = got
            elif not need.named:
                break  # it takes the next GPU that becomes free, whichever that is
            kept |= need.named or got
            free -= kept
        return found

    def in_order(self, busy: Collection[int], need: Need) -> list[int]:
        """All GPUs, those first that a run would begin on now; [] for a computer with a single lane.

        Args:
            busy: GPUs of the active runs. need: of the run.
        """
        first = need.named or self.all - set(busy)
        return sorted(self.all, key=lambda gpu: (gpu not in first, gpu)) if self.several else []

    def beside(self, busy: Collection[int], now: int | None = None) -> int | None:
        """The GPU for a process that is no run: the last one without a run, since runs get the first of those; else the first.

        Args:
            busy: GPUs of the active runs.
            now: the one that the process has: it moves only from a run to a free one.

        Returns:
            Its number; None for a computer with a single lane.
        """
        if not self.several:
            return None
        free = self.all - set(busy)
        if now in self.all and (now in free or not free):
            return now
        return max(free, default=min(self.all))

    def waits_for(self, need: Need, holders: Mapping[int, str], before: str = "") -> str:
        """What a queued run waits for: "waits for GPU 0: run NAME"; "" where it starts next.

        Args:
            need: of the run.
            holders: name of the run that has, or gets before it, a GPU.
            before: name of the first run before it that names no GPU, and takes the next one that becomes free.
        """
        order = f"waits for the run before it: {before}" if before else ""
        if not need.named:
            if order and len(self.all - set(holders)) >= need.count:
                return order
            return "waits for a free GPU" if need.count == 1 else f"waits for {need.count} free GPUs"
        by_run: dict[str, list[int]] = {}
        for gpu in sorted(need.named & set(holders)):
            by_run.setdefault(holders[gpu], []).append(gpu)
        parts = [f"{gpu_words(gpus)}: run {name}" for name, gpus in by_run.items()]
        return f"waits for {', '.join(parts)}" if parts else order


def gpu_words(gpus: Iterable[int]) -> str:
    """ "GPU 0", or "GPUs 0, 1"."""
    numbers = sorted(gpus)
    return f"GPU{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
