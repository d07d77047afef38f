"""`load_body` by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ivlm_core.bodies import AnnyRig, load_body
from ivlm_core.errors import ConfigError


def test_the_default_body_is_annys_star_pose_and_is_loaded_once() -> None:
    body = load_body()
    assert body is load_body("anny")
    assert body.name == "anny"
    np.testing.assert_array_equal(body.mesh.vertices, AnnyRig.load().star_vertices)
    assert body.vertex_area.sum() == pytest.approx(1.9, abs=0.2)


def test_unknown_name_lists_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r"'star' is unknown.*anny, smpl, smplh, smplx"):
        load_body("star")


@pytest.mark.parametrize("name", ["smpl", "smplh", "smplx"])
def test_licensed_body_without_its_file_says_what_to_give(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"body.model_path: is missing: '{name}'.*npz"):
        load_body(name)


def test_a_path_for_the_shipped_body_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"body.model_path: is given.*leave it out"):
        load_body("anny", Path("anny.npz"))
