"""One POST when a run ends, to an address of the user. Standard library only; knows no run folder.

Nothing here raises, and nothing that it says names more of the address than its host: the rest may hold a secret.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

SCHEMES = ("http", "https")
HIDDEN = "/…"  # the end of an address whose path and query are not shown
SECONDS = 5.0  # to connect and to answer; a run that ends does not wait longer for it
FIGURES = (  # of the report, as they are
    *("samples", "epochs", "epochs_done", "steps", "seconds", "train_seconds"),
    *("tokens_forwarded", "tokens_backwarded", "plain_training_tokens", "compute_saved_ratio", "seconds_saved_ratio"),
    *("train_loss", "eval_loss_before", "eval_loss_after", "exact_match_before", "exact_match_after"),
)


def webhook_problem(url: str) -> str:
    """Why nothing can be posted to `url`, or ""."""
    if url.endswith(HIDDEN):
        return "A part of this address is hidden: give the whole address."
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        return "This is no address: give one that begins with https:// or http://."
    if parts.scheme not in SCHEMES or not host or port == 0 or not url.isprintable() or " " in url:
        return "This is no address: give one that begins with https:// or http://."
    if parts.username is not None or parts.password is not None:
        return "User name and password cannot stand in the address: use a token in its path or query."
    return ""


def hidden_path(url: str) -> str:
    """An address for others to see: up to its host, because path and query may hold a secret; "" for none."""
    if not url:
        return ""
    return HIDDEN if webhook_problem(url) else f"{_place(url)}{HIDDEN}"


def message_of(run: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """What is posted.

    Args:
        run: id of the run.
        report: of the run, as in report.json.
    """
    figures = {name: report[name] for name in FIGURES if name in report}
    return {"run": run, "status": report.get("end"), "reason": report.get("reason"), "figures": figures}


def post(url: str, message: Mapping[str, Any], seconds: float = SECONDS) -> tuple[bool, str]:
    """Post `message` as JSON, once.

    Returns:
        (whether it was taken, one sentence for the log).
    """
    place = _place(url)
    if webhook_problem(url):
        return False, "The webhook was not called: its address is no http or https address."
    body = json.dumps(message, allow_nan=False).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "geko"}
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=seconds) as answer:
            return True, f"The webhook at {place} was called (HTTP {answer.status})."
    except urllib.error.HTTPError as error:
        error.close()
        problem = f"it answered HTTP {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:  # their own words may quote the address
        problem = f"no answer within {seconds:g} s" if _is_timeout(error) else type(error).__name__
        reason = getattr(error, "reason", None)
        if isinstance(reason, OSError) and reason.strerror and not _is_timeout(error):
            problem = reason.strerror
    return False, f"The webhook at {place} failed ({problem}). The run is not affected."


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the message elsewhere, as a GET."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _is_timeout(error: Exception) -> bool:
    return isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError)


def _place(url: str) -> str:
    """Scheme, host and port of an address: all that may be said of it."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "its address"
    return f"{parts.scheme}://{parts.hostname}{port}"
