"""The report's plots, as plotly figures: contact over time for every object, and how long answers took."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import PART_NAMES
from ivlm_ros.replay.answers import Track

MOST_TRACKS = 16
MOST_COLUMNS = 600
# A body part that never gets beyond this has no row of its own.
WORTH_A_ROW = 0.05
ROW_PIXELS, TITLE_PIXELS = 22, 40
# The package's heat, on nothing: what is not touched lets the page's own background through.
HEAT = [[0.0, "rgba(128,128,128,0.10)"], [0.5, "rgb(250,150,60)"], [1.0, "rgb(205,10,25)"]]


def timeline(tracks: Sequence[Track], start: int) -> dict[str, Any] | None:
    """Body part × time for every object, and the greatest value on the object itself; None without answers.

    Parameters
    ----------
    start : of the bag, nanoseconds.
    """
    from plotly.subplots import make_subplots

    shown = sorted(tracks, key=lambda track: -len(track.answers))[:MOST_TRACKS]
    shown = [track for track in tracks if track in shown]
    if not shown:
        return None
    edges = _edges(np.array([answer.time for track in shown for answer in track.answers]), start)
    middles = (edges[:-1] + edges[1:]) / 2
    tables = [_table(track, edges, start) for track in shown]
    heights = [ROW_PIXELS * len(rows) for rows, _ in tables]
    total = sum(heights) + TITLE_PIXELS * len(tables)
    figure = make_subplots(
        rows=len(tables),
        cols=1,
        shared_xaxes=True,
        row_heights=heights,
        vertical_spacing=min(TITLE_PIXELS / total, 0.9 / max(len(tables) - 1, 1)),
        subplot_titles=[html.escape(track.name) for track in shown],
    )
    for number, (rows, values) in enumerate(tables, start=1):
        figure.add_heatmap(
            x=[round(float(middle), 3) for middle in middles],
            y=[html.escape(row) for row in rows],
            z=[[None if np.isnan(value) else round(float(value), 3) for value in row] for row in values],
            zmin=0,
            zmax=1,
            colorscale=HEAT,
            showscale=False,
            ygap=1,
            hoverongaps=False,
            hovertemplate="%{x:.1f} s<br>%{y}: %{z:.2f}<extra></extra>",
            row=number,
            col=1,
        )
    figure.update_yaxes(autorange="reversed", automargin=True, fixedrange=True, showgrid=False)
    figure.update_xaxes(range=[float(edges[0]), float(edges[-1])], showgrid=False, zeroline=False)
    figure.update_xaxes(title_text="seconds into the bag", row=len(tables), col=1)
    figure.update_annotations(x=0, xanchor="left", font_size=13)
    return _plain(figure, height=total + 80, margin={"l": 8, "r": 8, "t": 34, "b": 54})


def latency(seconds: Sequence[float], p50: float, p95: float) -> dict[str, Any] | None:
    """How often an image took how long, with both percentiles (milliseconds); None without any."""
    import plotly.graph_objects as go

    if not seconds:
        return None
    figure = go.Figure(
        go.Histogram(
            x=[round(1e3 * second, 3) for second in seconds],
            nbinsx=40,
            marker_color="rgb(54,120,200)",
            hovertemplate="%{x} ms: %{y} images<extra></extra>",
        )
    )
    for value, name, place in ((p50, "p50", "top left"), (p95, "p95", "top right")):
        figure.add_vline(
            x=value, line_dash="dot", line_color="rgb(205,10,25)", annotation_text=name, annotation_position=place
        )
    figure.update_xaxes(title_text="milliseconds per image", rangemode="tozero")
    # Of few images, there are no halves.
    figure.update_yaxes(title_text="images", dtick=1 if len(seconds) < 10 else None)
    return _plain(figure, height=300, margin={"l": 50, "r": 16, "t": 24, "b": 48})


def _edges(times: NDArray[np.int64], start: int) -> NDArray[np.float64]:
    """Borders of columns, one from each image to the next; of equal width, and at most MOST_COLUMNS of them."""
    seconds = np.unique((times - start) / 1e9)
    span = float(seconds[-1] - seconds[0])
    step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.1
    step = max(step, span / (MOST_COLUMNS - 1), 1e-3)
    columns = round(span / step) + 1
    return np.asarray(float(seconds[0]) + step * np.arange(columns + 1), np.float64)


def _table(track: Track, edges: NDArray[np.float64], start: int) -> tuple[list[str], NDArray[np.float64]]:
    """Names of the rows, and the greatest value of each in every column; NaN where the object was not answered."""
    columns, width = len(edges) - 1, edges[1] - edges[0]
    parts = np.full((len(PART_NAMES) + 1, columns), np.nan)
    used: list[str] = []
    for answer in track.answers:
        # Rounded, so that images that come a little early have a column of their own all the same.
        column = int(np.clip(np.round(((answer.time - start) / 1e9 - edges[0]) / width), 0, columns - 1))
        if answer.body is not None:
            values = [answer.parts.get(name, 0.0) for name in PART_NAMES]
            parts[:-1, column] = np.fmax(parts[:-1, column], values)
        if answer.thing is not None:
            parts[-1, column] = np.fmax(parts[-1, column], answer.strongest)
            if answer.affordance and answer.affordance not in used:
                used.append(answer.affordance)
    peaks = np.nan_to_num(parts).max(axis=1)
    rows = [row for row in range(len(PART_NAMES)) if peaks[row] >= WORTH_A_ROW]
    names = [PART_NAMES[row] for row in rows]
    if not rows:
        rows, names = [int(np.argmax(peaks[:-1]))], ["no body part"]
    if not np.isnan(parts[-1]).all():
        rows.append(len(PART_NAMES))
        names.append("the object" + (f" ({', '.join(used[:3])})" if used else ""))
    return names, parts[rows]


def _plain(figure: Any, **layout: Any) -> dict[str, Any]:
    """As JSON takes it; colours of text and background are the page's."""
    import json

    figure.update_layout(
        template="none", paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", dragmode=False, **layout
    )
    plain: dict[str, Any] = json.loads(figure.to_json())
    return plain
