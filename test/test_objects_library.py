"""Labels: what the library knows and what else it answers to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivlm_core.errors import InputError
from ivlm_core.objects import canonical_label, library_labels, library_mesh, library_shape
from ivlm_core.objects.library import SYNONYMS

PROMISED = {
    "chair", "table", "bottle", "cup", "box", "ball", "book", "laptop", "backpack", "skateboard",
}  # fmt: skip
COCO_NAMES = {
    "dining table": "table",
    "sports ball": "ball",
    "cell phone": "cell phone",
    "tennis_racket": "tennis racket",
    "baseball bat": "baseball bat",
    "mug": "cup",
    "wine bottle": "bottle",
    "office chair": "chair",
    "Benches": "bench",
    "boxes": "box",
    "the couches": "couch",
    "RUCKSACK": "backpack",
    "cell-phones": "cell phone",
    "  dining   tables ": "table",
    "ｃｈａｉｒ": "chair",
}


def test_promised_labels_are_there() -> None:
    assert set(library_labels()) >= PROMISED
    assert len(set(library_labels())) == len(library_labels())


@pytest.mark.parametrize(("name", "label"), COCO_NAMES.items())
def test_names_of_detectors_are_known(name: str, label: str) -> None:
    assert canonical_label(name) == label


@pytest.mark.parametrize(
    "name", ["", "  ", "space suit", "chairman", "s", "es", "椅子", "tablecloth", "bottle cap", "!?"]
)
def test_unknown_names_stay_unknown(name: str) -> None:
    assert canonical_label(name) is None


def test_synonyms_lead_to_labels_and_shadow_none() -> None:
    assert set(SYNONYMS.values()) <= set(library_labels())
    assert not set(SYNONYMS) & set(library_labels())
    assert all(canonical_label(name) == label for name, label in SYNONYMS.items())


@given(
    st.sampled_from([*library_labels(), *SYNONYMS]),
    st.sampled_from([str.upper, str.title, str.lower]),
    st.sampled_from(["_", " ", "-", "  ", "\t"]),
    st.sampled_from(["", "a ", "the ", "wooden ", "his "]),
)
def test_spelling_does_not_matter(name: str, case, gap: str, before: str) -> None:
    spelled = case(before + name).replace(" ", gap)
    assert canonical_label(spelled) == canonical_label(name)


@given(st.sampled_from(library_labels()))
def test_plurals_are_known(label: str) -> None:
    assert canonical_label(label + ("es" if label.endswith(("x", "ch")) else "s")) == label


@given(st.text(max_size=64))
def test_any_text_is_answered(name: str) -> None:
    assert canonical_label(name) in {None, *library_labels()}


def test_unknown_label_names_what_is_known() -> None:
    with pytest.raises(InputError, match=r"'space suit' is not in the library .*chair, table"):
        library_mesh("space suit")


def test_default_mesh_is_made_once() -> None:
    assert library_mesh("mug") is library_mesh("cup")


def test_sizes_can_be_varied() -> None:
    tall = library_shape("chair", height=1.2).mesh
    assert tall.vertices[:, 1].max() > library_mesh("chair").vertices[:, 1].max() + 0.1
