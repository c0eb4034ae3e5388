"""Plotly figures of the dashboard, built empty; the page extends their traces. Pure, and knows no run."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

BUCKET_COLOURS = {"FREEZE": "#4a86c5", "LIGHT": "#4fa38b", "FOCUS": "#d9a441", "HARD": "#cf6a5b"}
ACCENT = {"light": "#2f6f5e", "dark": "#7cc4ae"}
EVALUATION = {"light": "#b7791f", "dark": "#d99a3d"}
INK = {"light": "#33403b", "dark": "#c9d3ce"}
TOOLS = "#84938c"  # the buttons of a chart, in both themes
GRID = {"light": "#e4e9e6", "dark": "#2b3531"}


def layout(theme: str, height: int = 300) -> dict[str, Any]:
    """Layout of both charts in "light" or "dark"; `uirevision` keeps the user's zoom."""
    title = {"font": {"size": 12}, "standoff": 8}
    axis = {"gridcolor": GRID[theme], "zeroline": False, "linecolor": GRID[theme], "automargin": True, "title": title}
    return {
        "uirevision": "keep",
        "height": height,
        "margin": {"l": 44, "r": 8, "t": 12, "b": 36},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": INK[theme], "size": 12, "family": "ui-sans-serif, system-ui, sans-serif"},
        "showlegend": False,  # the page has its own keys: they fit a phone, and read as text
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": TOOLS, "activecolor": ACCENT[theme]},
        "hovermode": "x unified",
        "hoverlabel": {"bgcolor": "#ffffff" if theme == "light" else "#1c2421"},
        "xaxis": {**axis, "title": {"text": "optimizer step", **title}, "rangemode": "nonnegative"},
        "yaxis": axis,
    }


def loss_figure(theme: str) -> dict[str, Any]:
    """Loss on trained samples, raw and smoothed, with the evaluation loss over it; all empty."""
    figure = go.Figure(
        [
            go.Scatter(
                x=[], y=[], mode="lines", name="each step", line={"width": 1, "color": ACCENT[theme]}, opacity=0.3
            ),
            go.Scatter(x=[], y=[], mode="lines", name="smoothed", line={"width": 2.5, "color": ACCENT[theme]}),
            go.Scatter(
                x=[],
                y=[],
                mode="lines+markers",
                name="evaluation",
                line={"width": 1.5, "dash": "dot", "color": EVALUATION[theme]},
                marker={"size": 8, "color": EVALUATION[theme]},
                cliponaxis=False,  # the first one stands on the axis, at step 0
            ),
        ],
        layout(theme),
    )
    figure.update_yaxes(rangemode="tozero", title_text="nats per target token")
    return figure.to_plotly_json()


def bucket_figure(theme: str) -> dict[str, Any]:
    """Bucket shares over the steps as a stacked area; what is left to 1 has not been seen yet."""
    figure = go.Figure(
        [
            go.Scatter(
                x=[],
                y=[],
                mode="lines",
                name=name,
                stackgroup="share",
                line={"width": 0.5, "color": colour},
                fillcolor=colour,
                hovertemplate="%{y:.1%}",
            )
            for name, colour in BUCKET_COLOURS.items()
        ],
        layout(theme),
    )
    figure.update_yaxes(range=[0, 1], tickformat=".0%", title_text="share of the samples")
    return figure.to_plotly_json()


def pace_figure(theme: str) -> dict[str, Any]:
    """Learning rate, and trained tokens per second on an axis of its own."""
    figure = go.Figure(
        [
            go.Scatter(x=[], y=[], mode="lines", name="learning rate", line={"width": 2, "color": ACCENT[theme]}),
            go.Scatter(
                x=[], y=[], mode="lines", name="tokens/s", yaxis="y2", line={"width": 1.5, "color": EVALUATION[theme]}
            ),
        ],
        layout(theme, height=220),
    )
    figure.update_yaxes(rangemode="tozero", tickformat=".1~e", title_text="learning rate")
    # Ticks of its own: those of the first axis fall on odd numbers here.
    second = {"overlaying": "y", "side": "right", "showgrid": False, "rangemode": "tozero", "automargin": True}
    second |= {"tickmode": "auto", "nticks": 5, "tickformat": "~s"}
    figure.update_layout(
        margin={"t": 22}, yaxis2={**second, "title": {"text": "tokens per second", "font": {"size": 12}}}
    )
    return figure.to_plotly_json()


RUN_COLOURS = {
    "light": ("#2f6f5e", "#b7791f", "#4a6fb5", "#b0507a", "#6b7d2c", "#7a5bb0"),
    "dark": ("#7cc4ae", "#e0ab5c", "#86aee6", "#e28db2", "#b3c76a", "#b79ce6"),
}
RUNS_AT_ONCE = len(RUN_COLOURS["light"])
AXES = {"steps": "optimizer step", "tokens": "trained tokens", "seconds": "seconds of training"}


def compare_layout(theme: str) -> dict[str, Any]:
    """Layout of the chart that lays runs over one another; its traces are the page's."""
    figure = go.Figure(layout=layout(theme, height=380))
    figure.update_layout(
        showlegend=True, legend={"orientation": "h", "y": -0.2, "x": 0, "title": {"text": ""}}, hovermode="closest"
    )
    figure.update_yaxes(rangemode="tozero", title_text="nats per target token")
    return figure.to_plotly_json()["layout"]


def compare() -> dict[str, Any]:
    """What the comparing chart needs, by theme: {"light": {"layout": ..., "colours": ...}, ..., "axes": ...}."""
    themes = {theme: {"layout": compare_layout(theme), "colours": RUN_COLOURS[theme]} for theme in RUN_COLOURS}
    return {**themes, "axes": AXES}


def map_figure(theme: str) -> dict[str, Any]:
    """Confidence against variability, one trace a bucket in the order of BUCKET_COLOURS; all empty."""
    figure = go.Figure(
        [
            go.Scattergl(
                x=[],
                y=[],
                customdata=[],
                mode="markers",
                name=name,
                marker={"size": 6, "color": colour, "opacity": 0.65},
                hovertemplate="confidence %{y:.2f}, variability %{x:.2f}",
            )
            for name, colour in BUCKET_COLOURS.items()
        ],
        {**layout(theme, 340), "hovermode": "closest"},
    )
    figure.update_xaxes(title_text="variability (standard deviation over the epochs)", rangemode="normal")
    figure.update_yaxes(title_text="confidence in the right answer (mean)", range=[-0.02, 1.02])
    return figure.to_plotly_json()


def figures() -> dict[str, Any]:
    """The dashboard's charts in both themes, {"loss": {"light": ..., "dark": ...}, ...}, and the names of its axes."""
    made = {"loss": loss_figure, "buckets": bucket_figure, "pace": pace_figure}
    return {name: {theme: make(theme) for theme in ("light", "dark")} for name, make in made.items()} | {"axes": AXES}
