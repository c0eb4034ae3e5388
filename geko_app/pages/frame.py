"""The frame around all pages: head, navigation, and what they share. Knows every page, and nothing of what is on it."""

from __future__ import annotations

from html import escape

import gradio as gr

from geko_app.hardware import hardware_strip
from geko_app.pages import playground, runs, samples, train
from geko_app.pages.components import static_text
from geko_app.services import Services

STYLES = ("style.css", "preview.css", "samples.css", "runs.css", "playground.css")  # in this order


def build(services: Services) -> gr.Blocks:
    """All pages as Gradio blocks."""
    with gr.Blocks(title="GEKO", fill_width=True, analytics_enabled=False) as blocks:
        gr.HTML(_head(), padding=False)
        with gr.Tabs(selected="train", elem_id="geko-pages"):
            with gr.Tab("Train", id="train"):
                train.build(services.supervisor, services.previews, blocks)
            with gr.Tab("Samples", id="samples"):
                samples.build(services.supervisor, services.inference)
            with gr.Tab("Runs", id="runs"):
                runs.build(services.supervisor, services.downloads)
            with gr.Tab("Try it", id="talk"):
                playground.build(services.inference)
    return blocks


def _head() -> str:
    torch, machine = hardware_strip()
    return (
        f'<header class="geko-head">{static_text("logo.svg")}<div><h1>GEKO</h1>'
        "<p>Fine-tune a language model, and spend the compute where it counts.</p></div>"
        f'<div class="hardware" id="geko-hardware">{escape(torch)}<span> · </span><br>{escape(machine)}</div>'
        '<button type="button" id="geko-theme" aria-label="Switch between light and dark">◐</button></header>'
    )
