"""The run that the form describes as YAML, command and Python, and the form from YAML. Starts nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import gradio as gr

from geko_app.form import export
from geko_app.form import values as form
from geko_app.form.fields import FIELDS
from geko_app.pages.components import HIDDEN, QUIET, mount_script, plain
from geko_engine.exceptions import GekoError

Components = Mapping[str, gr.components.Component]


def export_section(components: Components, shown: dict[str, Any]) -> None:
    """Add the section to the open layout.

    Args:
        components: the fields of the form by key.
        shown: initial value of each field by key.
    """
    fields = [components[f.key] for f in FIELDS]
    yaml, command, script = _exports(*(shown[f.key] for f in FIELDS))
    with gr.Accordion("YAML, command and Python", open=False, elem_id="geko-export") as section:
        gr.Markdown(
            "The run above as a configuration file, a command and a script. You can edit or paste YAML and apply it."
        )
        # The fields are not inputs of this event: one that ends late would remove the errors shown at them.
        updates = gr.HTML(html_template=HIDDEN, js_on_load=mount_script("form_export"), padding=False)
        outputs: list[gr.components.Component] = [
            gr.Code(yaml, label="YAML", language="yaml", interactive=True, elem_id="geko-yaml", wrap_lines=True)
        ]
        apply = gr.Button("Apply this YAML", size="sm", elem_id="geko-apply-yaml")
        message = gr.Markdown(elem_id="geko-yaml-message")
        for text, label, language in ((command, "Command", "shell"), (script, "Python", "python")):
            name = f"geko-{label.lower()}"
            outputs.append(
                gr.Code(text, label=label, language=language, interactive=False, elem_id=name, wrap_lines=True)
            )
    section.expand(_exports, fields, outputs, concurrency_limit=None, preprocess=False, **QUIET)
    updates.change(_update_exports, updates, outputs, trigger_mode="always_last", concurrency_limit=None, **QUIET)
    apply.click(_apply_yaml, outputs[0], [message, *fields], concurrency_limit=None, **QUIET)


def _update_exports(values: Any) -> tuple[str, str, str]:
    """The exports of what the script sent: the values in the order of FIELDS, as JSON."""
    try:
        found = json.loads(values)
    except (TypeError, ValueError, RecursionError):
        found = None
    return _exports(*found) if isinstance(found, list) and len(found) == len(FIELDS) else ("", "", "")


def _exports(*values: Any) -> tuple[str, str, str]:
    """(YAML, command, Python) of the form's values; instead of them, comments that name what is wrong."""
    try:
        config = form.to_config(values)
    except GekoError as error:
        text = "\n".join(f"# {form.label_of(key)}: {message}" for key, message in error.problems)
        return text, text, text
    return export.as_yaml(config), export.as_command(config), export.as_python(config)


def _apply_yaml(text: str) -> list[Any]:
    """Fill in the form from YAML; if that is invalid, say why and leave the form alone."""
    notes: list[str] = []
    try:
        shown = export.from_yaml(str(text or ""), on_renamed=notes.append)
    except GekoError as error:
        problems = (f"**{plain(key)}:** {plain(text)}" if key else plain(text) for key, text in error.problems)
        return ["\n\n".join(problems), *(gr.skip() for _ in FIELDS)]
    return [plain("".join(notes)), *(shown[f.key] for f in FIELDS)]
