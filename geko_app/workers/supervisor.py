"""The training thread: starts a worker process, follows it, stops it, outlives it. Knows no page and no torch.

One worker at a time; who starts meanwhile lines up (run_queue.py), and the end of one run starts the next. A run of
the command line is followed, but nobody waits for it. Events come from the run's folder into a queue; the stop flag is
the run's `stop` file. A server that dies leaves the worker at its work: the next server attaches to it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict

from geko_app.runs.queue import MARKER, RunQueue, is_queued
from geko_app.runs.store import RunStore
from geko_app.workers.run_follower import Feed, _Training, death_reason
from geko_engine.config.run_config import RunConfig
from geko_engine.exceptions import RunError
from geko_engine.reporting.events import PhaseChanged
from geko_engine.runs.folder import RunFolder, Status
from geko_engine.storage.atomic_files import replace_json
from geko_engine.storage.disk_space import written

# -P: or a file of the folder that the page was started in would be imported in place of a library of its name.
WORKER = (sys.executable, "-P", "-m", "geko_app.workers.training_worker")


class Supervisor:
    """Starts, resumes and stops runs of `store`.

    Args:
        command: how a worker is started; the run's folder (and --resume) is appended.
        grace_seconds: from the stop request to SIGTERM. kill_seconds: from there to SIGKILL.
    """

    def __init__(
        self,
        store: RunStore,
        *,
        command: Sequence[str] = WORKER,
        grace_seconds: float = 30.0,
        kill_seconds: float = 10.0,
    ) -> None:
        self.store, self._command = store, tuple(command)
        self._patience = (grace_seconds, kill_seconds)
        self.queue = RunQueue(store)
        self._feeds: dict[str, Feed] = {}
        self._followed: dict[str, _Training] = {}
        self._tokens: dict[str, str] = {}  # by run: only here, so a token never reaches the disk
        self._closing = False
        self._lock = threading.RLock()
        self._attach()
        self._start_next()

    def start(self, config: RunConfig, token: str = "") -> str:
        """Start a new run, or line it up behind those before it; returns its id. Raises RunError for its folder or disk.

        Args:
            token: of the Hub, handed to the worker in its environment and kept in this process's memory alone.
        """
        with self._lock, written(self.store.root):
            folder = self.store.create(config)
            if token:
                self._tokens[folder.id] = token
            self._begin(folder, resume=False)
            return folder.id

    def resume(self, run_id: str) -> str:
        """Go on with an ended run from its newest checkpoint when its turn comes. Raises RunError when it cannot."""
        with self._lock, written(self.store.root):
            folder = self.store.folder(run_id)
            status = folder.status() or Status()
            if self.queue.holds(run_id):
                return run_id
            if self.alive(run_id) or (status.alive and not status.end):
                raise RunError(f"The run {run_id} is still going: there is nothing to resume.")
            if status.end == "complete":
                raise RunError(f"The run {run_id} is complete: there is nothing to resume.")
            self._begin(folder, resume=True)
            return run_id

    def stop(self, run_id: str) -> None:
        """Ask the run to save a checkpoint and end, or take it out of the queue; nothing when it does neither."""
        with self._lock, written(self.store.root):
            if self.alive(run_id):
                self._followed[run_id].ask_to_stop()
            elif run_id in [run.id for run in self.queue.waiting()]:
                self.queue.leave(run_id)

    def delete(self, run_id: str) -> None:
        """Remove an ended run from the disk. Raises RunError while it is going or waits."""
        with self._lock:
            status = self.store.folder(run_id).status() or Status()
            if self.alive(run_id) or (status.alive and not status.end):
                raise RunError(f"The run {run_id} is still going: stop it first.")
            if self.queue.holds(run_id):
                raise RunError(f"The run {run_id} waits in the queue: stop it first.")
            self.store.delete(run_id)
            self._feeds.pop(run_id, None)
            self._followed.pop(run_id, None)

    def active(self) -> str | None:
        """Id of the run whose worker lives, one of the page before one of the command line, or None."""
        trainings = sorted(self._living(), key=lambda training: not training.ours)
        return trainings[0].feed.folder.id if trainings else None

    def alive(self, run_id: str) -> bool:
        """Whether the worker of this run is followed here and lives."""
        return any(training.feed.folder.id == run_id for training in self._living())

    def waits_for(self, run_id: str) -> str | None:
        """Id of the run that a queued one comes right after, None when it does not wait."""
        if not self.queue.holds(run_id):
            return None
        ahead = self.queue.ahead_of(run_id)
        return ahead[-1] if ahead else self._working()

    def look(self, run_id: str) -> None:
        """Follow a run that a command line has begun here meanwhile; give it its end when its process is gone."""
        with self._lock:
            folder = self.store.folder(run_id)
            status = folder.status()
            if self.alive(run_id) or status is None or status.end or self.queue.holds(run_id):
                return
            if status.alive:
                self._follow(folder, None)
            else:
                self._feeds.setdefault(run_id, Feed(folder)).give_end(death_reason(None, folder))

    def feed(self, run_id: str) -> Feed:
        """The feed of a run, read to its present end when no thread follows it."""
        with self._lock:
            if run_id not in self._feeds:
                self._feeds[run_id] = Feed(self.store.folder(run_id))
            feed = self._feeds[run_id]
        if not self.alive(run_id):
            feed.read()
        return feed

    def shutdown(self) -> None:
        """Ask a running worker to save and end, and wait until it has (or was killed). Who waits, waits for the next page.

        A run of the command line is left at its work: it is watched here, but belongs to its terminal.
        """
        for training in self.ask_to_end():
            training.join()

    def ask_to_end(self) -> list[_Training]:
        """Ask a running worker to save and end, and start no other; returns whom to wait for."""
        with self._lock:
            self._closing = True
            ours = [training for training in self._living() if training.ours]
        for training in ours:
            training.ask_to_stop()
        return ours

    def _living(self) -> list[_Training]:
        return [training for training in list(self._followed.values()) if training.is_alive() and not training.over]

    def _working(self) -> str | None:
        """Id of the run that a worker of the page is at, or None."""
        return next((training.feed.folder.id for training in self._living() if training.ours), None)

    def _begin(self, folder: RunFolder, *, resume: bool) -> None:
        """Start at once when nobody is before it, else line up."""
        if self._working() is None and not self.queue.waiting() and not self._closing:
            self._launch(folder, resume=resume)
            return
        self.queue.add(folder, resume=resume)
        self._start_next()

    def _start_next(self) -> None:
        """Start the first of the queue, unless a worker of the page is at its work or the page is ending."""
        with self._lock:
            if self._closing or self._working() is not None:
                return
            for run in self.queue.waiting():
                if self.queue.take(run.id):
                    folder = self.store.folder(run.id)
                    try:
                        replace_json(folder.path / "status.json", asdict(Status()))
                        self._launch(folder, resume=run.resume)
                    except OSError as error:  # this one cannot begin; the others still may
                        feed = self._feeds.setdefault(run.id, Feed(folder))
                        feed.give_end(f"Its worker could not be started ({error.strerror or error}).")
                        continue
                    return

    def _launch(self, folder: RunFolder, *, resume: bool) -> None:
        arguments = [*self._command, str(folder.path), *(["--resume"] if resume else [])]
        # Threads that wait for one another sleep instead of spinning: the page shares these cores.
        environment = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1", **os.environ}
        environment |= {"HF_TOKEN": self._tokens[folder.id]} if folder.id in self._tokens else {}
        folder.forget_stop()
        (folder.path / MARKER).unlink(missing_ok=True)
        if resume:
            self._forget_end(folder)
        with folder.log_path.open("ab") as log:
            # A session of its own: a killed server, or Ctrl-C in its terminal, does not take the run along.
            process = subprocess.Popen(
                arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, env=environment
            )
        self._follow(folder, process)

    def _forget_end(self, folder: RunFolder) -> None:
        """Until the worker's first word, the run is starting, and no longer what it ended as."""
        replace_json(folder.path / "status.json", asdict(Status()))
        feed = self.feed(folder.id)
        feed.queue.put({"time": time.time(), **PhaseChanged("starting", "resuming").to_dict()})

    def _follow(self, folder: RunFolder, process: subprocess.Popen[bytes] | None) -> None:
        feed = self._feeds.setdefault(folder.id, Feed(folder))
        training = self._followed[folder.id] = _Training(feed, process, self._patience, self._start_next)
        training.start()

    def _attach(self) -> None:
        """Follow workers that outlived the last server; give runs whose worker is gone their end."""
        for run_id in self.store.ids():
            folder = self.store.folder(run_id)
            status = folder.status()
            if (status is not None and status.end) or is_queued(folder):
                continue
            if status is not None and status.alive:
                self._follow(folder, None)
            else:
                feed = self._feeds.setdefault(run_id, Feed(folder))
                feed.give_end("The worker was gone when the page was started again.")
