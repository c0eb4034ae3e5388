"""Which GPUs each active run has and each queued run needs: from its folder, its settings and the environment of its process.

The GPUs that the page has given a run are in gpus.json of its folder. They are no setting: a resume, or a copy of the run,
takes what is free then. The file stays when the run ends, and says nothing of a process of the command line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile

import psutil

from geko_app.hardware import visible_gpus
from geko_app.runs.lanes import Gpus, Lanes, Need
from geko_app.runs.store import RunStore
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.config.training_choices import ALL_GPUS
from geko_engine.exceptions import GekoError
from geko_engine.launch import visible_names
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.atomic_files import replace_json

GIVEN = "gpus.json"
ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # of nvidia-smi, whose numbers the page shows
ChooseGpu = Callable[[int | None], int | None]  # as Lanes.beside, with what is busy now


class GpuLanes(Lanes):
    """The lanes of this computer, for the runs of a store.

    Args:
        store: of the runs.
        gpus: numbers of the GPUs that runs may use, counted among those that are visible to the page.
    """

    def __init__(self, store: RunStore, gpus: Sequence[int] = ()) -> None:
        super().__init__(gpus)
        self._store = store
        self._needs: dict[str, tuple[int, Need]] = {}  # by run id, with the time that its settings were written

    def need_of(self, run_id: str) -> Need:
        """What a run needs by its settings; one GPU, where they cannot be read."""
        path = self._store.folder(run_id).config_path
        written = path.stat().st_mtime_ns if path.exists() else 0
        known = self._needs.get(run_id)
        if known is None or known[0] != written:
            known = self._needs[run_id] = written, self.need(_settings(self._store.folder(run_id)))
        return known[1]

    def held_by(self, run_id: str, *, own: bool) -> Gpus:
        """The GPUs of an active run.

        Args:
            run_id: of the run.
            own: whether a page has started it. On a computer with a single lane nobody waits for any other one.
        """
        if not self.several:
            return self.all if own else frozenset()
        folder = self._store.folder(run_id)
        return (given_gpus(folder) if own else frozenset()) or self._taken(folder)

    def give(self, folder: RunFolder, gpus: Gpus) -> dict[str, str]:
        """Write down which GPUs a run gets; the environment that its worker needs for that."""
        if not self.several:
            (folder.path / GIVEN).unlink(missing_ok=True)  # of another computer
            return {}
        replace_json(folder.path / GIVEN, {"gpus": sorted(gpus)})
        args = _settings(folder)
        if args.gpu_ids or args.num_processes > len(gpus):  # the worker chooses, or says that they are too few
            return dict(ORDER)
        return only(sorted(gpus))

    def _taken(self, folder: RunFolder) -> Gpus:
        """The GPUs of a run of the command line: those that its process sees and its settings choose.

        All of them, where a name that it sees cannot be read.
        """
        status = folder.status()
        environment = _environment(status.pid if status else 0)
        visible, args = environment.get("CUDA_VISIBLE_DEVICES"), _settings(folder)
        if visible is None:
            return self.first(args) & self.all
        names = _names(visible)
        processes = int(environment.get("LOCAL_WORLD_SIZE") or args.num_processes)
        chosen = names if args.gpu_ids == ALL_GPUS else [names[int(i)] for i in args.gpus if int(i) < len(names)]
        seen = list(map(_identity, chosen or names[:processes]))
        numbers = {_identity(name): gpu for gpu in self.all for name in visible_names([str(gpu)])}
        if any(name not in numbers and not _is_known(name) for name in seen):
            return self.all
        return frozenset(numbers[name] for name in seen if name in numbers)


def only(gpus: Iterable[int]) -> dict[str, str]:
    """The environment of a process that sees no other GPUs, in this order; {} for none, where it sees what the page sees."""
    names = visible_names([str(gpu) for gpu in gpus])
    return ORDER | {"CUDA_VISIBLE_DEVICES": ",".join(names)} if names else {}


def no_choice(_now: int | None) -> int | None:
    """The `ChooseGpu` of a computer with one GPU or none."""
    return None


def given_gpus(folder: RunFolder) -> Gpus:
    """The GPUs that the page has given a run; none where it has not, or the file cannot be read."""
    try:
        values = json.loads((folder.path / GIVEN).read_text(encoding="utf-8"))["gpus"]
        return frozenset(int(number) for number in values)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return frozenset()


def _names(visible: str) -> list[str]:
    """The GPUs in a CUDA_VISIBLE_DEVICES: CUDA ends it at a number below 0, and "" is none."""
    names = [name.strip() for name in visible.split(",")]
    return [name for name in takewhile(lambda name: not name.startswith("-"), names) if name]


def _identity(name: str) -> str:
    """The UUID of the GPU that CUDA_VISIBLE_DEVICES names by number or UUID; the name itself where nvidia-smi lists none."""
    found = visible_gpus(name)
    return found[0].uuid if found else name


def _is_known(name: str) -> bool:
    """Whether it is certain which GPU a name of `_identity` means, be it one that the page may not use."""
    return name.isdecimal() or bool(visible_gpus(name))


def _settings(folder: RunFolder) -> GEKOTrainingArgs:
    try:
        return folder.config().training
    except (GekoError, OSError):
        return GEKOTrainingArgs()


def _environment(pid: int) -> Mapping[str, str]:
    """The environment that a process was started with; an empty one where the system does not say."""
    try:
        return psutil.Process(pid).environ() if pid else {}
    except (psutil.Error, OSError):
        return {}


def names_of_holders(gpus: Iterable[tuple[str, Gpus]]) -> dict[int, str]:
    """Who has each GPU, the first one that is named.

    Args:
        gpus: (name of a run, its GPUs).
    """
    found: dict[int, str] = {}
    for name, held in gpus:
        for gpu in held:
            found.setdefault(gpu, name)
    return found
