"""Charts: well-formed, with every name and value, and the same for the same figures."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from ivlm_core.evaluate.plots import Bar, Line, bar_chart, line_chart

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(drawing).iter(f"{SVG}text")]


def test_bars_show_names_values_and_lengths():
    bars = [Bar("cup & saucer", 0.5, 0.25), Bar("bed", 1.0)]
    bars = [Bar("cup & saucer", 0.5, 0.25), Bar("bed", 1.0)]
    drawing = bar_chart("F1 <per> category", bars, ("model", "prior"))
    assert {"F1 <per> category", "cup & saucer", "0.50", "1.00", "model", "prior"} <= set(texts(drawing))
    boxes = list(ElementTree.fromstring(drawing).iter(f"{SVG}rect"))[1:4]
    half, quarter, whole = (float(box.get("width", 0)) for box in boxes)
    assert (half, quarter) == pytest.approx((whole / 2, whole / 4))
    assert drawing == bar_chart("F1 <per> category", bars, ("model", "prior"))


def test_curves_rise_with_their_values_and_logarithmic_steps_are_even():
    drawing = line_chart("data", [Line("model", [(1, 0.2), (10, 0.4), (100, 0.9)])], "%", logarithmic=True)
    circles = list(ElementTree.fromstring(drawing).iter(f"{SVG}circle"))
    x, y = ([float(circle.get(name, 0)) for circle in circles] for name in ("cx", "cy"))
    assert x[1] - x[0] == x[2] - x[1]
    assert y[0] > y[1] > y[2]
    assert "100 %" in texts(drawing)


def test_charts_of_nothing_are_charts():
    one = line_chart("one", [Line("a", [(3, 0.5)])], "")
    for drawing in (bar_chart("none", [], ()), line_chart("none", [], "%"), one):
        assert ElementTree.fromstring(drawing).tag == f"{SVG}svg"
