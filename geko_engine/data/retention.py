"""Rows that show whether a model forgets what it knew: the built-in ones of general knowledge, or the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DEMO, GENERAL, DataConfig
from geko_engine.data.batches import TokenizedData
from geko_engine.data.formats import recognise
from geko_engine.data.rendering import RenderedRows
from geko_engine.data.sources import load_rows
from geko_engine.data.tokenization import tokenise_rendered
from geko_engine.demo import demo_path
from geko_engine.exceptions import DataError

FIELD = "data.retention"


def retention_samples(
    config: RunConfig, tokenizer: Any, longest: int, should_stop: Callable[[], bool] = lambda: False
) -> TokenizedData | None:
    """The rows of data.retention as tokens; None where nothing is to be measured.

    They are rendered as the training rows are, with a chat template that was given to the tokenizer.

    Args:
        longest: tokens that the model can take in one sample.

    Raises:
        DataError: at data.retention. Stopped: when should_stop says so.
    """
    name = config.data.retention
    if not name or (name == GENERAL and config.model.name == DEMO):
        return None
    path = str(demo_path("general.jsonl")) if name == GENERAL else name
    data = DataConfig(path, chat_template=config.data.chat_template, max_length=config.data.max_length)
    try:
        rows = load_rows(data, should_stop=should_stop)
        rendered = RenderedRows(rows, recognise(rows, data, tokenizer), tokenizer)
        return tokenise_rendered(rendered, min(data.max_length, longest), should_stop=should_stop)
    except DataError as error:
        raise DataError(f"The rows of data.retention cannot be used. {error}", FIELD) from error
