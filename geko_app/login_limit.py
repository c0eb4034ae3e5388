"""Limits attempts to sign in: after some wrong passwords each one more has to wait, for ever longer. Knows no request."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

FREE = 5  # attempts before the first wait
LONGEST = 900  # seconds
REMEMBERED = 10_000  # addresses
FORGOTTEN_AFTER = 3600.0  # seconds without an attempt


class LoginLimit:
    """Counts attempts per client address, in memory: nobody sleeps, who comes too early is sent away.

    An attempt counts when it begins and is forgotten when it succeeds, so many at once gain nothing.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._attempts: OrderedDict[str, tuple[int, float]] = OrderedDict()  # count, time of the last one

    def wait(self, address: str) -> int:
        """Seconds until an attempt from `address` is heard again, rounded up; 0 for at once."""
        count, last = self._attempts.get(network_of(address), (0, 0.0))
        if count < FREE or self._clock() - last > FORGOTTEN_AFTER:
            return 0
        return int(max(0, math.ceil(last + min(2 ** min(count - FREE, 20), LONGEST) - self._clock())))

    def attempt(self, address: str) -> int:
        """Count an attempt and return 0, or return the seconds to wait without counting."""
        wait, network, now = self.wait(address), network_of(address), self._clock()
        if wait:
            return wait
        count, last = self._attempts.pop(network, (0, now))
        self._attempts[network] = (1 if now - last > FORGOTTEN_AFTER else count + 1, now)
        while len(self._attempts) > REMEMBERED:
            self._attempts.popitem(last=False)
        return 0

    def forget(self, address: str) -> None:
        """An attempt from `address` succeeded."""
        self._attempts.pop(network_of(address), None)


def network_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 network that one holder of an IPv6 address has."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((int(parsed), 64), strict=False))
    return str(parsed)
