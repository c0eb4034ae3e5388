"""An OpenAPI description -> a page to read: every call, its arguments and its answers. Pure; no script, no network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; --quiet: color-mix(in srgb, currentColor 60%, transparent);
  --line: color-mix(in srgb, currentColor 15%, transparent); --accent: light-dark(#0f766e, #2dd4bf); }
body { font: 15px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 2.5rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.6rem; margin-bottom: .25rem; } h2 { font-size: 1.05rem; margin: 0; } h3 { font-size: .9rem; margin: 1rem 0 .25rem; }
section { border-top: 1px solid var(--line); padding: 1.25rem 0; }
code, pre { font: 13px/1.5 ui-monospace, monospace; } pre { overflow-x: auto; padding: .75rem; border: 1px solid var(--line); border-radius: 6px; }
.method { color: var(--accent); font-weight: 600; margin-right: .5rem; } p { margin: .4rem 0; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--quiet); font-weight: 500; font-size: .85rem; } .quiet { color: var(--quiet); } a { color: var(--accent); }
.wide { overflow-x: auto; }
"""
EXAMPLE = """curl -H "Authorization: Bearer $GEKO_API_TOKEN" -H "Content-Type: application/json" \\
  -d '{"demo": true, "config": {"training": {"num_epochs": 1}}}' http://localhost:7860/api/v1/runs"""


def page(description: dict[str, Any]) -> str:
    """The page as HTML.

    Args:
        description: an OpenAPI document.
    """
    facts = description["info"]
    parts = [f"<h1>{escape(facts['title'])}</h1><p class='quiet'>Version {escape(facts['version'])}</p>"]
    parts.append(f"<p>{_prose(facts['description'])} The same as JSON: <a href='openapi.json'>openapi.json</a>.</p>")
    parts.append(f"<pre><code>{escape(EXAMPLE)}</code></pre>")
    for path, methods in description["paths"].items():
        parts += [_call(method, path, call) for method, call in methods.items()]
    parts.append("<section><h2>Types</h2></section>")
    schemas = description["components"]["schemas"]
    parts += [_schema(name, schemas[name]) for name in sorted(schemas) if "ValidationError" not in name]
    title = escape(facts["title"])
    head = f"<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>{title}</title>"
    return f"<!doctype html><html lang='en'><head>{head}<style>{STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>"


def _call(method: str, path: str, call: dict[str, Any]) -> str:
    head = f"<h2><span class='method'>{method.upper()}</span><code>{escape(path)}</code></h2>"
    return f"<section>{head}<p>{_prose(call.get('description', ''))}</p>{_arguments(call)}{_answers(call)}</section>"


def _arguments(call: dict[str, Any]) -> str:
    rows = [
        (one["name"], one["in"], _type(one["schema"]), _default(one["schema"]), one.get("description", ""))
        for one in call.get("parameters", [])
    ]
    body = call.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body:
        rows.append(("", "body", _type(body), "", ""))
    return _table(("Argument", "In", "Type", "Default", ""), rows) if rows else ""


def _answers(call: dict[str, Any]) -> str:
    """What is answered, in one line: each status with its type."""
    found = [
        f"<code>{escape(status)}</code> {_content(answer.get('content', {}))}"
        for status, answer in call["responses"].items()
        if status.startswith("2")
    ]
    errors = ", ".join(f"<code>{escape(status)}</code>" for status in call["responses"] if not status.startswith("2"))
    return f"<p>Answers {', '.join(found)}; errors {errors} are an <a href='#ErrorAnswer'>ErrorAnswer</a>.</p>"


def _content(content: dict[str, Any]) -> str:
    """The type of an answer in JSON; of any other answer what kind of file it is."""
    kinds = [kind for kind in content if kind != "application/json"]
    return escape(", ".join(kinds)) if kinds else _type(content.get("application/json", {}).get("schema", {}))


def _schema(name: str, schema: dict[str, Any]) -> str:
    rows = [
        (field, _type(values), _default(values), values.get("description", ""))
        for field, values in schema.get("properties", {}).items()
    ]
    about = f"<p>{_prose(schema.get('description', ''))}</p>"
    return f"<section id='{escape(name)}'><h2>{escape(name)}</h2>{about}{_table(('Field', 'Type', 'Default', ''), rows)}</section>"


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table; types are HTML already, everything else is escaped."""
    kind = heads.index("Type")
    head = "".join(f"<th scope='col'>{text}</th>" for text in heads)
    lines = "".join(f"<tr>{''.join(_cells(row, kind))}</tr>" for row in rows)
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"


def _cells(row: tuple[str, ...], kind: int) -> Iterator[str]:
    for place, text in enumerate(row):
        if place == 0:
            yield f"<td><code>{escape(text)}</code></td>"
        else:
            yield f"<td>{text if place == kind else _prose(text)}</td>"


def _type(schema: dict[str, Any]) -> str:
    """A type in one line of HTML; a type that is described on the page is a link."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f"<a href='#{name}'>{name}</a>"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return escape(str(schema.get("type", "any")))


def _default(schema: dict[str, Any]) -> str:
    return f"`{json.dumps(schema['default'])}`" if "default" in schema else ""


def _prose(text: str) -> str:
    """Escaped text in which `words` are code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces))
