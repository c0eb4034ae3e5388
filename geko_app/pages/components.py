"""What all pages are made of: static files, live HTML parts, and arguments that a browser sends. Knows no page."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from geko_app.languages import FOLDER
from geko_engine.exceptions import GekoError

ServerFunction = Callable[[Any], Any]
MARKDOWN = re.compile(r"[\\`*_{}\[\]<>#|~$]")
STATIC = Path(__file__).parent.parent / "static"
HIDDEN = "<span hidden></span>"  # of a part that only has a script
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}  # of events without a sign on the page


def _scripts_url() -> str:
    """Where the scripts are served. The address changes with them, so that no browser mixes old and new ones."""
    texts = [*sorted(STATIC.glob("*.js")), *sorted(FOLDER.rglob("*.json"))]
    content = b"".join(path.read_bytes() for path in texts)
    return f"geko-static/{hashlib.sha256(content).hexdigest()[:12]}"


SCRIPTS_URL = _scripts_url()


def static_text(name: str) -> str:
    """The text of a file that ships with the page."""
    return (STATIC / name).read_text(encoding="utf-8")


def live_html(name: str, functions: Sequence[ServerFunction], elem_id: str | None = None) -> gr.HTML:
    """One HTML part with its own script.

    Args:
        name: of static/<name>.html, and of static/<name>.js, whose `mount` is called.
        functions: what the script may call. Each gets one object and is a public endpoint, so it checks what it gets.
        elem_id: of the part; geko-<name> by default.
    """
    return gr.HTML(
        html_template=static_text(f"{name}.html"),
        js_on_load=mount_script(name),
        elem_id=elem_id or f"geko-{name.replace('_', '-')}",
        server_functions=list(functions),
        padding=False,
    )


def mount_script(name: str) -> str:
    """JavaScript for an HTML part when it is loaded: calls `mount` of static/<name>.js."""
    sentence = "A part of the page could not be loaded. Reload the page."
    failed = f"element.insertAdjacentHTML('afterbegin', '<p class=\"geko-error\" role=\"alert\">{sentence}</p>')"
    return f"""{_module(name)}.then(
  (script) => script.mount({{ element, server, trigger, props }}),
  (error) => {{ {failed}; throw error; }},
);"""


def script_call(name: str, function: str, *arguments: Any) -> str:
    """JavaScript for an event: calls the function that `function(*arguments)` of static/<name>.js returns."""
    given = ", ".join(json.dumps(argument) for argument in arguments)
    return f"async (...values) => (await {_module(name)}).{function}({given})(...values)"


def _module(name: str) -> str:
    return f"import(new URL('{SCRIPTS_URL}/{name}.js', document.baseURI))"


def plain(text: str) -> str:
    """Markdown that shows `text` as it is: a sentence may quote what a visitor typed."""
    return MARKDOWN.sub(r"\\\g<0>", text)


def result_or_error(action: Callable[[], Any], name: str = "") -> dict[str, Any]:
    """Do it, and put an error into words.

    Args:
        action: raises a GekoError for what the user should read.
        name: key for its result; without one, the result is not sent.

    Returns:
        {"error": "", name: the result}, or the error and "" as the result.
    """
    try:
        result, error = action(), ""
    except GekoError as problem:
        result, error = "", str(problem)
    return {"error": error, name: result} if name else {"error": error}


def result_or_sentence(action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of `action` with an empty `sentence`, or only the sentence why there is none."""
    try:
        return {"sentence": "", **action()}
    except GekoError as error:
        return {"sentence": str(error)}


def str_arg(query: Any, name: str) -> str:
    """The text `name` of what a script sent; "" for anything else."""
    value = query.get(name) if isinstance(query, dict) else None
    return value if isinstance(value, str) else ""


def str_list_arg(query: Any, name: str, limit: int) -> list[str]:
    """The first `limit` different texts of the list `name` of what a script sent."""
    values = query.get(name) if isinstance(query, dict) else None
    return list(dict.fromkeys(v for v in values if isinstance(v, str)))[:limit] if isinstance(values, list) else []


def int_arg(query: Any, name: str) -> int:
    """The integer `name` of what a script sent, from 0 on; 0 for anything else."""
    value = query.get(name) if isinstance(query, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
