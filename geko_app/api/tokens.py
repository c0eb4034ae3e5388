"""The bearer token of the API: whether it is strong enough, and whether a request carries it. Knows no route.

The token is compared in constant time and kept as its hash, so that no message or traceback can contain it.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from starlette.datastructures import Headers

from geko_engine.exceptions import RunError

SHORTEST = 16  # characters; shorter ones could be guessed
NO_TOKEN = "Send the API token of this page in the header `Authorization: Bearer TOKEN`."


class ApiToken:
    """The token that a page asks programs for.

    Args:
        token: at least SHORTEST visible ASCII characters.

    Raises:
        RunError: it is too short, or could not be sent in a header. The message does not contain it.
    """

    def __init__(self, token: str) -> None:
        if len(token) < SHORTEST or not all("!" <= letter <= "~" for letter in token):
            raise RunError(
                f"The API token must have at least {SHORTEST} characters, without spaces: take one from "
                "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`."
            )
        self._hash = _hash(token)

    def admits(self, headers: Headers) -> bool:
        """Whether a request with these headers carries the token."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return hmac.compare_digest(_hash(given.strip()), self._hash) and scheme.lower() == "bearer"


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


@dataclass(frozen=True)
class ApiOptions:
    """The interface for programs.

    Attributes:
        token: that every request must carry.
        mcp: whether to offer its functions as MCP tools, too.
    """

    token: ApiToken
    mcp: bool = False
