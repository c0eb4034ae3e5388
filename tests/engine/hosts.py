"""Two "hosts" on one machine: network namespaces joined by a cable (veth), one process of torchrun in each.

They share the disk, like hosts with a network file system, but no network device: what one knows of the other comes over the
cable. Needs Linux, root and iproute2.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PORT = 29533
FIRST, SECOND = "10.213.77.1", "10.213.77.2"


class Hosts:
    """Both namespaces.

    Args:
        name: the beginning of their names.
    """

    def __init__(self, name: str) -> None:
        self.names = (f"{name}a", f"{name}b")

    def begin(
        self, *arguments: str, cwd: Path, hidden: Path | None = None
    ) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
        """torchrun of geko_engine on both, the first one being the one that writes.

        Args:
            arguments: of geko-train.
            cwd: for both.
            hidden: a folder that the second host does not see the content of.
        """
        first, second = (self._torchrun(rank, arguments, cwd, hidden if rank else None) for rank in (0, 1))
        return first, second

    def _torchrun(self, rank: int, arguments: tuple[str, ...], cwd: Path, hidden: Path | None) -> subprocess.Popen[str]:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(rank)]
        launcher += ["--nproc-per-node", "1", "--master-addr", FIRST, "--master-port", str(PORT)]
        command = [*launcher, "-m", "geko_engine", *arguments]
        if hidden is not None:  # each `ip netns exec` has mounts of its own
            command = ["sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(hidden), *command]
        interface = {"GLOO_SOCKET_IFNAME": self.names[rank], "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            ["ip", "netns", "exec", self.names[rank], *command],
            cwd=cwd,
            env={**os.environ, **interface},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a host is killed with all of its processes
        )


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """The namespaces, until the end of the block.

    Raises:
        OSError: when the system does not allow them.
    """
    hosts = Hosts(f"geko{secrets.token_hex(3)}")
    first, second = hosts.names
    try:
        _ip("netns", "add", first)
        _ip("netns", "add", second)
        _ip("link", "add", first, "netns", first, "type", "veth", "peer", "name", second, "netns", second)
        for name, address in ((first, FIRST), (second, SECOND)):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", name)
            _ip("-n", name, "link", "set", name, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield hosts
    finally:
        for name in hosts.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
