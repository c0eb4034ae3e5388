"""The page ends at its signal, whichever of its threads the system hands it to."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at the state of a thread in /proc")

WAITS = """
import os, signal, sys, threading
from geko_app.end_signal import EndSignal

ended = EndSignal().install()

def end():
    asleep = 0
    while asleep < 100:  # looks in a row: the main thread waits, and not only for this one
        with open(f"/proc/self/task/{os.getpid()}/stat") as stat:
            asleep = asleep + 1 if stat.read().rsplit(")", 1)[1].split()[0] == "S" else 0
    signal.pthread_kill(threading.get_ident(), signal.Signals[sys.argv[1]])
    threading.Event().wait()  # it runs no further code of Python, which could wake the main thread

threading.Thread(target=end, daemon=True).start()
ended.wait()
print("ended", flush=True)
"""


TWICE = """
import os, signal
from types import SimpleNamespace
from geko_app.end_signal import EndSignal
from geko_app.server import end_at_second_signal

def request_shutdown(*, now):
    print("now:", now, flush=True)
    os._exit(0)

ended = EndSignal().install()
os.kill(os.getpid(), signal.SIGTERM)
ended.wait()
os.kill(os.getpid(), signal.SIGTERM)  # before anything was said: some programs send it twice
end_at_second_signal(ended, SimpleNamespace(request_shutdown=request_shutdown))
print("said", flush=True)
os.kill(os.getpid(), signal.SIGINT)
signal.pause()
"""


def test_a_second_signal_ends_the_runs_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "said\nnow: True\n"), done.stderr


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_that_another_thread_receives_ends_the_wait(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", WAITS, name], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
