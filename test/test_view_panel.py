"""The page's texts: everything that was found is told, and nothing of a recording becomes markup."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.types import Mesh
from ivlm_core.view.moments import Heat, Moment, Pair, PairAnswer, Placement, Region
from ivlm_core.view.panel import answer_html, legend_html, time_html

TRIANGLE = Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]]))
TAGS = {"div", "span", "b", "table", "tr", "td"}


class Reader(HTMLParser):
    """Tags and text of a fragment."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def moment(**fields: object) -> Moment:
    known: dict = {"stamp_ns": 0, "camera_frame": "", "picture": None, "picture_note": "", "answers": {}}
    return Moment(**{**known, **fields})


def full(text: str) -> tuple[Pair, PairAnswer, Moment]:
    """One text in every place that a recording fills."""
    heat = Heat(TRIANGLE, np.array([0.2, 0.6, 0.9], np.float32), 0.5, text)
    answer = PairAnswer(
        body=heat,
        thing=heat,
        true_body=Heat(None, np.zeros(0, np.float32), 0.5, text),
        sentence=text,
        thing_sentence=text,
        confidence=0.5,
        body_parts=((text, 0.7),),
        affordance=text,
        placement=Placement(np.eye(3), np.array([0.1, -0.2, 1.5]), 1.25),
        pose_notes=(text,),
        residuals={text: 0.5, "contact_cm": 2.0},
        contact_area_cm2=12.0,
        regions=(Region(np.zeros(3), np.zeros(3), 30.0, 0.5, np.zeros(0, np.int32)),),
        missing=(text,),
    )
    here = moment(camera_frame=text, picture_note=text, model=text, notes=(text,))
    return Pair("", text, text, text), answer, here


@given(st.text(max_size=30) | st.sampled_from(["<img src=x onerror=alert(1)>", "'\"&</div><script>", "a' style='x"]))
def test_no_text_becomes_markup(text: str) -> None:
    pair, answer, here = full(text)
    for html in (
        answer_html(pair, answer, here, 0.5),
        time_html(here, 0, 2, 0, [text]),
        answer_html(pair, None, here, 0.5),
    ):
        read = Reader(html)
        assert read.tags <= TAGS
        assert read.attributes <= {"style"}


def test_everything_is_told() -> None:
    told = Reader(answer_html(*full("word"), 0.5)).text
    for part in ("word", "50%", "0.70", "67% of its vertices", "0.10 right, 0.20 up, 1.50 m ahead", "1.25 ×", "2.0 cm"):
        assert part in told
    for part in ("12 cm²", "30 cm²", "person word"):
        assert part in told


def test_pose_that_is_missing_says_why() -> None:
    told = answer_html(Pair("", "cup", "", ""), PairAnswer(pose_reason="the camera is not known"), moment(), 0.5)
    assert "No pose: the camera is not known" in Reader(told).text


def test_nothing_asked_and_nothing_answered() -> None:
    assert "Nothing was asked about" in answer_html(None, None, moment(), 0.5)
    assert "Not answered in this image" in answer_html(Pair("", "cup", "", ""), None, moment(), 0.5)


def test_special_tokens_of_the_model_are_left_out() -> None:
    html = answer_html(Pair("", "cup", "", ""), PairAnswer(sentence="It is the hand, <HCON>"), moment(), 0.5)
    assert "HCON" not in html


def test_time_counts_from_the_first_image() -> None:
    told = Reader(time_html(moment(stamp_ns=3_250_000_000), 4, 9, 10**9, ())).text
    assert "2.25 s" in told
    assert "image 5 of 9" in told
    assert " s" not in Reader(time_html(moment(), 0, 1, 0, ())).text


def test_legend_shows_the_heat_colours() -> None:
    assert "rgb(205, 10, 25)" in legend_html()
