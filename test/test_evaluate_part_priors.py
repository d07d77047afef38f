"""The table of handcrafted contacts: complete, and on the parts that it names."""

from __future__ import annotations

import numpy as np
import pytest

from ivlm_core.bodies import PART_NAMES, load_body
from ivlm_core.evaluate.part_priors import USES, part_contacts
from ivlm_core.objects import library_labels, library_shape


def test_every_category_is_in_the_table():
    assert set(USES) == set(library_labels())


@pytest.mark.parametrize("label", sorted(USES))
def test_contacts_lie_on_the_named_parts_and_anchors(label):
    shape, body = library_shape(label), load_body()
    human, thing = part_contacts(shape, body, label)
    parts, anchors = USES[label]
    assert {PART_NAMES[part] for part in np.unique(body.part_labels[human > 0])} == set(parts)
    assert human.shape == (len(body.mesh.vertices),)
    assert thing.shape == (len(shape.mesh.vertices),)
    assert set(np.unique(thing)) <= {0.0, 1.0}
    # All of a ball is as far from its middle as its hands are.
    assert thing.any()
    assert label == "ball" or thing.mean() < 0.9
    touched = shape.mesh.vertices[thing > 0].astype(np.float64)
    side = float(np.ptp(shape.mesh.vertices, axis=0).max())
    for name in anchors:
        anchor = shape.anchors[name]
        assert np.linalg.norm(touched - np.asarray(anchor.point), axis=1).min() < 0.2 * side + anchor.radius


def test_what_the_table_does_not_know_has_no_contact():
    assert part_contacts(library_shape("cup"), load_body(), "unicorn") is None
