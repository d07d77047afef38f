"""The picture that people look at: the image, and for each object the touched body and the touched object."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from ivlm_core.draw.answers import Answer, answers, spoken
from ivlm_core.draw.heat import NEUTRAL_GREY, heat_colors
from ivlm_core.draw.text import Color, line_height, one_line, put_text, text_width, wrap
from ivlm_core.draw.thumbnails import block_size, view_block
from ivlm_core.types import ByteArray, Frame, FrameResult, HumanContact, ObjectAffordance, ObjectQuery

MAX_CARDS = 4

_PAPER: Color = (238, 240, 243)
_WHITE: Color = (255, 255, 255)
_INK: Color = (24, 28, 34)
_MUTED: Color = (96, 104, 115)
_LINE: Color = (208, 212, 219)
_UNANSWERED: Color = (110, 116, 126)
# One colour per object, the same on its box in the image and on its card; none is near the red of contact.
_ACCENTS: tuple[Color, ...] = ((28, 98, 214), (13, 130, 110), (126, 58, 200), (90, 90, 20))

_EDGE = 14
_PAD = 12
_HEADER = 34
_PANEL = (640, 480)
_ONE_TILE, _SEVERAL_TILE = 184, 108
_DETAIL_ROW = 19


def draw_overlay(
    frame: Frame, result: FrameResult, threshold: float = 0.5, queries: Sequence[ObjectQuery] = ()
) -> ByteArray:
    """One picture that tells what was found in a frame.

    Left the image with the objects' boxes; right one card per object (at most four, then `+n more`) with the body's
    and the object's four views, contact in red, the model's sentences, body parts, affordance and confidence.
    Where nothing was answered, the reasons stand in place of the cards.

    Parameters
    ----------
    frame : the image that was asked about, any size.
    result : what was answered.
    threshold : the probability from which a vertex counts as touched, marked in the legend.
    queries : the queries of this frame, for their boxes and masks.

    Returns
    -------
    (H', W', 3) uint8 RGB; its size depends on the image's shape, the cards, the notes under the image and the banner.
    """
    found = answers(result)
    shown = found[:MAX_CARDS]
    tile = _ONE_TILE if len(shown) <= 1 else _SEVERAL_TILE
    columns = 1 if len(shown) <= 1 else 2
    rows = max(1, -(-len(shown) // columns))
    card_width, card_height = _card_size(tile)

    photo = _photo(frame, result, found, queries)
    top = _EDGE + _HEADER
    left = _EDGE + photo.shape[1] + _EDGE
    width = left + columns * (card_width + _EDGE)
    notes = _notes(found, result)
    below = photo.shape[0] + 44 + line_height(13) * len(notes)
    height = top + max(rows * (card_height + _EDGE), below + _EDGE)
    canvas = np.empty((height, width, 3), dtype=np.uint8)
    _fill(canvas, _PAPER)

    _header(canvas, result, len(found) + len(result.image_contacts))
    canvas[top : top + photo.shape[0], _EDGE : _EDGE + photo.shape[1]] = photo
    _legend(canvas, _EDGE, top + photo.shape[0] + 12, threshold)
    for index, note in enumerate(notes):
        line = one_line(note, 13, photo.shape[1])
        put_text(canvas, line, _EDGE, top + photo.shape[0] + 44 + line_height(13) * index, 13, _MUTED)
    for index, answer in enumerate(shown):
        x = left + (index % columns) * (card_width + _EDGE)
        y = top + (index // columns) * (card_height + _EDGE)
        card = canvas[y : y + card_height, x : x + card_width]
        _card(card, answer, _ACCENTS[index], tile, threshold)
    if not shown:
        _nothing_card(canvas[top : top + card_height, left : left + card_width], result)
    return canvas


def _fill(area: ByteArray, color: Color) -> None:
    # NumPy broadcasts three bytes about ten times slower than OpenCV fills them.
    cv2.rectangle(area, (0, 0), (area.shape[1] - 1, area.shape[0] - 1), color, cv2.FILLED)


def _card_size(tile: int) -> tuple[int, int]:
    answer_lines, details = _rows(tile)
    width = 2 * block_size(tile) + 3 * _PAD
    height = (
        30 + line_height(14) + answer_lines * line_height(13) + block_size(tile) + 10 + details * _DETAIL_ROW + _PAD
    )
    return width, height


def _rows(tile: int) -> tuple[int, int]:
    """Lines for the answer, and rows under the views."""
    return (2, 4) if tile == _ONE_TILE else (3, 3)


def _photo(frame: Frame, result: FrameResult, found: Sequence[Answer], queries: Sequence[ObjectQuery]) -> ByteArray:
    """The image scaled into its panel: contact on its own pixels in red, and each query's outline, box and label."""
    height, width = frame.image.shape[:2]
    scale = min(_PANEL[0] / width, _PANEL[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # Narrow images keep a panel that the legend fits under.
    panel = np.full((max(size[1], 120), max(size[0], 240), 3), 225, dtype=np.uint8)
    shrinks = scale < 1
    resized = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    x0, y0 = (panel.shape[1] - size[0]) // 2, (panel.shape[0] - size[1]) // 2
    photo = panel[y0 : y0 + size[1], x0 : x0 + size[0]]
    photo[:] = resized
    if result.image_contacts:
        strongest = np.max([contact.probability for contact in result.image_contacts], axis=0)
        photo[:] = heat_colors(cv2.resize(strongest, size, interpolation=cv2.INTER_AREA), resized)
    for query, color in zip(queries, _query_colors(found, queries), strict=True):
        if query.mask is not None and query.mask.shape == (height, width):
            mask = cv2.resize(query.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
            outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
            cv2.drawContours(photo, outlines, -1, color, 2)
        if query.box_xyxy is not None:
            labelled_box(photo, query.box_xyxy, query.label, color, scale)
    return panel


def labelled_box(
    photo: ByteArray, box: tuple[float, float, float, float], label: str, color: Color, scale: float = 1.0
) -> None:
    """Draw a box and its label into (H, W, 3) uint8 RGB.

    Parameters
    ----------
    box : x_min, y_min, x_max, y_max, finite; times `scale` they are pixels of the photo. The part inside is drawn.
    """
    height, width = photo.shape[:2]
    limits = np.array([width - 1, height - 1, width - 1, height - 1])
    corners = np.clip(np.array(box) * scale, 0, limits).round().astype(int)
    left, top, right, bottom = (int(value) for value in corners)
    cv2.rectangle(photo, (left, top), (right, bottom), _WHITE, 4)
    cv2.rectangle(photo, (left, top), (right, bottom), color, 2)
    text = one_line(label, 14, max(60, width // 2))
    tag_width, tag_height = text_width(text, 14, bold=True) + 12, line_height(14) + 4
    tag_left = max(0, min(left, width - tag_width))
    tag_top = top - tag_height if top >= tag_height else top
    _fill(photo[tag_top : tag_top + tag_height, tag_left : tag_left + tag_width], color)
    put_text(photo, text, tag_left + 6, tag_top + 2, 14, _WHITE, bold=True)


def _query_colors(found: Sequence[Answer], queries: Sequence[ObjectQuery]) -> list[Color]:
    """Each query's card colour; grey for those without a card."""
    free = list(enumerate(found[:MAX_CARDS]))
    colors = []
    for query in queries:
        match = next(
            (item for item in free if (item[1].label, item[1].object_id) == (query.label, query.object_id)), None
        )
        if match is None:
            colors.append(_UNANSWERED)
        else:
            free.remove(match)
            colors.append(_ACCENTS[match[0]])
    return colors


def _header(canvas: ByteArray, result: FrameResult, count: int) -> None:
    title = f"{count} object{'' if count == 1 else 's'} answered" if count else "No contact estimated"
    put_text(canvas, title, _EDGE, 10, 18, _INK, bold=True)
    seconds = result.seconds.get("total", sum(result.seconds.values()))
    parts = [f"model {result.model}" if result.model else "", f"{seconds * 1000:.0f} ms" if result.seconds else ""]
    put_text(canvas, "  ·  ".join(filter(None, parts)), canvas.shape[1] - _EDGE, 14, 13, _MUTED, right=True)


def _legend(canvas: ByteArray, left: int, top: int, threshold: float) -> None:
    """The colour bar 0 → 1 with the threshold marked."""
    width, height = 130, 12
    x = left + put_text(canvas, "contact  0", left, top - 2, 13, _MUTED) + 5
    canvas[top : top + height, x : x + width] = _bar(width)
    mark = x + round(min(max(threshold, 0.0), 1.0) * (width - 1))
    canvas[top - 3 : top + height + 3, mark : mark + 2] = _INK
    x += width + 5
    x += put_text(canvas, "1", x, top - 2, 13, _MUTED) + 14
    put_text(canvas, f"counts as contact from {threshold:.2f}", x, top - 2, 13, _MUTED)


@lru_cache(maxsize=4)
def _bar(width: int) -> ByteArray:
    return heat_colors(np.linspace(0, 1, width), np.full(3, NEUTRAL_GREY, dtype=np.uint8))


def _card(card: ByteArray, answer: Answer, accent: Color, tile: int, threshold: float) -> None:
    height, width = card.shape[:2]
    _fill(card, _WHITE)
    cv2.rectangle(card, (0, 0), (width - 1, height - 1), _LINE, 1)
    _fill(card[0:4], accent)
    size = block_size(tile)
    put_text(card, one_line(answer.label, 17, width - 2 * _PAD, bold=True), _PAD, 9, 17, accent, bold=True)
    if answer.object_id:
        put_text(card, one_line(answer.object_id, 12, width // 3), width - _PAD, 12, 12, _MUTED, right=True)
    human, affordance = answer.human, answer.affordance
    for side, title, given in (("human", "Body", human), ("object", "Object", affordance)):
        column = card[:, (_PAD if side == "human" else 2 * _PAD + size) :][:, :size]
        y = _said(column, title, given, tile)
        block = column[y : y + size]
        if given is None:
            _empty_block(block, _reason(answer, side))
        else:
            block[:] = view_block(given.views, tile).paint(given.probability)
        y += size + 8
        if human is not None and side == "human":
            _body_rows(column, y, human, _rows(tile)[1])
        if affordance is not None and side == "object":
            _object_rows(column, y, affordance, threshold)


def _said(column: ByteArray, title: str, given: HumanContact | ObjectAffordance | None, tile: int) -> int:
    """Title, confidence and the model's sentence; returns where the views start."""
    y, width = 32, column.shape[1]
    if given is not None:
        text = f"confidence {given.confidence:.0%}" if np.isfinite(given.confidence) else "confidence unknown"
        put_text(column, text, width, y + 1, 12, _MUTED, right=True)
        width_left = width - text_width(text, 12) - 8
    else:
        width_left = width
    put_text(column, one_line(title, 14, width_left, bold=True), 0, y, 14, _INK, bold=True)
    y += line_height(14)
    lines = _rows(tile)[0]
    if given is not None:
        for index, line in enumerate(wrap(spoken(given.answer) or "(no sentence)", 13, width, lines)):
            put_text(column, line, 0, y + index * line_height(13), 13, _INK)
    return y + lines * line_height(13) + 2


def _body_rows(column: ByteArray, top: int, human: HumanContact, rows: int) -> None:
    """The most touched body parts, each with its score as a bar."""
    scores = sorted(human.body_parts.items(), key=lambda item: (-item[1], item[0]))
    scores = [(name, float(score)) for name, score in scores if score >= 0.005][:rows]
    if not scores:
        put_text(column, "no body part is touched", 0, top, 13, _MUTED)
    name_width = 108 if column.shape[1] > 240 else 98
    bar_width = column.shape[1] - name_width - 38
    for index, (name, score) in enumerate(scores):
        y = top + index * _DETAIL_ROW
        put_text(column, one_line(name, 13, name_width - 4), 0, y, 13, _INK)
        column[y + 5 : y + 13, name_width : name_width + bar_width] = (232, 234, 238)
        length = round(min(score, 1.0) * bar_width)
        column[y + 5 : y + 13, name_width : name_width + length] = heat_colors(score, (NEUTRAL_GREY,) * 3)
        put_text(column, f"{score:.2f}", column.shape[1], y, 13, _INK, right=True)


def _object_rows(column: ByteArray, top: int, affordance: ObjectAffordance, threshold: float) -> None:
    touched = int((affordance.probability >= threshold).sum())
    share = touched / max(1, len(affordance.probability))
    source = {"file": "own mesh", "library": "library mesh", "fallback": "no mesh known: plain box"}
    lines = (
        (f"affordance: {affordance.affordance or 'not named'}", _INK),
        (f"{share:.0%} of its vertices touched", _INK),
        (source.get(affordance.mesh_source, affordance.mesh_source), _MUTED),
    )
    for index, (text, color) in enumerate(lines):
        put_text(column, one_line(text, 13, column.shape[1]), 0, top + index * _DETAIL_ROW, 13, color)


def _reason(answer: Answer, side: str) -> str:
    reasons = [item.reason for item in answer.missing if item.side == side] or [item.reason for item in answer.missing]
    return reasons[0] if reasons else "the model gave none"


def _empty_block(block: ByteArray, reason: str) -> None:
    _fill(block, _PAPER)
    put_text(block, "no answer", 12, 12, 15, _MUTED, bold=True)
    for index, line in enumerate(wrap(reason, 13, block.shape[1] - 24, 6)):
        put_text(block, line, 12, 40 + index * line_height(13), 13, _MUTED)


def _notes(found: Sequence[Answer], result: FrameResult) -> list[str]:
    """Lines under the image: cards that did not fit, and objects that were asked about in vain."""
    notes = []
    if len(found) > MAX_CARDS:
        notes.append(f"+{len(found) - MAX_CARDS} more: {', '.join(one.label for one in found[MAX_CARDS:])}")
    on_cards = {id(item) for one in found for item in one.missing}
    if found:
        lacking = [item for item in result.unanswered if id(item) not in on_cards]
        notes += [f"no answer for {item.object_label} ({item.side}): {item.reason}" for item in lacking[:4]]
        if len(lacking) > 4:
            notes.append(f"+{len(lacking) - 4} more without an answer")
    return notes


def _nothing_card(card: ByteArray, result: FrameResult) -> None:
    height, width = card.shape[:2]
    _fill(card, _WHITE)
    cv2.rectangle(card, (0, 0), (width - 1, height - 1), _LINE, 1)
    if result.image_contacts:
        title = "Contact on the picture"
    else:
        title = "The model gave no answer" if result.unanswered else "Nothing was asked"
    put_text(card, title, 2 * _PAD, 2 * _PAD, 20, _INK, bold=True)
    y = 2 * _PAD + 40
    for contact in result.image_contacts[:8]:
        for line in wrap(f"{contact.object_label}: {spoken(contact.answer)}", 15, width - 4 * _PAD, 2):
            put_text(card, line, 2 * _PAD, y, 15, _INK)
            y += line_height(15)
        y += 6
    if not result.unanswered and not result.image_contacts:
        put_text(card, "No object was given with this image.", 2 * _PAD, y, 15, _MUTED)
    for item in result.unanswered[:8]:
        for line in wrap(f"{item.object_label} ({item.side}): {item.reason}", 15, width - 4 * _PAD, 2):
            put_text(card, line, 2 * _PAD, y, 15, _MUTED)
            y += line_height(15)
        y += 6
    if len(result.unanswered) > 8:
        put_text(card, f"+{len(result.unanswered) - 8} more", 2 * _PAD, y, 15, _MUTED)
