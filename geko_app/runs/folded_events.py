"""The state of a run, folded from events.jsonl, with an index on disk so that a long file is folded once. Knows no process.

The index (`live_state.jsonl` in the run's folder) has two lines: a head, and the state after the first `offset` bytes of
events.jsonl. It is used only if the checksum of those bytes still fits, so events.jsonl stays the truth: the index may be
removed at any time, and one that does not fit is built anew.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

from geko_app.runs.live_state import RunState
from geko_engine.reporting.quick_json import loads
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.atomic_files import replace_file

INDEX = "live_state.jsonl"
INDEX_EVERY = 4_000_000  # bytes of events, some 8,000 steps, which are folded in the twentieth of a second
BLOCK = 1 << 20  # bytes
# An index is of use only to the code that folded it: another one may fold the same events differently.
VERSION = (
    f"{zlib.crc32(b''.join(Path(__file__).with_name(name).read_bytes() for name in ('curve.py', 'live_state.py'))):08x}"
)
GUARD = 64  # bytes before the offset that must not change: they hold the time of the last event


@dataclass(frozen=True)
class Head:
    """The first line of the index.

    Attributes:
        version: of the code that folded the events.
        offset: bytes of events.jsonl that are in the state.
        events: CRC-32 of those bytes.
        state: CRC-32 of the second line.
    """

    version: str
    offset: int
    events: int
    state: int


class FoldedEvents:
    """Folds a run's events as they are written. Not thread-safe.

    Args:
        folder: the run.
        index_every: bytes of new events after which the index is written again.
    """

    def __init__(self, folder: RunFolder, index_every: int = INDEX_EVERY) -> None:
        self.folder = folder
        self.state = RunState()
        self.rewritten = 0  # how often the file was found cut or replaced
        self._index_every = index_every
        self._index = folder.path / INDEX
        self._offset, self._guard = 0, b""
        self._indexed, self._checksum = 0, 0  # bytes that the index on disk covers, and their checksum
        self._opened = False

    def read(self) -> bool:
        """Fold what was written since the last call. Returns whether there was anything, or the file was rewritten."""
        if not self._opened:
            self._opened = True
            self._load_index()
        before = self.rewritten, self._offset
        if self._was_rewritten():
            self.rewritten += 1
            self.state, self._offset, self._guard, self._indexed, self._checksum = RunState(), 0, b"", 0, 0
        try:
            for offset, event in self.folder.events(self._offset):
                self.state.apply(event)
                self._offset = offset
        finally:
            self._guard = bytes_before(self.folder.events_path, self._offset)
        if self._offset - self._indexed >= self._index_every:
            self._write_index()
        return before != (self.rewritten, self._offset)

    def _was_rewritten(self) -> bool:
        """Whether the file was cut or replaced since the last call: a resumed run may cut it."""
        found = bytes_before(self.folder.events_path, self._offset)
        return found != self._guard or len(found) < min(GUARD, self._offset)

    def _load_index(self) -> None:
        """Start from the index if there is one that fits."""
        try:
            first, _, second = self._index.read_bytes().partition(b"\n")
            head = Head(**loads(first))
            if head.version != VERSION or head.state != zlib.crc32(second):
                return
            if checksum(self.folder.events_path, 0, head.offset) != head.events:
                return
            state = RunState.from_json(loads(second))
            guard = bytes_before(self.folder.events_path, head.offset)
        except (OSError, ValueError, TypeError, KeyError):
            return  # it is missing or damaged
        self.state, self._offset, self._guard = state, head.offset, guard
        self._indexed, self._checksum = head.offset, head.events

    def _write_index(self) -> None:
        """Write the index, if the disk lets us: without one the events are folded again."""
        with contextlib.suppress(OSError, ValueError):
            found = checksum(self.folder.events_path, self._indexed, self._offset, self._checksum)
            if found is None:
                return  # cut meanwhile: the next call finds that
            self._indexed, self._checksum = self._offset, found  # also if it fails: or every call would try again
            body = json.dumps(self.state.to_json(), allow_nan=False).encode()
            head = json.dumps(asdict(Head(VERSION, self._offset, found, zlib.crc32(body)))).encode()

            def write(path: Path) -> None:
                path.write_bytes(head + b"\n" + body)

            replace_file(self._index, write)


def checksum(path: Path, begin: int, end: int, start: int = 0) -> int | None:
    """CRC-32 of the bytes from `begin` to `end` of a file, continued from `start`; None if it is shorter."""
    with path.open("rb") as file:
        file.seek(begin)
        while begin < end:
            block = file.read(min(BLOCK, end - begin))
            if not block:
                return None
            start, begin = zlib.crc32(block, start), begin + len(block)
    return start


def bytes_before(path: Path, offset: int) -> bytes:
    """The GUARD bytes before `offset`, fewer if there are not so many; b"" without a file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, offset - GUARD))
            return file.read(min(GUARD, offset))
    except FileNotFoundError:
        return b""
