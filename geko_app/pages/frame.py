"""The frame around all pages: head, navigation, and what they share. Knows every page, and nothing of what is on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

import gradio as gr

from geko_app.downloads import Downloads
from geko_app.hardware import hardware_strip
from geko_app.looks import Looks
from geko_app.pages import runs, samples, talk, train
from geko_app.pages.parts import asset
from geko_app.supervisor import Supervisor
from geko_app.talks import Talks

STYLES = ("style.css", "look.css", "samples.css", "runs.css", "talk.css")  # of the assets, in this order


@dataclass
class Services:
    """What the pages work with; one of each for all tabs."""

    supervisor: Supervisor
    downloads: Downloads
    looks: Looks = field(default_factory=Looks)
    talks: Talks = field(init=False)

    def __post_init__(self) -> None:
        self.talks = Talks(self.supervisor.store)

    def shutdown(self) -> None:
        """End every process of the page; a training saves first."""
        self.supervisor.ask_to_end()  # at once: a container has ten seconds, and the others need some of them
        self.looks.shutdown()
        self.talks.shutdown()
        self.downloads.shutdown()
        self.supervisor.shutdown()


def build(services: Services) -> gr.Blocks:
    """All pages as Gradio blocks."""
    with gr.Blocks(title="GEKO", fill_width=True, analytics_enabled=False) as blocks:
        gr.HTML(_head(), padding=False)
        with gr.Tabs(selected="train", elem_id="geko-pages"):
            with gr.Tab("Train", id="train"):
                train.build(services.supervisor, services.looks, blocks)
            with gr.Tab("Samples", id="samples"):
                samples.build(services.supervisor, services.talks)
            with gr.Tab("Runs", id="runs"):
                runs.build(services.supervisor, services.downloads)
            with gr.Tab("Try it", id="talk"):
                talk.build(services.talks)
    return blocks


def _head() -> str:
    torch, machine = hardware_strip()
    return (
        f'<header class="geko-head">{asset("logo.svg")}<div><h1>GEKO</h1>'
        "<p>Fine-tune a language model, and spend the compute where it counts.</p></div>"
        f'<div class="hardware" id="geko-hardware">{escape(torch)}<span> · </span><br>{escape(machine)}</div>'
        '<button type="button" id="geko-theme" aria-label="Switch between light and dark">◐</button></header>'
    )
