"""What all pages are made of: static files, live HTML parts, and the reading of what a browser sends. Knows no page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from geko_engine.exceptions import GekoError

ServerFunction = Callable[[Any], Any]
STATIC = Path(__file__).parent.parent / "static"


def _scripts_url() -> str:
    """Where the server serves the scripts; it changes with them, so that no browser mixes old ones with new ones."""
    content = b"".join(path.read_bytes() for path in sorted(STATIC.glob("*.js")))
    return f"geko/static/{hashlib.sha256(content).hexdigest()[:12]}"


SCRIPTS_URL = _scripts_url()


def static_text(name: str) -> str:
    """The text of a file that ships with the page."""
    return (STATIC / name).read_text(encoding="utf-8")


def live_html(name: str, functions: Sequence[ServerFunction], elem_id: str | None = None) -> gr.HTML:
    """One HTML part with its own script: static/<name>.html, and `mount` of static/<name>.js.

    Each of `functions` gets one object from the script and is a public endpoint: it checks what it gets.
    """
    return gr.HTML(
        html_template=static_text(f"{name}.html"),
        js_on_load=mount_script(name),
        elem_id=elem_id or f"geko-{name.replace('_', '-')}",
        server_functions=list(functions),
        padding=False,
    )


def mount_script(name: str) -> str:
    """What an HTML part does when it is loaded: call `mount` of static/<name>.js."""
    sentence = "A part of the page could not be loaded. Reload the page."
    failed = f"element.insertAdjacentHTML('afterbegin', '<p class=\"geko-error\" role=\"alert\">{sentence}</p>')"
    return f"""{_module(name)}.then(
  (script) => script.mount({{ element, server, trigger, props }}),
  (error) => {{ {failed}; throw error; }},
);"""


def script_call(name: str, function: str, *arguments: Any) -> str:
    """What Gradio calls with the values of an event: the function that `function(*arguments)` of static/<name>.js gives."""
    given = ", ".join(json.dumps(argument) for argument in arguments)
    return f"async (...values) => (await {_module(name)}).{function}({given})(...values)"


def _module(name: str) -> str:
    return f"import(new URL('{SCRIPTS_URL}/{name}.js', document.baseURI))"


def answer(action: Callable[[], Any]) -> dict[str, str]:
    """Do it; {"error": ""} or the sentence why it could not be done."""
    try:
        action()
    except GekoError as error:
        return {"error": str(error)}
    return {"error": ""}


def text_of(query: Any, name: str) -> str:
    """The text `name` of a query, "" for anything else."""
    value = query.get(name) if isinstance(query, dict) else None
    return value if isinstance(value, str) else ""


def texts_of(query: Any, name: str, limit: int) -> list[str]:
    """The first `limit` texts of the list `name` of a query, each once."""
    values = query.get(name) if isinstance(query, dict) else None
    return list(dict.fromkeys(v for v in values if isinstance(v, str)))[:limit] if isinstance(values, list) else []


def whole_of(query: Any, name: str) -> int:
    """The whole number `name` of a query from 0 on, 0 for anything else."""
    value = query.get(name) if isinstance(query, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
