"""GEKO's Gradio theme, light and dark; with system fonts, so that nothing is downloaded."""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils.colors import Color

MOSS = Color(
    "#f1f7f4",
    "#e3efea",
    "#c5ddd4",
    "#9cc5b6",
    "#6fab97",
    "#4a8f7a",
    "#2f6f5e",
    "#27594c",
    "#21473d",
    "#1b3831",
    "#10231e",
)
STONE = Color(
    "#f6f8f6",
    "#edf1ee",
    "#e1e7e3",
    "#c9d2cd",
    "#93a39b",
    "#5c6b64",
    "#4c5a54",
    "#39453f",
    "#26322d",
    "#1a211e",
    "#121715",
)


def build_theme() -> gr.themes.Base:
    """The theme, for launch()."""
    return gr.themes.Base(
        primary_hue=MOSS,
        secondary_hue=MOSS,
        neutral_hue=STONE,
        font=["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "monospace"],
        radius_size=gr.themes.sizes.radius_md,
        spacing_size=gr.themes.sizes.spacing_md,
    ).set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_text_color="white",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        input_border_width="1px",
        input_background_fill="*neutral_50",
        input_background_fill_dark="*neutral_950",
        block_label_text_weight="550",
        block_title_text_weight="550",
        block_info_text_size="12.5px",
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
    )
