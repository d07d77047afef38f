"""The overlay: what a person must see at a glance is there, and nothing else turns red."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core.draw import draw_overlay, overlay
from ivlm_core.objects import library_mesh, normalize_for_views
from ivlm_core.render import HUMAN_VIEWS, OBJECT_VIEWS, build_view_pack
from ivlm_core.types import Frame, FrameResult, HumanContact, Mesh, ObjectAffordance, ObjectQuery, Unanswered, ViewPack

IMAGE = np.full((480, 640, 3), (90, 110, 140), dtype=np.uint8)


@pytest.fixture(scope="module")
def body() -> ViewPack:
    ball = library_mesh("ball")
    return build_view_pack(Mesh(ball.vertices * 7, ball.faces, "body"), HUMAN_VIEWS, 160, "normals")


@pytest.fixture(scope="module")
def thing() -> ViewPack:
    return build_view_pack(normalize_for_views(library_mesh("chair")), OBJECT_VIEWS, 160, "positions")


def make(body: ViewPack, thing: ViewPack, *labels: str, human: float = 0.0, touched: float = 0.0) -> FrameResult:
    contacts, affordances = [], []
    for label in labels:
        contacts.append(
            HumanContact(
                label,
                np.full(len(body.mesh.vertices), human, dtype=np.float32),
                "anny",
                body.mesh,
                body,
                {"left hand": human, "torso": human / 2},
                "The person holds it.",
                0.8,
            )
        )
        affordances.append(
            ObjectAffordance(
                label,
                np.full(len(thing.mesh.vertices), touched, dtype=np.float32),
                library_mesh("chair"),
                thing,
                "sit",
                "It can be sat on.",
                0.6,
            )
        )
    return FrameResult(tuple(contacts), tuple(affordances), seconds={"total": 0.05}, model="tiny")


def red(picture: np.ndarray) -> np.ndarray:
    """(H', W') bool: contact red, which no text, box or chrome may have."""
    values = picture.astype(int)
    return (values[..., 0] > values[..., 1] + 60) & (values[..., 0] > values[..., 2] + 60) & (values[..., 1] < 80)


def test_same_input_gives_the_same_picture(body: ViewPack, thing: ViewPack) -> None:
    result = make(body, thing, "chair", human=0.7, touched=0.4)
    query = ObjectQuery("chair", box_xyxy=(10, 20, 200, 300))
    first = draw_overlay(Frame(IMAGE), result, queries=[query])
    np.testing.assert_array_equal(first, draw_overlay(Frame(IMAGE), result, queries=[query]))
    assert first.dtype == np.uint8
    assert first.flags.c_contiguous


def test_image_is_shown_unchanged_at_the_left(body: ViewPack, thing: ViewPack) -> None:
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    picture = draw_overlay(Frame(image), make(body, thing, "chair"))
    np.testing.assert_array_equal(picture[48 : 48 + 480, 14 : 14 + 640], image)


def test_without_contact_only_the_legend_is_red(body: ViewPack, thing: ViewPack) -> None:
    picture = draw_overlay(Frame(IMAGE), make(body, thing, "chair"))
    rows, columns = np.nonzero(red(picture))
    assert rows.min() > 48 + 480, "below the image"
    assert columns.max() < 14 + 640, "left of the card"


def test_contact_is_red_on_its_own_side_only(body: ViewPack, thing: ViewPack) -> None:
    none = draw_overlay(Frame(IMAGE), make(body, thing, "chair"))
    human = draw_overlay(Frame(IMAGE), replace(make(body, thing, "chair", human=1.0)))
    touched = draw_overlay(Frame(IMAGE), make(body, thing, "chair", touched=1.0))
    card_left = 14 + 640 + 14
    middle = card_left + (none.shape[1] - 14 - card_left) // 2
    assert red(human)[:, card_left:middle].sum() > 5000
    assert red(human)[:, middle:].sum() == 0
    assert red(touched)[:, middle:].sum() > 5000
    assert red(touched)[:, card_left:middle].sum() == 0


def test_nothing_answered_shows_the_reason() -> None:
    missing = Unanswered("umbrella", "the answer held no contact token", "human")
    silent = draw_overlay(Frame(IMAGE), FrameResult((), ()))
    explained = draw_overlay(Frame(IMAGE), FrameResult((), (), (missing,)))
    other = draw_overlay(Frame(IMAGE), FrameResult((), (), (replace(missing, reason="x"),)))
    assert silent.shape == explained.shape
    assert (silent != explained).any()
    assert (other != explained).any()


def test_one_missing_side_is_said_and_not_painted(body: ViewPack, thing: ViewPack) -> None:
    result = make(body, thing, "chair", human=1.0, touched=1.0)
    half = replace(result, object_affordances=(), unanswered=(Unanswered("chair", "no token", "object"),))
    picture = draw_overlay(Frame(IMAGE), half)
    card_left = 14 + 640 + 14
    middle = card_left + (picture.shape[1] - 14 - card_left) // 2
    assert red(picture)[:, card_left:middle].sum() > 5000
    assert red(picture)[:, middle:].sum() == 0


def test_more_than_four_objects_are_counted(body: ViewPack, thing: ViewPack) -> None:
    four = draw_overlay(Frame(IMAGE), make(body, thing, "a", "b", "c", "d"))
    six = draw_overlay(Frame(IMAGE), make(body, thing, "a", "b", "c", "d", "e", "f"))
    assert four.shape == six.shape
    below = slice(48 + 480 + 30, None)
    assert (six[below, :654] != four[below, :654]).any(), "`+2 more` stands under the image"
    np.testing.assert_array_equal(six[48:, 660:], four[48:, 660:])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_object_gets_a_card_in_its_own_color(body: ViewPack, thing: ViewPack, count: int) -> None:
    picture = draw_overlay(Frame(IMAGE), make(body, thing, *"abcd"[:count]))
    for index, color in enumerate(overlay._ACCENTS):
        assert ((picture == color).all(axis=2).sum() > 200) == (index < count)


def test_box_has_the_color_of_its_card(body: ViewPack, thing: ViewPack) -> None:
    queries = [ObjectQuery("b", box_xyxy=(300, 200, 500, 400)), ObjectQuery("unknown", box_xyxy=(50, 50, 200, 300))]
    picture = draw_overlay(Frame(IMAGE), make(body, thing, "a", "b"), queries=queries)
    photo = picture[48 : 48 + 480, 14 : 14 + 640]
    assert (photo[300, 300] == overlay._ACCENTS[1]).all()
    assert (photo[250, 50] == overlay._UNANSWERED).all()
    assert (photo[300, 400] == IMAGE[0, 0]).all()


def test_mask_outline_follows_the_mask(body: ViewPack, thing: ViewPack) -> None:
    mask = np.zeros((480, 640), dtype=bool)
    mask[100:200, 300:400] = True
    picture = draw_overlay(Frame(IMAGE), make(body, thing, "a"), queries=[ObjectQuery("a", mask=mask)])
    photo = picture[48 : 48 + 480, 14 : 14 + 640]
    colored = np.argwhere((photo == overlay._ACCENTS[0]).all(axis=2))
    assert len(colored) >= 390
    assert np.abs(colored.min(axis=0) - (100, 300)).max() <= 1
    assert np.abs(colored.max(axis=0) - (199, 399)).max() <= 1


@pytest.mark.parametrize("box", [(-1e9, -1e9, 1e9, 1e9), (700, 500, 900, 600), (-50, -50, -10, -10), (0, 0, 0.1, 0.1)])
def test_box_outside_the_image(body: ViewPack, thing: ViewPack, box: tuple[float, float, float, float]) -> None:
    picture = draw_overlay(Frame(IMAGE), make(body, thing, "a"), queries=[ObjectQuery("a", box_xyxy=box)])
    plain = draw_overlay(Frame(IMAGE), make(body, thing, "a"))
    np.testing.assert_array_equal(picture[:, 654:], plain[:, 654:])


@pytest.mark.parametrize("size", [(1, 1), (1, 8000), (8000, 1), (20, 30), (1200, 1600), (480, 640)])
def test_any_image_size(body: ViewPack, thing: ViewPack, size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 50, dtype=np.uint8)
    picture = draw_overlay(
        Frame(image), make(body, thing, "chair"), queries=[ObjectQuery("chair", box_xyxy=(0, 0, 1, 1))]
    )
    assert picture.shape[0] < 900
    assert picture.shape[1] < 1700


@settings(max_examples=15, deadline=None)
@given(label=st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="<>[]"), min_size=1, max_size=20))
def test_unicode_label(body: ViewPack, thing: ViewPack, label: str) -> None:
    result = make(body, thing, label)
    query = ObjectQuery(label, box_xyxy=(10, 200, 300, 400))
    plain = draw_overlay(Frame(IMAGE), result)
    assert draw_overlay(Frame(IMAGE), result, queries=[query]).shape == plain.shape


def test_long_and_hostile_answers_stay_in_their_card(body: ViewPack, thing: ViewPack) -> None:
    result = make(body, thing, "chair")
    spoken = replace(
        result.human_contacts[0], answer="contact\n\x00" * 5000, object_id="i" * 256, confidence=float("nan")
    )
    picture = draw_overlay(Frame(IMAGE), replace(result, human_contacts=(spoken,), object_affordances=()))
    plain = draw_overlay(Frame(IMAGE), replace(result, object_affordances=()))
    assert picture.shape == plain.shape
    np.testing.assert_array_equal(picture[:, :654], plain[:, :654])


def test_unprintable_id_and_answer(body: ViewPack, thing: ViewPack) -> None:
    result = make(body, thing, "chair")
    odd = replace(result.human_contacts[0], object_id="\x00\n", answer="\u200b")
    plain = replace(result.human_contacts[0], object_id="", answer=" ")
    pictures = [
        draw_overlay(Frame(IMAGE), replace(result, human_contacts=(contact,), object_affordances=()))
        for contact in (odd, plain)
    ]
    np.testing.assert_array_equal(*pictures)


def test_body_parts_are_sorted_and_zero_ones_left_out(body: ViewPack, thing: ViewPack) -> None:
    result = make(body, thing, "chair")

    def drawn(parts: dict[str, float]) -> np.ndarray:
        contact = replace(result.human_contacts[0], body_parts=parts)
        return draw_overlay(Frame(IMAGE), replace(result, human_contacts=(contact,)))

    one = drawn({"left hand": 0.9, "hips": 0.4})
    np.testing.assert_array_equal(one, drawn({"hips": 0.4, "head": 0.0, "left hand": 0.9}))
    assert (one != drawn({"left hand": 0.4, "hips": 0.9})).any()
