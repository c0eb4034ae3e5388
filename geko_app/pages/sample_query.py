"""Which samples a tab wants to see, as its script sent it. Knows no page."""

from __future__ import annotations

from typing import Any

from geko_app.pages.components import int_arg, str_arg
from geko_app.views.sample_filters import Query

MAX_SEARCH = 200  # characters


def query_of(query: Any) -> Query:
    """The filter, search and order that a script sent; invalid parts are ignored."""
    return Query(
        filter=str_arg(query, "filter"),
        text=str_arg(query, "text")[:MAX_SEARCH].strip(),
        sort=str_arg(query, "sort"),
        down=isinstance(query, dict) and query.get("down") is True,
        page=int_arg(query, "page"),
        slicing=str_arg(query, "slicing"),
        value=str_arg(query, "value"),
    )
