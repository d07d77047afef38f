"""Where one camera stands beside another, with and without tf2."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy")

from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3

from ivlm_core.errors import InputError
from ivlm_ros.transforms import Transforms, matrix_of

QUARTER = Transform(translation=Vector3(x=0.1, y=0.2, z=0.3), rotation=Quaternion(z=0.5**0.5, w=0.5**0.5))


class Buffer:
    """Knows one transform, from `depth` to `color`, as `tf2_ros.Buffer` would tell it."""

    def lookup_transform(self, target_frame: str, source_frame: str, time: Any) -> TransformStamped:
        if (target_frame, source_frame) != ("color", "depth"):
            raise LookupError(f'"{source_frame}" passed to lookupTransform does not exist')
        return TransformStamped(transform=QUARTER)


class TransformListener:
    made: list[TransformListener]

    def __init__(self, buffer: Buffer, node: Any) -> None:
        self.listening = True
        self.made.append(self)

    def unregister(self) -> None:
        self.listening = False


@pytest.fixture
def tf2(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with the signatures of `tf2_ros`, which comes with a distribution only."""
    module = ModuleType("tf2_ros")
    module.Buffer, module.TransformListener = Buffer, TransformListener  # type: ignore[attr-defined]
    TransformListener.made = []
    monkeypatch.setitem(sys.modules, "tf2_ros", module)


NODE: Any = SimpleNamespace()


@pytest.mark.usefixtures("tf2")
def test_a_known_transform_is_a_matrix() -> None:
    transforms = Transforms(NODE)
    moved = transforms.between("color", "depth") @ np.array([1.0, 0.0, 0.0, 1.0])
    np.testing.assert_allclose(moved, [0.1, 1.2, 0.3, 1.0], atol=1e-12)
    transforms.close()
    assert not TransformListener.made[0].listening


@pytest.mark.usefixtures("tf2")
def test_an_unknown_frame_is_named() -> None:
    with pytest.raises(InputError, match=r"depth\.header\.frame_id: is 'moon', the image's is 'color'.*tf_static"):
        Transforms(NODE).between("color", "moon")


def test_without_tf2_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    transforms = Transforms(NODE)
    with pytest.raises(InputError, match=r"tf2_ros is not installed.*registered"):
        transforms.between("color", "depth")
    transforms.close()


numbers = st.floats(-10, 10) | st.sampled_from([0.0, float("nan"), float("inf")])


@given(turn=st.tuples(numbers, numbers, numbers, numbers), move=st.tuples(numbers, numbers, numbers))
def test_a_transform_is_rigid_or_refused(turn: Any, move: Any) -> None:
    transform = Transform(
        rotation=Quaternion(**dict(zip("xyzw", turn, strict=True))),
        translation=Vector3(**dict(zip("xyz", move, strict=True))),
    )
    if not np.isfinite([*turn, *move]).all() or not np.linalg.norm(turn) > 0:
        with pytest.raises(InputError, match="transform"):
            matrix_of(transform)
        return
    matrix = matrix_of(transform)
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-9)
    assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1.0)
    assert matrix[:3, 3].tolist() == list(move)
