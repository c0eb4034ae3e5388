"""Starts training workers, follows them, stops them, and leaves them running if the page dies. Knows no page and no torch.

Runs whose GPUs do not overlap go at the same time (runs/lanes.py); with one GPU or none that is one worker. A run whose
GPUs are taken is queued (runs/queue.py), and the end of one run starts those that can go then. Runs of the command line
are followed too. Events travel through the run's folder; the stop flag is the run's `stop` file. If the server dies, the
workers go on, and the next server attaches to them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict

from geko_app.runs.lanes import Gpus
from geko_app.runs.queue import MARKER, RunQueue, is_queued
from geko_app.runs.store import RunStore
from geko_app.workers.gpu_lanes import GpuLanes, given_gpus, names_of_holders
from geko_app.workers.hub_token import check_token, start_worker
from geko_app.workers.run_follower import TRAINING_WORKER, Feed, Patience, RunFollower, death_reason
from geko_engine.config.run_config import RunConfig
from geko_engine.config.training_args import GEKOTrainingArgs
from geko_engine.exceptions import RunError
from geko_engine.runs.folder import RunFolder
from geko_engine.runs.lock import RunLock
from geko_engine.runs.status import Status
from geko_engine.storage.atomic_files import replace_json
from geko_engine.storage.disk_space import explain_write_errors

# -P: otherwise a file in the folder where the page was started could shadow a library of the same name.
TRAINING_COMMAND = (sys.executable, "-P", "-m", TRAINING_WORKER)


class Supervisor:
    """Starts, resumes, stops and deletes the runs of a store.

    Args:
        store: the runs.
        command: starts a worker; the run's folder (and --resume) is appended.
        grace_seconds, kill_seconds, save_seconds, flush_seconds: of the patience with a worker that is to stop.
        gpus: numbers of the GPUs of this computer, counted among those that this process may use.
    """

    def __init__(
        self,
        store: RunStore,
        *,
        command: Sequence[str] = TRAINING_COMMAND,
        grace_seconds: float = 30.0,
        kill_seconds: float = 10.0,
        save_seconds: float = 3600.0,
        flush_seconds: float = 300.0,
        gpus: Sequence[int] = (),
    ) -> None:
        self.store, self._command = store, tuple(command)
        self._patience = Patience(grace_seconds, kill_seconds, save_seconds, flush_seconds)
        self.queue, self.lanes = RunQueue(store), GpuLanes(store, gpus)
        self._feeds: dict[str, Feed] = {}
        self._followers: dict[str, RunFollower] = {}
        self._tokens: dict[str, str] = {}  # by run id; only here, so that a token never reaches the disk
        self._closing = False
        self._lock = threading.RLock()
        self._attach_all()
        self._start_ready()

    def start(self, config: RunConfig, token: str = "") -> str:
        """Start a new run, or queue it if its GPUs are taken.

        Args:
            config: what to train.
            token: Hub token; passed to the worker by a pipe and kept in this process's memory only.

        Returns:
            The id of the run.

        Raises:
            RunError: its folder cannot be created, or the disk is full.
        """
        check_token(token)
        with self._lock, explain_write_errors(self.store.root):
            folder = self.store.create(config)
            if token:
                self._tokens[folder.id] = token
            self._start_or_queue(folder, resume=False)
            return folder.id

    def resume(self, run_id: str) -> str:
        """Continue an ended run from its newest checkpoint, or queue it if its GPUs are taken.

        Returns:
            The id of the run.

        Raises:
            RunError: there is no such run, it is still active, another process writes it, or it is complete.
        """
        with self._lock, explain_write_errors(self.store.root):
            folder = self.store.folder(run_id)
            status = folder.status() or Status()
            if self.queue.holds(run_id):
                return run_id
            if self.alive(run_id) or (status.alive and not status.end):
                raise RunError(f"The run {run_id} is still active: there is nothing to resume.")
            folder.require_unfinished()
            folder.require_known_format()
            self._start_or_queue(folder, resume=True)
            return run_id

    def stop(self, run_id: str, *, now: bool = False) -> None:
        """Ask an active run to save a checkpoint and end, or take a queued one out of the queue; else do nothing.

        Args:
            now: whether an active one is ended by force, also in the middle of a checkpoint.
        """
        with self._lock, explain_write_errors(self.store.root):
            if self.alive(run_id):
                self._followers[run_id].request_stop(now=now)
            elif run_id in [run.id for run in self.queue.waiting()]:
                self.queue.leave(run_id)
                self._start_ready()  # it may have kept GPUs that others wait for

    def delete(self, run_id: str) -> None:
        """Remove an ended run from the disk.

        Raises:
            RunError: the run is active or queued, or the disk refuses.
        """
        with self._lock:
            status = self.store.folder(run_id).status() or Status()
            if self.alive(run_id) or (status.alive and not status.end):
                raise RunError(f"The run {run_id} is still active: stop it first.")
            if self.queue.holds(run_id):
                raise RunError(f"The run {run_id} is queued: stop it first.")
            with explain_write_errors(self.store.root), RunLock(self.store.folder(run_id).path):
                pass  # nobody writes it
            self.store.delete(run_id)
            self._feeds.pop(run_id, None)
            self._followers.pop(run_id, None)

    def active(self) -> str | None:
        """Id of the active run that began last, one of a page before one of the command line; None if there is none."""
        return next(iter(self.all_active()), None)

    def all_active(self) -> list[str]:
        """Ids of the active runs: those of a page first, the one that began last before the others."""
        newest_first = reversed(self._active())
        return [follower.feed.folder.id for follower in sorted(newest_first, key=lambda follower: not follower.own)]

    def alive(self, run_id: str) -> bool:
        """Whether the worker of this run is followed here and alive."""
        return any(follower.feed.folder.id == run_id for follower in self._active())

    def gpus_in_use(self) -> dict[int, str]:
        """The name of the active run on each GPU that has one."""
        return names_of_holders((self.store.name(run_id), gpus) for run_id, gpus in self._held().items())

    def given_gpus(self, run_id: str) -> Gpus:
        """The GPUs that a page has given a run; none where a command line has started it since."""
        follower = self._followers.get(run_id)
        return frozenset() if follower and not follower.own else given_gpus(self.store.folder(run_id))

    def gpu_beside(self, now: int | None = None) -> int | None:
        """The GPU for a process that is no run, one without a run if there is one; None where there is no choice.

        Args:
            now: the one that it has.
        """
        return self.lanes.beside(self.gpus_in_use(), now)

    def gpus_in_order(self, args: GEKOTrainingArgs) -> list[int]:
        """All GPUs, those first that a run with these settings would begin on now; [] where there is no choice."""
        return self.lanes.in_order(self.gpus_in_use(), self.lanes.need(args))

    def queue_place(self, run_id: str) -> tuple[int, str]:
        """(place of a queued run from 1, what it waits for in words, or ""); (0, "") for one that is not queued."""
        if not self.queue.holds(run_id):
            return 0, ""
        ahead = self.queue.ahead_of(run_id)
        if self.lanes.several:
            before = [(self.store.name(other), self.lanes.need_of(other).named) for other in ahead]
            holders = names_of_holders(
                [*((name, frozenset([gpu])) for gpu, name in self.gpus_in_use().items()), *before]
            )
            first = next((name for name, named in before if not named), "")
            return len(ahead) + 1, self.lanes.waits_for(self.lanes.need_of(run_id), holders, first)
        after = ahead[-1] if ahead else next(iter(self._held()), None)
        return len(ahead) + 1, f"after {self.store.name(after)}" if after else ""

    def attach_or_close(self, run_id: str) -> None:
        """Follow a run that a command line has started here, or mark it as ended if its process is gone."""
        with self._lock:
            folder = self.store.folder(run_id)
            status = folder.status()
            if self.alive(run_id) or status is None or status.end or self.queue.holds(run_id):
                return
            if status.alive:
                self._follow(folder, None)
            else:
                self._feeds.setdefault(run_id, Feed(folder)).mark_ended(death_reason(None, folder))

    def feed(self, run_id: str) -> Feed:
        """The feed of a run, read up to date.

        Raises:
            RunError: there is no such run.
        """
        with self._lock:
            if run_id not in self._feeds:
                self._feeds[run_id] = Feed(self.store.folder(run_id))
            feed = self._feeds[run_id]
        if not self.alive(run_id):
            feed.read()
        return feed

    def shutdown(self) -> None:
        """Ask the active workers to save and end, and wait for them. Queued runs stay queued for the next page.

        A run of the command line goes on: this page shows it, but it belongs to its terminal.
        """
        for follower in self.request_shutdown():
            follower.join()

    def request_shutdown(self, *, now: bool = False) -> list[RunFollower]:
        """Ask the active workers to save and end, and start no other; returns the followers to wait for.

        Args:
            now: whether to end them by force, also in the middle of a checkpoint.
        """
        with self._lock:
            self._closing = True
            own = [follower for follower in self._active() if follower.own]
        for follower in own:
            follower.request_stop(now=now)
        return own

    def _active(self) -> list[RunFollower]:
        followers = list(self._followers.values())
        return [follower for follower in followers if follower.is_alive() and not follower.finished]

    def _held(self) -> dict[str, Gpus]:
        """The GPUs of each active run that has some."""
        held = {f.feed.folder.id: self.lanes.held_by(f.feed.folder.id, own=f.own) for f in self._active()}
        return {run_id: gpus for run_id, gpus in held.items() if gpus}

    def _ready(self, *last: str) -> dict[str, Gpus]:
        """The runs that can start now with the GPUs that they get: queued ones, and `last` after them."""
        if self._closing:
            return {}
        if self.lanes.several:  # those of the command line have GPUs, too
            for run_id in self.store.ids():
                if (self.store.folder(run_id).status() or Status()).alive:
                    self.attach_or_close(run_id)
        busy = frozenset[int]().union(*self._held().values())
        waiting = [*(run.id for run in self.queue.waiting()), *last]
        return self.lanes.ready(busy, [(run_id, self.lanes.need_of(run_id)) for run_id in waiting])

    def _start_or_queue(self, folder: RunFolder, *, resume: bool) -> None:
        gpus = self._ready(folder.id).get(folder.id)
        if gpus is not None:
            self._launch(folder, gpus, resume=resume)
            return
        with RunLock(folder.path):
            self.queue.add(folder, resume=resume)
        self._start_ready()

    def _start_ready(self) -> None:
        """Start the queued runs whose GPUs are free, unless the page is shutting down."""
        with self._lock:
            while ready := self._ready():  # anew after each: one that cannot start leaves its GPUs to others
                run_id, gpus = next(iter(ready.items()))
                self._start_queued(run_id, gpus)

    def _start_queued(self, run_id: str, gpus: Gpus) -> None:
        resume = next((run.resume for run in self.queue.waiting() if run.id == run_id), False)
        if not self.queue.take(run_id):
            return  # another page was faster
        folder = self.store.folder(run_id)
        try:
            with RunLock(folder.path):
                replace_json(folder.path / "status.json", asdict(Status()))
            self._launch(folder, gpus, resume=resume)
        except RunError:  # a command line has begun or ended it meanwhile
            return
        except OSError as error:  # this one cannot start; the others still may
            feed = self._feeds.setdefault(run_id, Feed(folder))
            feed.mark_ended(f"Its worker could not be started ({error.strerror or error}).")

    def _launch(self, folder: RunFolder, gpus: Gpus, *, resume: bool) -> None:
        arguments = [*self._command, str(folder.path), *(["--resume"] if resume else [])]
        # Waiting OpenMP threads sleep instead of spinning: the page shares these cores.
        environment = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1", **os.environ}
        with RunLock(folder.path):  # not while the worker starts: it takes the lock itself
            folder.require_unfinished()  # another page may have ended it meanwhile
            folder.clear_stop()
            (folder.path / MARKER).unlink(missing_ok=True)
            environment |= self.lanes.give(folder, gpus)
            if resume:
                self._clear_end(folder)
        with folder.log_path.open("ab") as log:
            # Its own session: killing the server, or Ctrl-C in its terminal, leaves the run alone.
            process = start_worker(
                arguments,
                self._tokens.get(folder.id, ""),
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment,
            )
        self._follow(folder, process)

    def _clear_end(self, folder: RunFolder) -> None:
        """Show a resumed run as starting until its worker's first event, no longer as ended."""
        replace_json(folder.path / "status.json", asdict(Status()))
        self.feed(folder.id).mark_resumed()

    def _follow(self, folder: RunFolder, process: subprocess.Popen[bytes] | None) -> None:
        feed = self._feeds.setdefault(folder.id, Feed(folder))
        follower = self._followers[folder.id] = RunFollower(feed, process, self._patience, self._start_ready)
        follower.start()

    def _attach_all(self) -> None:
        """Follow workers that outlived the last server; mark runs whose worker is gone as ended."""
        for run_id in self.store.ids():
            folder = self.store.folder(run_id)
            status = folder.status()
            if (status is not None and status.end) or is_queued(folder):
                continue
            if status is not None and status.alive:
                self._follow(folder, None)
            else:
                feed = self._feeds.setdefault(run_id, Feed(folder))
                feed.mark_ended("The worker was gone when the page was started again.")
