"""Faults of every kind against a short run: each is resumed, and has to end like a run that nothing happened to.

A fault happens at the n-th operation or micro-batch, never after a time. Which n are tried is drawn by a seed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from geko_engine.runs.folder import RunFolder
from tests.faults import patches
from tests.faults.damage import (
    DAMAGES,
    damage_all_checkpoints,
    damage_events,
    damage_file,
    is_event,
    is_one_of,
)
from tests.faults.kinds import Fault, rows_of
from tests.faults.outcome import differences, outcome
from tests.faults.server import (
    COUNT,
    ERRORS,
    FAIL_FROM_NOW_ON,
    FAIL_ONCE,
    KILL_BEFORE,
    KILL_INSIDE,
    Arming,
    Child,
    arm,
    geko_train,
    import_all,
    wait_for_both,
)

STOPPED, REFUSED, KILLED = 130, 2, -signal.SIGKILL
STEPS, SAVE_STEPS = 6, 2


class Campaign:
    """The undisturbed run, and all faults that can be tried against one like it.

    Args:
        base: an empty folder.
    """

    def __init__(self, base: Path) -> None:
        self.base = base.resolve()
        self._write_model_and_data()
        modules = self.base / "modules.json"
        whole = self._place("undisturbed")
        code = self._run(whole, Arming(mode=COUNT), operations=self.base / "operations", modules=modules)
        assert code == 0, (whole / "log").read_text(encoding="utf-8")
        import_all(json.loads(modules.read_text(encoding="utf-8")))
        self.expected = outcome(self._folder(whole))
        self.operations = (self.base / "operations").read_text(encoding="utf-8").splitlines()
        self.asked = int((whole / "asked-0").read_text(encoding="utf-8"))
        again = self._place("again")
        assert self._run(again, Arming()) == 0
        wrong = differences(self.expected, outcome(self._folder(again)))
        assert not wrong, f"two undisturbed runs differ: {wrong}"
        self.expected_of_pair: dict[str, Any] | None = None  # made when the first of these faults is tried
        self._prepare_killed_run()

    # ------------------------------------------------------------ runs
    def _write_model_and_data(self) -> None:
        from tests.engine.conftest import character_tokenizer, small_gpt2, sum_rows

        small_gpt2(dropout=0.1).save_pretrained(self.base / "model")
        character_tokenizer().save_pretrained(self.base / "model")
        for name, seed, count in (("train", 0, 24), ("eval", 1, 6)):
            lines = "".join(json.dumps(row) + "\n" for row in sum_rows(count, seed))
            (self.base / f"{name}.jsonl").write_text(lines, encoding="utf-8")

    def _place(self, name: str) -> Path:
        """A folder with a run.yaml whose runs go into it."""
        place = self.base / name
        (place / "runs").mkdir(parents=True)
        training = {"num_epochs": 2, "batch_size": 4, "gradient_accumulation_steps": 2, "save_steps": SAVE_STEPS}
        config = {
            "model": {"name": str(self.base / "model")},
            "data": {"train": str(self.base / "train.jsonl"), "eval": str(self.base / "eval.jsonl")},
            "training": {**training, "learning_rate": 5e-3},
            "output_dir": str(place / "runs"),
        }
        (place / "run.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        return place

    def _run(self, place: Path, arming: Arming, **options: Any) -> int:
        return self._child(place, arming, **options).wait()

    def _child(
        self,
        place: Path,
        arming: Arming,
        *,
        before: Callable[[], object] = lambda: None,
        operations: Path | None = None,
        modules: Path | None = None,
    ) -> Child:
        """geko-train on the run of `place`: begun where there is none, else resumed."""

        def work() -> int:
            asked = patches.count_stop_requests()
            before()
            folder = self._folder(place)
            arguments = ["--resume", str(folder)] if folder else [str(place / "run.yaml")]
            arm(place / "runs", arming, operations)
            code = geko_train(arguments)
            arm(place / "outside", Arming())
            if modules:
                modules.write_text(json.dumps(sorted(sys.modules)), encoding="utf-8")
            (place / f"asked-{os.environ.get('RANK', '0')}").write_text(str(asked[0]), encoding="utf-8")
            return code

        return Child(work, place / "log")

    def _folder(self, place: Path) -> Path | None:
        """The run in `place`, where there is one."""
        return next((path.parent for path in (place / "runs").glob("*/config.yaml")), None)

    def _to_its_end(self, place: Path, *, code: int | None = None) -> list[str]:
        """Resume the run until it is complete, and compare it; `code` is that of an attempt that was just made."""
        if code == REFUSED and self._folder(place) is None:
            code = 1  # nothing was started, as it says
        if code == REFUSED and "is complete" in self._last_words(place):
            code = 0  # killed when all was done
        if code is not None and code not in (0, 1, STOPPED, KILLED):
            return [f"exit code {code}: {self._last_words(place)}"]
        if code == 0:
            return self._compared(place)
        self._remove_what_was_no_run_yet(place)
        code = self._run(place, Arming())
        if code == REFUSED and "is complete" in self._last_words(place):
            code = 0
        return [f"exit code {code} of the resume: {self._last_words(place)}"] if code else self._compared(place)

    def _remove_what_was_no_run_yet(self, place: Path) -> None:
        """Killed before it had a configuration, nobody sees a run, and the next start is a new one."""
        for path in (place / "runs").iterdir():
            if not (path / "config.yaml").exists():
                shutil.rmtree(path)

    def _compared(self, place: Path) -> list[str]:
        folder = self._folder(place)
        assert folder is not None
        return differences(self.expected, outcome(folder))

    def _last_words(self, place: Path) -> str:
        return " | ".join((place / "log").read_text(encoding="utf-8", errors="replace").splitlines()[-3:])[-600:]

    # ------------------------------------------------------------ a run that was killed after two checkpoints
    def _prepare_killed_run(self) -> None:
        """The state that files are damaged in: killed in the step after the second checkpoint."""
        place = self._place("killed")
        child = self._child(place, Arming(), before=partial(patches.kill_at_event, "StepCompleted", 2 * SAVE_STEPS + 1))
        assert child.wait() == KILLED
        folder = self._folder(place)
        assert folder is not None
        steps = {int(path.name.split("-")[1]) for path in (folder / "checkpoints").glob("checkpoint-*")}
        assert steps == {SAVE_STEPS, 2 * SAVE_STEPS}, steps
        self.killed = folder

    def _damaged(
        self, damage: Callable[[Path], None], place: Path, lost: Callable[[dict[str, Any]], bool]
    ) -> list[str]:
        """Copy the killed run, damage the copy and resume it; `lost`: events that may be missing in the end."""
        folder = place / "runs" / self.killed.name
        shutil.copytree(self.killed, folder)
        damage(folder)
        code = self._run(place, Arming())
        if code:
            return [f"exit code {code} of the resume: {self._last_words(place)}"]
        found = outcome(folder)
        kept = [event for event in self.expected["events"] if event in found["events"] or not lost(event)]
        return differences({**self.expected, "events": kept, "numbered": found["numbered"]}, found)

    # ------------------------------------------------------------ all faults
    def faults(self) -> Iterator[Fault]:
        """Every fault that there is."""
        yield from self._at_operations()
        yield from self._stops()
        yield from self._damages()
        yield from self._numbers()
        yield from self._processes()
        yield from self._pairs()

    def _at_operations(self) -> Iterator[Fault]:
        count = len(self.operations)
        for at, operation in enumerate(self.operations, 1):
            what = operation.replace(str(self.base / "undisturbed"), "")
            before, inside = rows_of(operation)
            armings = {
                before: Arming(at, KILL_BEFORE),
                inside: Arming(at, KILL_INSIDE),
                "Disk full (ENOSPC) from then on": Arming(at, FAIL_FROM_NOW_ON, ERRORS["ENOSPC"]),
                "Input/output error (EIO) once": Arming(at, FAIL_ONCE, ERRORS["EIO"]),
                "Read-only (EROFS) from then on": Arming(at, FAIL_FROM_NOW_ON, ERRORS["EROFS"]),
            }
            for row, arming in armings.items():
                yield Fault(row, f"operation {at}: {what}", partial(self._armed, arming))
            other = 1 + (at * 7919) % count
            yield Fault(
                "SIGKILL, and again in the resume", f"operations {at}, {other}", partial(self._twice, at, other)
            )

    def _armed(self, arming: Arming, place: Path) -> list[str]:
        code = self._run(place, arming)
        if arming.mode in (KILL_BEFORE, KILL_INSIDE) and code not in (KILLED, 0):
            return [f"it was not killed, but ended with {code}: {self._last_words(place)}"]
        # With 0 it had fewer operations than the run they were listed of, as times differ, and is compared all the same.
        return self._to_its_end(place, code=code)

    def _twice(self, at: int, other: int, place: Path) -> list[str]:
        self._run(place, Arming(at, KILL_INSIDE))
        return self._to_its_end(place, code=self._run(place, Arming(other, KILL_BEFORE)))

    def _stops(self) -> Iterator[Fault]:
        for at in range(1, self.asked + 1):
            yield Fault("SIGTERM at a micro-batch", f"request {at}", partial(self._stopped, at, patches.terminate))
            yield Fault(
                "`stop` file at a micro-batch", f"request {at}", partial(self._stopped, at, patches.ask_for_stop)
            )

    def _stopped(self, at: int, how: Callable[[RunFolder], None], place: Path) -> list[str]:
        child = self._child(place, Arming(), before=partial(patches.at_stop_request, at, how))
        code = child.wait()
        if code not in (0, STOPPED):
            return [f"exit code {code}: {self._last_words(place)}"]
        return self._to_its_end(place, code=code)

    def _damages(self) -> Iterator[Fault]:
        nothing = lambda event: False  # noqa: E731
        for checkpoint in sorted((self.killed / "checkpoints").iterdir()):
            for file in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
                name = str(file.relative_to(self.killed))
                for how in DAMAGES:
                    damage = partial(damage_file, name, DAMAGES[how])
                    yield Fault(f"Checkpoint file {how}", name, partial(self._damaged_in, damage, nothing))
        for how in DAMAGES:
            damage = partial(damage_all_checkpoints, DAMAGES[how])
            yield Fault(f"Checkpoint file {how}", "both checkpoints", partial(self._damaged_in, damage, nothing))
            for name in ("status.json", "samples.safetensors", "history.safetensors", ".lock", "run.json"):
                damage = partial(damage_file, name, DAMAGES[how])
                yield Fault(
                    "Other file of the run damaged", f"{name} {how}", partial(self._damaged_in, damage, nothing)
                )
        lines = (self.killed / "events.jsonl").read_bytes().splitlines(keepends=True)
        for number, line in enumerate(lines):
            gone = partial(is_event, json.loads(line))
            for how in ("cut in the middle", "NUL bytes", "not UTF-8", "the rest missing"):
                damage = partial(damage_events, number, how)
                lost = (
                    gone
                    if how != "the rest missing"
                    else partial(is_one_of, [json.loads(rest) for rest in lines[number:]])
                )
                yield Fault(
                    "Line of events damaged", f"line {number + 1}: {how}", partial(self._damaged_in, damage, lost)
                )

    def _damaged_in(
        self, damage: Callable[[Path], None], lost: Callable[[dict[str, Any]], bool], place: Path
    ) -> list[str]:
        return self._damaged(damage, place, lost)

    def _numbers(self) -> Iterator[Fault]:
        for value in ("nan", "inf"):
            for where in ("loss", "gradient"):
                for step, named in ((3, "ordinary"), (SAVE_STEPS, "save"), (STEPS, "last")):
                    yield Fault(
                        "NaN or infinity in a loss or gradient",
                        f"{value} in the {where} of step {step} ({named})",
                        partial(self._not_finite, float(value), where, step),
                    )

    def _not_finite(self, value: float, where: str, step: int, place: Path) -> list[str]:
        """The step is skipped and named, and nothing that is saved is anything but finite."""
        code = self._child(place, Arming(), before=partial(patches.spoil, value, where, step)).wait()
        folder = self._folder(place)
        if code or folder is None:
            return [f"exit code {code}: {self._last_words(place)}"]
        found = outcome(folder)
        names = ("numbered", "ends", "status", "files", "beside", "not finite")
        wrong = differences({name: self.expected[name] for name in names}, found)
        steps = [event["step"] for event in found["events"] if event["type"] == "StepCompleted"]
        said = [
            event for _, event in RunFolder(folder).events() if f"of step {step} is not finite" in event.get("text", "")
        ]
        return (
            wrong + ([] if steps == list(range(1, STEPS + 1)) else [f"steps {steps}"]) + ([] if said else ["not said"])
        )

    def _processes(self) -> Iterator[Fault]:
        for number in range(6):
            yield Fault("Two resumes at once", f"pair {number + 1}", partial(self._two_resumes))
        for seconds in (3600, 10 * 365 * 86400):
            yield Fault("Clock set back", f"by {seconds} s before the resume", partial(self._clock_back, seconds))

    def _two_resumes(self, place: Path) -> list[str]:
        """Both wait at a barrier right before the lock; one trains, the other says so and writes nothing.

        It names the process that trains; or, when it comes so late that the training is over, that nothing is left to do.
        """
        folder = place / "runs" / self.killed.name
        shutil.copytree(self.killed, folder)
        arrived, barrier = os.pipe(), os.pipe()
        wait = partial(patches.wait_before_lock, arrived, barrier)
        children = [self._child(place, Arming(), before=wait) for _ in range(2)]
        os.close(arrived[1])
        for _ in children:
            os.read(arrived[0], 1)
        for end in (*barrier, arrived[0]):
            os.close(end)
        codes = [child.wait() for child in children]
        if sorted(codes) != [0, REFUSED]:
            return [f"exit codes {codes}: {self._last_words(place)}"]
        winner = children[codes.index(0)].pid
        log = (place / "log").read_text(encoding="utf-8")
        named = f"is being written by process {winner}:" in log or f"is still running (process {winner})" in log
        named = named or "is complete: there is nothing to resume" in log
        return self._compared(place) + ([] if named else [f"process {winner} is not named: {self._last_words(place)}"])

    def _clock_back(self, seconds: float, place: Path) -> list[str]:
        folder = place / "runs" / self.killed.name
        shutil.copytree(self.killed, folder)
        code = self._child(place, Arming(), before=partial(patches.set_clock_back, seconds)).wait()
        return [f"exit code {code}: {self._last_words(place)}"] if code else self._compared(place)

    # ------------------------------------------------------------ two processes
    def _pairs(self) -> Iterator[Fault]:
        for at in range(1, len(self.operations) + 1, 9):
            fault = partial(self._pair_killed, Arming(at, KILL_INSIDE), 0)
            yield Fault("Two processes (gloo), the first killed", f"operation {at}", fault)
        for at in range(1, self.asked + 1):
            yield Fault(
                "Two processes (gloo), the second killed", f"request {at}", partial(self._pair_killed, Arming(), at)
            )

    def _pair_killed(self, arming: Arming, second_at: int, place: Path) -> list[str]:
        if self.expected_of_pair is None:
            whole = self._place("undisturbed-pair")
            codes = self._pair(whole, Arming(), operations=self.base / "operations-of-pair")
            assert codes == (0, 0), f"{codes}: {self._last_words(whole)}"
            self.expected_of_pair = outcome(self._folder(whole))
            lines = (self.base / "operations-of-pair").read_text(encoding="utf-8").splitlines()
            self.operations_of_pair = len(lines)
            self.asked_in_second = int((whole / "asked-1").read_text(encoding="utf-8"))
        # Its steps are fewer: what lies beyond its end is counted from the beginning again.
        if arming.mode != COUNT:
            arming = replace(arming, at=1 + (arming.at - 1) % self.operations_of_pair)
        codes = self._pair(place, arming, 1 + (second_at - 1) % self.asked_in_second if second_at else 0)
        if KILLED not in codes:
            return [f"nothing was killed, exit codes {codes}: {self._last_words(place)}"]
        self._remove_what_was_no_run_yet(place)
        codes = self._pair(place, Arming())
        if codes != (0, 0) and "is complete" not in self._last_words(place):
            return [f"exit codes {codes} of the resume: {self._last_words(place)}"]
        return differences(self.expected_of_pair, outcome(self._folder(place)))

    def _pair(self, place: Path, arming: Arming, second_at: int = 0, operations: Path | None = None) -> tuple[int, int]:
        """The exit codes of one run in two processes: the first is armed, the second killed at a micro-batch."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]

        def second() -> None:
            patches.join(1, port)
            patches.at_stop_request(second_at, patches.kill)

        children = (
            self._child(place, arming, before=partial(patches.join, 0, port), operations=operations),
            self._child(place, Arming(), before=second),
        )
        return wait_for_both(*children)

    def attempt(self, fault: Fault, number: int) -> list[str]:
        """Try a fault; what is wrong afterwards. A survived one leaves no files."""
        place = self._place(f"fault-{number:04}")
        try:
            wrong = fault.attempt(place)
        except Exception as error:  # noqa: BLE001  (a run that cannot be read is lost)
            wrong = [f"{type(error).__name__}: {error}"]
        if not wrong:
            shutil.rmtree(place)
        return wrong
