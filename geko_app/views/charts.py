"""Plotly figures of the page, built empty; the page fills their traces. Pure, and knows no run.

A trace of the dashboard names the column that it draws in `meta`: "points.loss" is `loss` of each Point, "evaluations.loss"
that of each Evaluation (see runs/live_state.py). A new chart is a function here, a line in CHARTS, and a
`<div data-chart="its name">` in static/dashboard.html.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import plotly.graph_objects as go

from geko_app.formatting import round_figure

BUCKET_COLORS = {"freeze": "#4a86c5", "light": "#4fa38b", "focus": "#d9a441", "hard": "#cf6a5b"}
AXES = {"step": "optimizer step", "tokens": "trained tokens", "seconds": "seconds of training"}  # by column
ACCENT = {"light": "#2f6f5e", "dark": "#7cc4ae"}
EVALUATION = {"light": "#b7791f", "dark": "#d99a3d"}
GENERAL = {"light": "#7a5bb0", "dark": "#b79ce6"}
INK = {"light": "#33403b", "dark": "#c9d3ce"}
TOOLS = "#84938c"  # the buttons of a chart, in both themes
GRID = {"light": "#e4e9e6", "dark": "#2b3531"}


def _as_json(figure: go.Figure) -> dict[str, Any]:
    """The figure as the page's plotly.js takes it."""
    values: dict[str, Any] = figure.to_plotly_json()
    return values


def layout(theme: str, height: int = 300) -> dict[str, Any]:
    """Layout of all charts in "light" or "dark"; `uirevision` keeps the user's zoom."""
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


def line(name: str, column: str, color: str, **more: Any) -> go.Scatter:
    """An empty line that draws `column`."""
    return go.Scatter(
        x=[], y=[], mode=more.pop("mode", "lines"), name=name, meta=column, line={"color": color, "width": 2}, **more
    )


def loss_figure(theme: str) -> dict[str, Any]:
    """Training loss, raw and smoothed, with the evaluation loss and that on general rows over it."""
    raw = line("each step", "points.loss", ACCENT[theme], line_width=1, opacity=0.3)
    smoothed = line("smoothed", "points.smoothed", ACCENT[theme], line_width=2.5)
    evaluation = line("evaluation", "evaluations.loss", EVALUATION[theme], line_width=1.5, line_dash="dot")
    evaluation.update(mode="lines+markers", marker={"size": 8, "color": EVALUATION[theme]})
    evaluation.update(cliponaxis=False)  # the first one is on the axis, at step 0
    general = line("general rows", "evaluations.general", GENERAL[theme], line_width=1.5, line_dash="dash")
    general.update(connectgaps=True, cliponaxis=False)
    figure = go.Figure([raw, smoothed, evaluation, general], layout(theme))
    figure.update_yaxes(rangemode="tozero", title_text="nats per target token")
    return _as_json(figure)


def evaluation_figure(theme: str) -> dict[str, Any]:
    """Evaluation loss, and exact match on an axis of its own."""
    loss = line("evaluation loss", "evaluations.loss", EVALUATION[theme], mode="lines+markers")
    exact = line("exact match", "evaluations.exact_match", ACCENT[theme], mode="lines+markers", yaxis="y2")
    loss.update(marker={"size": 8, "color": EVALUATION[theme]}, cliponaxis=False, connectgaps=True)
    exact.update(marker={"size": 8, "color": ACCENT[theme]}, cliponaxis=False, connectgaps=True)
    exact.update(hovertemplate="%{y:.1%}")
    figure = go.Figure([loss, exact], layout(theme, height=240))
    figure.update_yaxes(title_text="nats per target token")
    second = {"overlaying": "y", "side": "right", "showgrid": False, "range": [0, 1.02], "automargin": True}
    second |= {
        "tickmode": "linear",
        "dtick": 0.25,
        "tickformat": ".0%",
        "title": {"text": "exact match", "font": {"size": 12}},
    }
    figure.update_layout(yaxis2=second)
    return _as_json(figure)


def bucket_figure(theme: str) -> dict[str, Any]:
    """Bucket shares over the steps as a stacked area; the rest up to 1 has not been seen yet."""
    figure = go.Figure(
        [
            line(
                bucket.upper(),
                f"points.{bucket}",
                color,
                line_width=0.5,
                fillcolor=color,
                stackgroup="share",
                hovertemplate="%{y:.1%}",
            )
            for bucket, color in BUCKET_COLORS.items()
        ],
        layout(theme),
    )
    figure.update_yaxes(range=[0, 1], tickformat=".0%", title_text="share of the samples")
    return _as_json(figure)


