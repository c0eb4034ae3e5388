"""The form of the Train page: four steps with the declared fields, and how the fields change each other. Starts nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from geko_app.form import values as form
from geko_app.form.fields import FIELDS, PRECISION_KEY, PRESET_KEY, STEPS, FormField, Step
from geko_app.form.preset_results import preset_choices, preset_lines, preset_note
from geko_app.hardware import precisions
from geko_app.pages.components import HIDDEN, QUIET, mount_script, script_call, str_arg
from geko_app.pages.form_exports import export_section
from geko_app.pages.form_helpers import check_summary, data_table, gpu_picker, picker
from geko_app.runs.store import RunStore
from geko_app.services import Services
from geko_engine.data.local_files import FILE_KINDS
from geko_engine.data.text_files import PACKED
from geko_engine.exceptions import GekoError

OPEN_GROUPS = tuple(step.open for step in STEPS if step.open)
GEKO_KEYS = [f.key for f in FIELDS if f.key.startswith("geko.") and f.key != PRESET_KEY]
COLUMN_KEYS = [f.key for f in FIELDS if f.key.startswith("data.") and f.key.endswith("_column")]
DRAFTED = [f.key for f in FIELDS if f.key != "output_dir"]  # a folder belongs to the server, not to the browser
TOKEN_GROUP = "Model options"


@dataclass
class Layout:
    """The components of the form.

    Attributes:
        fields: by key.
        folded: the folded groups by name.
        token: the field of the Hub token, which is never kept.
        roles: the part with the table of the data; its value are the columns that were chosen over it.
    """

    fields: dict[str, gr.components.Component] = dataclasses.field(default_factory=dict)
    folded: dict[str, gr.Accordion] = dataclasses.field(default_factory=dict)
    token: list[gr.components.Component] = dataclasses.field(default_factory=list)
    roles: gr.HTML | None = None

    @property
    def inputs(self) -> list[gr.components.Component]:
        """All inputs of a start or a preview: the fields in the order of FIELDS, then the Hub token."""
        return [*(self.fields[f.key] for f in FIELDS), *self.token]


def build(services: Services, shown: dict[str, Any]) -> Layout:
    """Add the form to the open layout, all groups folded but OPEN_GROUPS.

    Args:
        services: behind the page: uploads, runs whose settings can be taken over, tables of the data.
        shown: initial value of each field by key.
    """
    layout = Layout()
    for number, step in enumerate(STEPS, 1):
        with gr.Column(elem_id=f"geko-step-{step.name.lower()}", elem_classes="geko-step"):
            gr.HTML(_step_head(number, step), padding=False)
            _step(services, step, shown, layout)
    gr.HTML(html_template=HIDDEN, js_on_load=mount_script("form_details"), padding=False, details=_details())
    _notes(shown)
    picker(services)
    gpu_picker(services)
    _wire(layout)
    with gr.Column(elem_classes="geko-step geko-step-export"):
        export_section(layout.fields, shown)
    _accept_settings(services.supervisor.store, layout)
    return layout


def _step_head(number: int, step: Step) -> str:
    return (
        f'<div class="geko-step-head"><span class="number" aria-hidden="true">{number}</span>'
        f"<h3>{escape(step.name)}</h3><p>{escape(step.hint)}</p></div>"
    )


def _step(services: Services, step: Step, shown: dict[str, Any], layout: Layout) -> None:
    store = services.supervisor.store
    fields = [field for field in FIELDS if field.group == step.open]
    if step.open == "Data":  # the table stands between the training data and the evaluation data
        _fields(store, fields[:1], shown, layout)
        layout.roles = data_table(services, shown)
        fields = fields[1:]
    elif not step.open:
        check_summary()
    _fields(store, fields, shown, layout)
    if not step.folded:
        return
    with gr.Column(elem_classes="geko-folded"):
        for group in step.folded:
            with gr.Accordion(group, open=False) as folded:
                _fields(store, [field for field in FIELDS if field.group == group], shown, layout)
                if group == TOKEN_GROUP:
                    layout.token.append(_token())
            layout.folded[group] = folded


def _fields(store: RunStore, fields: list[FormField], shown: dict[str, Any], layout: Layout) -> None:
    """Two neighbours of half width share a row; a field that takes files has an upload button beside it."""
    rows: list[list[FormField]] = []
    for field in fields:
        if field.half_width and rows and len(rows[-1]) == 1 and rows[-1][0].half_width:
            rows[-1].append(field)
        else:
            rows.append([field])
    for row in rows:
        kind = "geko-with-upload" if row[0].upload else "geko-pair" if row[0].half_width else "geko-fields"
        with gr.Row(equal_height=not row[0].upload, elem_classes=kind):
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
    """Label, help and details of every field, by its id on the page."""
    more = {PRESET_KEY: preset_note(), PRECISION_KEY: precisions()[1]}
    return {
        _field_id(field.key): {
            "label": field.label,
            "text": f"{field.help} {field.details} {more.get(field.key, '')}".strip(),
        }
        for field in FIELDS
    }


def _notes(shown: dict[str, Any]) -> None:
    """Adds the lines under fields: of the preset, what it cost where it was measured."""
    gr.HTML(
        html_template=HIDDEN,
        js_on_load=mount_script("form_notes"),
        padding=False,
        lines=preset_lines(),
        preset=PRESET_KEY,
        chosen=shown[PRESET_KEY],
        keys=[field.key for field in FIELDS],
    )


def _field_id(key: str) -> str:
    return "field-" + key.replace(".", "-")


def _token() -> gr.Textbox:
    return gr.Textbox(
        label="Hub token",
        info="For gated or private models and data. Never written to a file.",
        type="password",
        elem_id="field-token",
        max_lines=1,
    )


# ---------------------------------------------------------------- fields that change each other, in the browser


def _wire(layout: Layout) -> None:
    _follow_demo(layout)
    _follow_lora(layout)
    preset = layout.fields[PRESET_KEY]
    values = form.preset_values()
    chosen = gr.on(
        [preset.input],
        fn=None,
        inputs=[preset, *(layout.fields[key] for key in GEKO_KEYS)],
        outputs=[layout.fields[key] for key in GEKO_KEYS],
        js=script_call("form_presets", "presetValues", values, GEKO_KEYS),
        **QUIET,
    )
    _keep_after(chosen, layout)
    gr.on(
        [layout.fields[key].change for key in GEKO_KEYS],
        fn=None,
        inputs=[preset, *(layout.fields[key] for key in GEKO_KEYS)],
        outputs=[preset],
        js=script_call("form_presets", "presetName", values, GEKO_KEYS),
        **QUIET,
    )


def _follow_demo(layout: Layout) -> None:
    rules = form.demo_rules()
    keys = [rule["key"] for rule in rules]
    followed = sorted({key for rule in rules for key in rule["follows"]})
    inputs = [*followed, *keys]
    changed = gr.on(
        [layout.fields[key].change for key in followed],
        fn=None,
        inputs=[layout.fields[key] for key in inputs],
        outputs=[layout.fields[key] for key in keys],
        js=script_call("form_demo_defaults", "demoDefaults", rules, inputs),
        **QUIET,
    )
    _keep_after(changed, layout)


def _follow_lora(layout: Layout) -> None:
    """Only a visitor's own press counts: the settings of a run and of a YAML text stay as they are."""
    rate = layout.fields["training.learning_rate"]
    layout.fields["lora.enabled"].input(
        fn=None,
        inputs=[layout.fields["lora.enabled"], rate, layout.fields["model.name"]],
        outputs=[rate],
        js=script_call("form_lora", "loraRate", form.learning_rates()),
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
    fill = _requested_settings(store, list(layout.folded))
    filled = request.change(fill, request, outputs, concurrency_limit=None, **QUIET)
    _keep_after(filled, layout)


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


def _keep_after(event: Any, layout: Layout) -> None:
    """Keep the draft after an event that fills in fields: those of a folded group are not drawn, and tell nobody."""
    event.then(fn=None, inputs=[layout.fields[f.key] for f in FIELDS], outputs=[], js=_keep_script(), **QUIET)


def _keep_script() -> str:
    return script_call("form_draft", "keepDraft", [f.key for f in FIELDS], DRAFTED)


def keep_draft(layout: Layout, blocks: gr.Blocks) -> None:
    """Keep what was typed in over a reload, in the browser and nowhere else.

    Args:
        layout: of the form.
        blocks: of the whole page.
    """
    fields, drafted = [layout.fields[f.key] for f in FIELDS], [layout.fields[key] for key in DRAFTED]
    gr.on([field.change for field in fields], fn=None, inputs=fields, outputs=[], js=_keep_script(), **QUIET)
    if layout.roles is not None:
        columns = [layout.fields[key] for key in COLUMN_KEYS]
        chosen = layout.roles.change(
            fn=None,
            inputs=[layout.roles, *columns],
            outputs=columns,
            js=script_call("form_data", "columnValues", COLUMN_KEYS),
            **QUIET,
        )
        _keep_after(chosen, layout)
    restore = script_call("form_draft", "restoreDraft", DRAFTED)
    restored = blocks.load(fn=None, inputs=drafted, outputs=drafted, js=restore, **QUIET)
    # What is typed in before this is overwritten and not kept: tests wait for it.
    restored.then(fn=None, js="() => { document.body.dataset.form = 'ready'; }", **QUIET)
