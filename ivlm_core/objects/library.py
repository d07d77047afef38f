"""The object library: labels, the other names people and detectors use for them, and the meshes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from ivlm_core.errors import InputError, shown
from ivlm_core.objects.shapes import SHAPES, Shape
from ivlm_core.types import Mesh

# Other name → label, singular and lower case: the categories of COCO and LVIS that a shape fits, and everyday words.
SYNONYMS = {
    "armchair": "chair",
    "stool": "chair",
    "dining table": "table",
    "desk": "table",
    "flask": "bottle",
    "mug": "cup",
    "teacup": "cup",
    "carton": "box",
    "parcel": "box",
    "package": "box",
    "crate": "box",
    "football": "ball",
    "basketball": "ball",
    "volleyball": "ball",
    "baseball": "ball",
    "sphere": "ball",
    "sports ball": "ball",
    "soccer ball": "ball",
    "notebook": "book",
    "magazine": "book",
    "notebook computer": "laptop",
    "laptop computer": "laptop",
    "rucksack": "backpack",
    "schoolbag": "backpack",
    "school bag": "backpack",
    "longboard": "skateboard",
    "skate board": "skateboard",
    "surf board": "surfboard",
    "snow board": "snowboard",
    "bike": "bicycle",
    "cycle": "bicycle",
    "push bike": "bicycle",
    "mountain bike": "bicycle",
    "motorbike": "motorcycle",
    "motor bike": "motorcycle",
    "motor cycle": "motorcycle",
    "frisbee disc": "frisbee",
    "flying disc": "frisbee",
    "disc": "frisbee",
    "sofa": "couch",
    "settee": "couch",
    "mattress": "bed",
    "phone": "cell phone",
    "cellphone": "cell phone",
    "smartphone": "cell phone",
    "smart phone": "cell phone",
    "mobile": "cell phone",
    "telephone": "cell phone",
    "parasol": "umbrella",
    "luggage": "suitcase",
    "trolley case": "suitcase",
    "purse": "handbag",
    "hand bag": "handbag",
    "bag": "handbag",
    "bat": "baseball bat",
    "tennis racquet": "tennis racket",
    "racket": "tennis racket",
    "racquet": "tennis racket",
}

_ARTICLES = {"a", "an", "the", "his", "her", "their", "my"}


def library_labels() -> tuple[str, ...]:
    """Every label the library has a shape for."""
    return tuple(SHAPES)


def library_mesh(label: str) -> Mesh:
    """The default mesh for a label or one of its synonyms.

    Returns
    -------
    Mesh in metres, y up, front facing +z, origin at the centre of its bounding box; the same object at every call.

    Raises
    ------
    InputError : the library does not know the label.
    """
    return library_shape(label).mesh


def library_shape(label: str, **sizes: float) -> Shape:
    """The shape for a label, with its parts; `sizes` override the shape's defaults (metres, see `objects.shapes`).

    Raises
    ------
    InputError : the library does not know the label.
    """
    known = canonical_label(label)
    if known is None:
        raise InputError("object.label", f"{shown(label)} is not in the library", f"known: {', '.join(SHAPES)}")
    return SHAPES[known](**sizes) if sizes else _default_shape(known)


def canonical_label(label: str) -> str | None:
    """The library's label for a name, or None. Case, underscores, spaces, hyphens, articles and plurals don't matter.

    Where the whole name is unknown, its last words decide: an `office chair` is a chair, a `wine bottle` a bottle.
    """
    for name in spoken_names(label):
        if name in SHAPES:
            return name
        if name in SYNONYMS:
            return SYNONYMS[name]
    return None


def spoken_names(label: str, whole: bool = False) -> Iterator[str]:
    """The names that a label may mean, the whole of it first, then its last words; each as given and in the singular.

    Case, underscores, spaces, hyphens and articles are gone. `whole`: only those of the whole label.
    """
    words = _words(label)
    for start in range(1 if whole else len(words)):
        yield from _singulars(words[start:])


@lru_cache(maxsize=len(SHAPES))
def _default_shape(label: str) -> Shape:
    return SHAPES[label]()


def _words(label: str) -> list[str]:
    plain = unicodedata.normalize("NFKC", label).casefold()
    words = re.findall(r"[^\W_]+", plain)
    return words[1:] if len(words) > 1 and words[0] in _ARTICLES else words


def _singulars(words: list[str]) -> Iterator[str]:
    """The words as one name, as given and with the last word's plural endings taken off."""
    name = " ".join(words)
    yield name
    for ending in ("s", "es"):
        if name.endswith(ending):
            yield name[: -len(ending)]
