"""The frame around all pages: header and navigation. Knows every page and nothing of its content."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

import gradio as gr

from geko_app.hardware import hardware_strip
from geko_app.pages import playground, runs, samples, train
from geko_app.pages.components import live_html, mount_script, static_text
from geko_app.services import Services


@dataclass(frozen=True)
class Page:
    """One tab.

    Attributes:
        title: of the tab.
        build: adds the page to the open layout.
        styles: its own style sheets, in static/.
    """

    title: str
    build: Callable[[Services, gr.Blocks], None]
    styles: tuple[str, ...] = ()


PAGES = (
    Page("Train", train.build, ("form.css", "form_data.css", "preview.css", "dashboard.css", "dashboard_answers.css")),
    Page("Samples", samples.build, ("samples.css", "review.css", "core_set.css")),
    Page("Runs", runs.build, ("runs.css",)),
    Page("Playground", playground.build, ("playground.css",)),
)
STYLES = ("style.css", "space.css", *(style for page in PAGES for style in page.styles))  # in this order


def build(services: Services, *, in_space: bool = False) -> gr.Blocks:
    """The whole page.

    Args:
        services: behind the pages.
        in_space: whether the owner of a Hugging Face Space signs in, and others watch.
    """
    with gr.Blocks(title="GEKO", fill_width=True, analytics_enabled=False) as blocks:
        gr.HTML(_head(), js_on_load=mount_script("header"), padding=False)
        if in_space:
            live_html("space", [])
            gr.LoginButton(visible=False)  # brings the sign-in; the banner links to it
        with gr.Tabs(selected=PAGES[0].title, elem_id="geko-pages"):
            for page in PAGES:
                with gr.Tab(page.title, id=page.title):
                    page.build(services, blocks)
    return blocks


def _head() -> str:
    torch, machine = hardware_strip()
    return (
        f'<header class="geko-head">{static_text("logo.svg")}<div><h1>GEKO</h1>'
        "<p>Fine-tune a language model and see what happens to every training sample.</p></div>"
        f'<div class="hardware" id="geko-hardware">{escape(torch)}<span> · </span><br>{escape(machine)}</div>'
        '<select id="geko-language" aria-label="Language" translate="no"></select>'
        '<button type="button" id="geko-theme" aria-label="Switch between light and dark">◐</button></header>'
    )
