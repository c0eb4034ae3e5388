"""JSON as quickly as it can be read: with orjson where that is installed, as it is with the page. Knows no event."""

from __future__ import annotations

import json
from typing import Any

try:
    import orjson
except ImportError:  # the engine alone
    orjson = None  # type: ignore[assignment]


def loads(text: bytes) -> Any:
    """What `json.loads` gives, four times as fast; integers beyond 64 bits may come as floats. Raises ValueError, as that does."""
    if orjson is not None:
        try:
            return orjson.loads(text)
        except ValueError:  # it rejects NaN and half characters, which json accepts
            pass
    return json.loads(text)
