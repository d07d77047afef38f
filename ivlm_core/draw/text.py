"""Text on pictures: small cached sprites in the font that comes with Pillow, or DejaVu for what that font lacks."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ivlm_core.types import ByteArray

Color = tuple[int, int, int]

# Pillow's own font covers little beyond ASCII. DejaVu is on nearly every Linux desktop; where it is missing, accents
# are dropped and unknown letters become question marks.
_SYSTEM_FONTS = ("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf")
_MAX_CHARACTERS = 400


def put_text(
    canvas: ByteArray, text: str, left: int, top: int, size: int, color: Color, bold: bool = False, right: bool = False
) -> int:
    """Write one line into `canvas` (in place) and return its width in pixels.

    Parameters
    ----------
    canvas : (H, W, 3) uint8 RGB; what would lie outside is cut off.
    left, top : the line's corner; with `right`, `left` is its right edge.
    size : font size in pixels; lines are `line_height(size)` high.
    """
    sprite = _sprite(text, size, bold)
    width = sprite.shape[1]
    if right:
        left -= width
    x, y = max(left, 0), max(top, 0)
    part = sprite[y - top : max(canvas.shape[0] - top, 0), x - left : max(canvas.shape[1] - left, 0)]
    if part.size:
        area = canvas[y : y + part.shape[0], x : x + part.shape[1]]
        cover = part[..., None].astype(np.float32) / 255
        area[:] = area + (np.array(color, dtype=np.float32) - area) * cover + 0.5
    return width


def text_width(text: str, size: int, bold: bool = False) -> int:
    return int(_sprite(text, size, bold).shape[1])


def line_height(size: int) -> int:
    return round(size * 1.35)


@lru_cache(maxsize=512)
def wrap(text: str, size: int, width: int, lines: int, bold: bool = False) -> tuple[str, ...]:
    """The text in at most `lines` lines of `width` pixels, broken between words; an ellipsis marks what is cut."""
    words = clean(text).split()
    done: list[str] = []
    line = ""
    for position, word in enumerate(words):
        longer = f"{line} {word}".strip()
        if text_width(longer, size, bold) <= width:
            line = longer
            continue
        if len(done) == lines - 1 or not line:
            # The last line takes what is left, cut to fit; so does a word that is wider than a whole line.
            rest = " ".join([line, *words[position:]]).strip() if len(done) == lines - 1 else word
            done.append(_cut(rest, size, width, bold))
            if len(done) == lines:
                return tuple(done)
            line = ""
            continue
        done.append(line)
        line = word if text_width(word, size, bold) <= width else _cut(word, size, width, bold)
    return (*done, line) if line else tuple(done)


def one_line(text: str, size: int, width: int, bold: bool = False) -> str:
    """The text on one line of `width` pixels; empty when nothing of it can be printed."""
    return next(iter(wrap(text, size, width, 1, bold)), "")


def clean(text: str) -> str:
    """One printable line: control characters and line breaks become spaces, very long text is cut."""
    shortened = text[: _MAX_CHARACTERS + 1]
    if len(shortened) > _MAX_CHARACTERS:
        shortened = shortened[:_MAX_CHARACTERS] + "..."
    plain = (" " if unicodedata.category(letter)[0] in "CZ" else letter for letter in shortened)
    return " ".join("".join(plain).split())


def _cut(text: str, size: int, width: int, bold: bool) -> str:
    if text_width(text, size, bold) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(text[:middle].rstrip() + "...", size, bold) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "..."


@lru_cache(maxsize=2048)
def _sprite(text: str, size: int, bold: bool) -> ByteArray:
    """(h, w) uint8 coverage of one line."""
    text, font = _fitting_font(clean(text), size)
    weight = 0.4 if bold else 0.0
    height = line_height(size)
    width = int(np.ceil(font.getlength(text) + 2 * weight)) + 1
    image = Image.new("L", (width, height), 0)
    ImageDraw.Draw(image).text(
        (weight, height - round(size * 0.36)), text, fill=255, font=font, anchor="ls", stroke_width=weight
    )
    sprite = np.asarray(image).copy()
    sprite.flags.writeable = False
    return sprite


def _fitting_font(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """The font that has most of the letters, the first of equals, and the text reduced to what it has."""
    letters = set(text)
    fonts = [(name, font) for name in ("", *_SYSTEM_FONTS) if (font := _font(name, size)) is not None]
    if not fonts:
        raise RuntimeError("Pillow was built without FreeType: install the pillow wheel")
    name, font = max(fonts, key=lambda item: sum(_has_letter(item[0], letter) for letter in letters))
    return "".join(_nearest(name, letter) for letter in text), font


def _nearest(name: str, letter: str) -> str:
    """The letter, else what is left of it without its accents, else a question mark."""
    if _has_letter(name, letter):
        return letter
    base = unicodedata.normalize("NFKD", letter.replace("–", "-"))
    bare = "".join(part for part in base if not unicodedata.combining(part) and _has_letter(name, part))
    return bare or "?"


@lru_cache(maxsize=64)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        font = ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    except OSError:
        return None
    return font if isinstance(font, ImageFont.FreeTypeFont) else None


@lru_cache(maxsize=4096)
def _has_letter(name: str, letter: str) -> bool:
    """Whether the font draws the letter as itself and not as the box for missing ones."""
    font = _font(name, 24)
    if font is None:
        return False
    return letter == " " or bytes(font.getmask(letter)) != bytes(font.getmask("\uffff"))