def pace_figure(theme: str) -> dict[str, Any]:
    """Learning rate, and trained tokens per second on an axis of its own."""
    speed = line("tokens/s", "points.tokens_per_second", EVALUATION[theme], line_width=1.5, yaxis="y2")
    figure = go.Figure([line("learning rate", "points.learning_rate", ACCENT[theme]), speed], layout(theme, height=220))
    figure.update_yaxes(rangemode="tozero", tickformat=".1~e", title_text="learning rate")
    # Ticks of its own: those of the first axis fall on odd numbers here.
    second = {"overlaying": "y", "side": "right", "showgrid": False, "rangemode": "tozero", "automargin": True}
    second |= {"tickmode": "auto", "nticks": 5, "tickformat": "~s"}
    figure.update_layout(
        margin={"t": 22}, yaxis2={**second, "title": {"text": "tokens per second", "font": {"size": 12}}}
    )
    return _as_json(figure)


def gradient_figure(theme: str) -> dict[str, Any]:
    """Norm of the gradient before clipping."""
    figure = go.Figure(
        [line("gradient norm", "points.grad_norm", ACCENT[theme], line_width=1.5)], layout(theme, height=180)
    )
    figure.update_yaxes(rangemode="tozero", title_text="gradient norm")
    return _as_json(figure)


CHARTS: dict[str, Callable[[str], dict[str, Any]]] = {  # by `data-chart`: theme -> figure
    "loss": loss_figure,
    "evaluation": evaluation_figure,
    "buckets": bucket_figure,
    "pace": pace_figure,
    "gradient": gradient_figure,
}


def figures() -> dict[str, Any]:
    """The dashboard's charts in both themes, and the titles of the axes that they can be drawn over."""
    charts = {name: {theme: make(theme) for theme in ("light", "dark")} for name, make in CHARTS.items()}
    return {"charts": charts, "axes": AXES}


def columns(rows: Sequence[Any], names: Iterable[str]) -> dict[str, list[float | None]]:
    """The values that charts draw: the fields `names` of all rows, by name."""
    return {name: [round_figure(getattr(row, name)) for row in rows] for name in names}


RUN_COLORS = {
    "light": ("#2f6f5e", "#b7791f", "#4a6fb5", "#b0507a", "#6b7d2c", "#7a5bb0"),
    "dark": ("#7cc4ae", "#e0ab5c", "#86aee6", "#e28db2", "#b3c76a", "#b79ce6"),
}
RUNS_AT_ONCE = len(RUN_COLORS["light"])


def compare_layout(theme: str) -> dict[str, Any]:
    """Layout of the chart that compares runs; the page adds the traces."""
    figure = go.Figure(layout=layout(theme, height=380))
    figure.update_layout(
        showlegend=True, legend={"orientation": "h", "y": -0.2, "x": 0, "title": {"text": ""}}, hovermode="closest"
    )
    figure.update_yaxes(rangemode="tozero", title_text="nats per target token")
    return dict(_as_json(figure)["layout"])


def compare() -> dict[str, Any]:
    """What the chart that compares runs needs, by theme: {"light": {"layout": ..., "colors": ...}, ..., "axes": ...}."""
    themes = {theme: {"layout": compare_layout(theme), "colors": RUN_COLORS[theme]} for theme in RUN_COLORS}
    return {**themes, "axes": AXES}


def map_figure(theme: str) -> dict[str, Any]:
    """Confidence against variability, one trace a bucket in the order of BUCKET_COLORS; all empty."""
    figure = go.Figure(
        [
            go.Scattergl(
                x=[],
                y=[],
                customdata=[],
                mode="markers",
                name=bucket.upper(),
                marker={"size": 6, "color": color, "opacity": 0.65},
                hovertemplate="confidence %{y:.2f}, variability %{x:.2f}",
            )
            for bucket, color in BUCKET_COLORS.items()
        ],
        {**layout(theme, 340), "hovermode": "closest"},
    )
    figure.update_xaxes(title_text="variability (standard deviation over the epochs)", rangemode="normal")
    figure.update_yaxes(title_text="confidence in the right answer (mean)", range=[-0.02, 1.02])
    return _as_json(figure)
