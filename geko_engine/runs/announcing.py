"""Posts the end of a run to the webhook in its settings. Knows the run folder, but no trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geko_engine.exceptions import GekoError
from geko_engine.reporting.events import Event, Message
from geko_engine.reporting.webhook import message_of, post
from geko_engine.runs.folder import RunFolder
from geko_engine.storage.atomic_files import finite


def announce_end(folder: RunFolder, emit: Callable[[Event], None], report: dict[str, Any]) -> None:
    """Post the end of a run to its training.webhook_url, if it has one; whatever happens is a line in the log.

    Args:
        folder: of the run.
        emit: gets a message.
        report: of the run, as in report.json.
    """
    try:
        url = folder.config().training.webhook_url
    except GekoError:
        return  # the end of the run says what is wrong with its settings
    if url:
        taken, sentence = post(url, message_of(folder.id, finite(report)))
        emit(Message(sentence, "info" if taken else "warning"))
