"""The form of the Train page: components of the declared fields, and how they change each other. Starts nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from geko_app.form import export
from geko_app.form import values as form
from geko_app.form.fields import FIELDS, GROUPS, PRECISION_KEY, PRESET_KEY, FormField
from geko_app.form.preset_results import preset_choices, preset_note
from geko_app.hardware import precisions
from geko_app.pages.components import mount_script, script_call, str_arg
from geko_app.runs.store import RunStore
from geko_engine.data.local_files import FILE_KINDS
from geko_engine.data.text_files import PACKED
from geko_engine.exceptions import GekoError

OPEN_GROUPS = ("Model and data", "Training")
GEKO_KEYS = [f.key for f in FIELDS if f.key.startswith("geko.") and f.key != PRESET_KEY]
DRAFTED = [f.key for f in FIELDS if f.key != "output_dir"]  # a folder belongs to the server, not to the browser
HIDDEN = "<span hidden></span>"  # of a part that only has a script
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass
class Layout:
    """The components of the form.

    Attributes:
        fields: by key.
        folded: the folded groups by name.
        token: the field of the Hub token, which is never kept.
    """

    fields: dict[str, gr.components.Component] = dataclasses.field(default_factory=dict)
    folded: dict[str, gr.Accordion] = dataclasses.field(default_factory=dict)
    token: list[gr.components.Component] = dataclasses.field(default_factory=list)

    @property
    def inputs(self) -> list[gr.components.Component]:
        """All inputs of a start or a preview: the fields in the order of FIELDS, then the Hub token."""
        return [*(self.fields[f.key] for f in FIELDS), *self.token]


def build(store: RunStore, shown: dict[str, Any]) -> Layout:
    """Add the form to the open layout, all groups folded but OPEN_GROUPS.

    Args:
        store: receives uploaded files, and has the runs whose settings can be taken over.
        shown: initial value of each field by key.
    """
    layout = Layout()
    for group in GROUPS:
        fields = [field for field in FIELDS if field.group == group]
        if group in OPEN_GROUPS:
            gr.Markdown(f"### {group}")
            _fields(store, fields, shown, layout)
        else:
            with gr.Accordion(group, open=False) as folded:
                _fields(store, fields, shown, layout)
                if group == GROUPS[-1]:
                    layout.token.append(_token())
            layout.folded[group] = folded
    gr.HTML(html_template=HIDDEN, js_on_load=mount_script("form_details"), padding=False, details=_details())
    _wire(layout)
    _export_section(layout, shown)
    _accept_settings(store, layout)
    return layout


def _fields(store: RunStore, fields: list[FormField], shown: dict[str, Any], layout: Layout) -> None:
    """Two neighbours of half width share a row; a field that takes files has an upload button beside it."""
    rows: list[list[FormField]] = []
    for field in fields:
        if field.half_width and rows and len(rows[-1]) == 1 and rows[-1][0].half_width:
            rows[-1].append(field)
        else:
            rows.append([field])
    for row in rows:
        with gr.Row(
            equal_height=not row[0].upload, elem_classes="geko-with-upload" if row[0].upload else "geko-fields"
        ):
            for field in row:
                layout.fields[field.key] = _component(field, shown[field.key])
                if field.upload:
                    _upload_button(store, field, layout.fields[field.key])


def _upload_button(store: RunStore, field: FormField, target: gr.components.Component) -> None:
    """Uploads a file of the visitor beside the runs, and puts its path into `target`."""

    def keep(path: str) -> str:
        try:
            return str(store.keep_upload(path))
        except GekoError as error:
            raise gr.Error(str(error), print_exception=False) from error

    button = gr.UploadButton(
        "Upload",
        file_types=[*FILE_KINDS, *PACKED],
        size="sm",
        scale=0,
        min_width=88,
        elem_id="upload-" + field.key.replace(".", "-"),
    )
    button.upload(keep, button, target, show_progress="hidden", api_visibility="private")


def _component(field: FormField, value: Any) -> gr.components.Component:
    common = {
        "label": field.label,
        "info": field.help,
        "elem_id": _field_id(field.key),
        "min_width": 130,
    }
    if field.kind == "integer":
        return gr.Number(value, precision=None, placeholder=field.placeholder or None, **common)
    if field.kind == "slider":
        spec = field.spec
        return gr.Slider(spec.minimum or 0, spec.maximum or 1, value, step=0.01, **common)
    if field.kind == "check":
        return gr.Checkbox(value, **common)
    if field.kind == "choice":
        return gr.Dropdown([(str(choice), choice) for choice in field.choices], value=value, **common)
    if field.kind == "preset":
        return gr.Radio(preset_choices(), value=value, **common)
    if field.kind == "precision":
        return gr.Radio([(name.upper(), name) for name in precisions()[0]], value=value, **common)
    lines = {"lines": 2, "max_lines": 8} if field.kind == "lines" else {"max_lines": 1}
    return gr.Textbox(value, placeholder=field.placeholder or None, **lines, **common)


def _details() -> dict[str, dict[str, str]]:
    """Label and details of every field, by its id on the page."""
    more = {PRESET_KEY: preset_note(), PRECISION_KEY: precisions()[1]}
    return {
        _field_id(field.key): {"label": field.label, "text": f"{field.details} {more.get(field.key, '')}".strip()}
        for field in FIELDS
    }


def _field_id(key: str) -> str:
    return "field-" + key.replace(".", "-")


def _token() -> gr.Textbox:
    return gr.Textbox(
        label="Hub token",
        info="For gated or private models and data. Passed to the training process only, never written to a file.",
        type="password",
        elem_id="field-token",
        max_lines=1,
    )


# ---------------------------------------------------------------- fields that change each other, in the browser


def _wire(layout: Layout) -> None:
    rules = form.demo_rules()
    keys = [rule["key"] for rule in rules]
    followed = sorted({key for rule in rules for key in rule["follows"]})
    inputs = [*followed, *keys]
    gr.on(
        [layout.fields[key].change for key in followed],
        fn=None,
        inputs=[layout.fields[key] for key in inputs],
        outputs=[layout.fields[key] for key in keys],
        js=script_call("form_demo_defaults", "demoDefaults", rules, inputs),
        **QUIET,
    )
    preset = layout.fields[PRESET_KEY]
    values = form.preset_values()
    gr.on(
        [preset.input],
        fn=None,
        inputs=[preset, *(layout.fields[key] for key in GEKO_KEYS)],
        outputs=[layout.fields[key] for key in GEKO_KEYS],
        js=script_call("form_presets", "presetValues", values, GEKO_KEYS),
        **QUIET,
    )
    gr.on(
        [layout.fields[key].change for key in GEKO_KEYS],
        fn=None,
        inputs=[preset, *(layout.fields[key] for key in GEKO_KEYS)],
        outputs=[preset],
        js=script_call("form_presets", "presetName", values, GEKO_KEYS),
        **QUIET,
    )


def _accept_settings(store: RunStore, layout: Layout) -> None:
    """Lets other pages fill in the form, with the settings of a run or with values of single fields."""
    request = gr.HTML(
        html_template=HIDDEN,
        js_on_load="window.addEventListener('geko-use', (e) => { props.value = e.detail; trigger('change'); });",
        elem_id="geko-use",
        padding=False,
    )
    outputs = [*(layout.fields[f.key] for f in FIELDS), *layout.folded.values()]
    request.change(_requested_settings(store, list(layout.folded)), request, outputs, concurrency_limit=None, **QUIET)


def _requested_settings(store: RunStore, folded: list[str]) -> Callable[[Any], list[Any]]:
    """Handles {"run": id} and {"fields": {key: value}}; the groups of such single fields are unfolded."""

    def settings(request: Any) -> list[Any]:
        values = request.get("fields") if isinstance(request, dict) else None
        try:
            shown = (
                form.changed_fields(values)
                if isinstance(values, dict)
                else form.from_config(store.folder(str_arg(request, "run")).config())
            )
        except GekoError:
            shown = {}
        groups = form.groups_of(shown) if isinstance(values, dict) else set()
        return [
            *(shown.get(f.key, gr.skip()) for f in FIELDS),
            *(gr.update(open=True) if group in groups else gr.skip() for group in folded),
        ]

    return settings


def keep_draft(layout: Layout, blocks: gr.Blocks) -> None:
    """Keep what was typed in over a reload, in the browser and nowhere else.

    Args:
        layout: of the form.
        blocks: of the whole page.
    """
    fields, drafted = [layout.fields[f.key] for f in FIELDS], [layout.fields[key] for key in DRAFTED]
    gr.on(
        [field.change for field in fields],
        fn=None,
        inputs=fields,
        outputs=[],
        js=script_call("form_draft", "keepDraft", [f.key for f in FIELDS], DRAFTED),
        **QUIET,
    )
    restore = script_call("form_draft", "restoreDraft", DRAFTED)
    restored = blocks.load(fn=None, inputs=drafted, outputs=drafted, js=restore, **QUIET)
    # What is typed in before this is overwritten: tests wait for it.
    restored.then(fn=None, js="() => { document.body.dataset.form = 'ready'; }", **QUIET)


# ---------------------------------------------------------------- the same run as YAML, command and Python


def _export_section(layout: Layout, shown: dict[str, Any]) -> None:
    fields = [layout.fields[f.key] for f in FIELDS]
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
        problems = "\n\n".join(f"{key + ': ' if key else ''}{message}" for key, message in error.problems)
        return [problems, *(gr.skip() for _ in FIELDS)]
    return ["".join(notes), *(shown[f.key] for f in FIELDS)]
