"""Bar and line charts as SVG text: small, sharp, and the same bytes for the same figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, TOP = 760, 270, 60, 48
ROW = 24
COLORS = ("#2f6fab", "#b9c4cf", "#c8553d", "#5b8c5a")
INK, GRID = "#333333", "#dddddd"


class Bar(NamedTuple):
    """One line of a bar chart: its value in [0, 1], another to compare with, and a deviation."""

    name: str
    value: float
    other: float | None = None
    deviation: float | None = None


class Line(NamedTuple):
    """One curve: (x, y) points, y in [0, 1], and a deviation of each y."""

    name: str
    points: Sequence[tuple[float, float]]
    deviations: Sequence[float] = ()


def bar_chart(title: str, bars: Sequence[Bar], legend: Sequence[str]) -> str:
    """Horizontal bars from 0 to 1.

    Parameters
    ----------
    legend : what the values, and the others, are.
    """
    height = TOP + ROW * max(1, len(bars)) + 40
    span = WIDTH - LEFT - RIGHT
    drawn = [_grid(LEFT + span * tick / 5, TOP - 6, height - 34, f"{tick / 5:.1f}") for tick in range(6)]
    for number, bar in enumerate(bars):
        y = TOP + number * ROW
        drawn.append(_text(LEFT - 8, y + 14, bar.name, "end"))
        halves = [bar.value] if bar.other is None else [bar.value, bar.other]
        thick = 16 / len(halves)
        for place, value in enumerate(halves):
            drawn.append(
                f'<rect x="{LEFT}" y="{y + 2 + place * thick:.1f}" width="{span * _unit(value):.1f}" '
                f'height="{thick:.1f}" fill="{COLORS[place]}"/>'
            )
        if bar.deviation:
            low, high = (LEFT + span * _unit(bar.value + sign * bar.deviation) for sign in (-1, 1))
            drawn.append(_stroke(low, y + 10, high, y + 10, INK))
        end = _unit(max(*halves, bar.value + (bar.deviation or 0.0)))
        drawn.append(_text(LEFT + span * end + 6, y + 14, f"{bar.value:.2f}"))
    return _svg(title, height, [*drawn, *_legend(legend)])


def line_chart(title: str, lines: Sequence[Line], unit: str, logarithmic: bool = False) -> str:
    """Curves of values in [0, 1].

    Parameters
    ----------
    unit : of x. logarithmic : scale of x.
    """
    height, left = 360, 60
    bottom, span = height - 50, WIDTH - left - RIGHT
    scale = math.log if logarithmic else float
    every = sorted({x for line in lines for x, _ in line.points})
    first, last = (scale(every[0]), scale(every[-1])) if every else (0.0, 1.0)

    def place(x: float, y: float) -> tuple[float, float]:
        share = (scale(x) - first) / (last - first) if last > first else 0.5
        return left + span * share, bottom - (bottom - TOP) * _unit(y)

    drawn = []
    for tick in range(6):
        y = place(every[0] if every else 1.0, tick / 5)[1]
        drawn += [_stroke(left, y, left + span, y, GRID), _text(left - 8, y + 4, f"{tick / 5:.1f}", "end")]
    drawn += [_text(place(x, 0)[0], bottom + 18, f"{x:g} {unit}", "middle") for x in every]
    for number, line in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        points = [place(*point) for point in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        for (x, value), deviation in zip(line.points, line.deviations or [0.0] * len(points), strict=True):
            at, low, high = place(x, value), place(x, value - deviation), place(x, value + deviation)
            drawn.append(f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="3.5" fill="{color}"/>')
            drawn += [_stroke(*low, *high, color), _text(at[0], at[1] - 9, f"{value:.2f}", "middle")]
    return _svg(title, height, [*drawn, *_legend([line.name for line in lines])])


def _svg(title: str, height: float, drawn: Sequence[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            f'<text x="12" y="20" font-size="14" fill="{INK}">{escape(title)}</text>',
            *drawn,
            "</svg>",
            "",
        ]
    )


def _legend(names: Sequence[str]) -> list[str]:
    drawn, x = [], WIDTH - RIGHT - 110 * len(names)
    for number, name in enumerate(names):
        drawn.append(f'<rect x="{x}" y="12" width="10" height="10" fill="{COLORS[number % len(COLORS)]}"/>')
        drawn.append(_text(x + 14, 21, name))
        x += 110
    return drawn


def _grid(x: float, top: float, bottom: float, name: str) -> str:
    return _stroke(x, top, x, bottom, GRID) + _text(x, bottom + 16, name, "middle")


def _stroke(x: float, y: float, to_x: float, to_y: float, color: str) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{color}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}">{escape(text)}</text>'


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))
