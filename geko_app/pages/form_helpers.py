"""Parts of the form that help to fill it in: suggestions, the table of the data, the summary of the check, the foot."""

from __future__ import annotations

from typing import Any

import gradio as gr

from geko_app.form import values as form
from geko_app.form.fields import FIELDS
from geko_app.hardware import visible_gpus
from geko_app.pages.components import HIDDEN, live_html, mount_script, static_text
from geko_app.services import Services
from geko_app.views.suggestions import DATA, MODEL, Suggestions, as_query, hub_options
from geko_app.workers.data_tables import NOTHING_READ
from geko_engine.exceptions import GekoError

Values = dict[str, Any]


def picker(services: Services) -> gr.HTML:
    """Adds the suggestions at the fields of the model and the data."""
    suggestions = Suggestions(services.supervisor.store, services.checks.roots)

    def suggest(query: Any) -> Values:
        field, text = as_query(query)
        return {"options": suggestions.local(field, text) if field else []}

    def search(query: Any) -> Values:
        """What the Hub finds. Offline or out of reach, that is said instead."""
        field, text = as_query(query)
        found = hub_options(field, text) if field and text else []
        return {"options": found or [], "reached": found is not None}

    return gr.HTML(
        html_template=HIDDEN,
        js_on_load=mount_script("form_picker"),
        padding=False,
        server_functions=[suggest, search],
        fields=[MODEL, DATA],
    )


def data_table(services: Services, shown: Values) -> gr.HTML:
    """Adds the table of the data. Its value are the columns that a visitor chooses over it, by the keys of their fields.

    Args:
        services: read the data.
        shown: initial value of each field by key.
    """

    def first_rows(query: Any) -> Values:
        values = query.get("values") if isinstance(query, dict) else None
        try:
            return services.tables.read(form.data_to_read(values if isinstance(values, dict) else {}))
        except GekoError as error:
            field, sentence = error.problems[0]
            return {**NOTHING_READ, "error": sentence, "field": field}

    return gr.HTML(
        html_template=static_text("form_data.html"),
        js_on_load=mount_script("form_data"),
        elem_id="geko-form-data",
        padding=False,
        server_functions=[first_rows],
        keys=[field.key for field in FIELDS],
        sent=form.READ_KEYS,
        initial={key: shown[key] for key in form.READ_KEYS},
    )


def gpu_picker(services: Services) -> None:
    """Adds a box for each GPU at the field of the GPUs, with the run on it; nothing on a computer with fewer than two.

    Args:
        services: know which run is on which GPU.
    """
    found = visible_gpus()
    if len(found) < 2:
        return

    def gpus(_query: Any) -> dict[str, str]:
        """The name of the run on each GPU that has one."""
        return {str(gpu): name for gpu, name in services.supervisor.gpus_in_use().items()}

    gr.HTML(
        html_template=HIDDEN,
        js_on_load=mount_script("form_gpus"),
        padding=False,
        server_functions=[gpus],
        field="field-training-gpu_ids",
        gpus=[{"number": number, "label": gpu.label} for number, gpu in enumerate(found)],
    )


def check_summary() -> gr.HTML:
    """Adds what the last check found, in a few lines."""
    return live_html("form_check", [])


def foot_message() -> gr.Markdown:
    """Adds what the foot says above its buttons: how many fields need attention, warnings, and the answer to a press."""
    gr.HTML(html_template=static_text("form_foot.html"), js_on_load=mount_script("form_foot"), padding=False)
    return gr.Markdown(elem_id="geko-message")
