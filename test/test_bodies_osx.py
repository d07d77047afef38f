"""OSX-style files: the virtual camera, the body under the real one, and files that are not to be trusted."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core.bodies.osx import OsxBody, load_osx
from ivlm_core.errors import InputError
from ivlm_core.types import CameraIntrinsics, PosedBody

REAL = CameraIntrinsics(fx=600.0, fy=610.0, cx=319.5, cy=239.5, width=640, height=480)
BOX = (250.0, 60.0, 210.0, 280.0)
VERTICES = {"smplx": 10475, "smpl": 6890}
FACES = {"smplx": 20908, "smpl": 13776}


def arrays(model: str = "smplx", people: int = 1, box: tuple[float, ...] = BOX) -> dict[str, np.ndarray]:
    """A cloud as large as a person, some 40 m in front of the virtual camera."""
    random = np.random.default_rng(0)
    count = VERTICES[model]
    cloud = random.uniform(-1, 1, (people, count, 3)) * [0.4, 0.8, 0.25] + [0.02, -0.05, 35.0]
    start = random.integers(0, count - 3, FACES[model])
    return {
        "smpl_vertices": cloud.astype(np.float32),
        "smpl_faces": start[:, None] + np.arange(3),
        "bbox_2": np.tile(np.array(box), (people, 1)),
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "osx_human2.npz"
    np.savez(path, **arrays())
    return path


def pixels(points: np.ndarray, camera: CameraIntrinsics) -> np.ndarray:
    points = points.astype(np.float64)
    return points[:, :2] / points[:, 2:] * [camera.fx, camera.fy] + [camera.cx, camera.cy]


def test_camera_is_the_released_one_with_pixels_at_their_centres(file: Path) -> None:
    person = load_osx(file)
    camera = person.camera(640, 480)
    assert (camera.fx, camera.fy) == pytest.approx((5000 / 192 * 210, 5000 / 256 * 280))
    # The middle of a box from 250 to 460 is the pixel edge 355, which lies between the centres 354 and 355.
    assert (camera.cx, camera.cy) == pytest.approx((354.5, 199.5))
    assert (camera.width, camera.height) == (640, 480)
    assert person.body.source == "file"
    np.testing.assert_array_equal(person.body.vertices, arrays()["smpl_vertices"][0])


@pytest.mark.parametrize(("model", "people"), [("smplx", 1), ("smpl", 3)])
def test_model_follows_from_the_vertices_and_people_are_counted(tmp_path: Path, model: str, people: int) -> None:
    path = tmp_path / "osx.npz"
    stored = arrays(model, people)
    np.savez(path, **stored)
    body = load_osx(path, person=people - 1, person_id="anna").body
    assert (body.body_model, body.person_id) == (model, "anna")
    np.testing.assert_array_equal(body.vertices, stored["smpl_vertices"][-1])
    with pytest.raises(InputError, match=f"has {people} people"):
        load_osx(path, person=people)


def test_arrays_of_one_person_may_come_without_the_first_axis(tmp_path: Path) -> None:
    path = tmp_path / "osx.npz"
    np.savez(path, **{key: array if key == "smpl_faces" else array[0] for key, array in arrays().items()})
    assert load_osx(path).box == BOX


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 400), st.floats(0, 250), st.floats(80, 300), st.floats(400, 1500), st.floats(400, 1500))
def test_pixels_stay_under_the_real_camera(x: float, y: float, width: float, fx: float, fy: float) -> None:
    person = OsxBody(_body(), (x, y, width, width / 0.75))
    real = CameraIntrinsics(fx, fy, 319.5, 239.5, 640, 480)
    placed = person.under(real)
    assert placed.in_front
    np.testing.assert_allclose(
        pixels(placed.vertices, real), pixels(person.body.vertices, person.camera(640, 480)), atol=0.02
    )


def _body() -> PosedBody:
    stored = arrays()
    return PosedBody(stored["smpl_vertices"][0], stored["smpl_faces"], "smplx", source="file")


def test_distance_is_that_of_a_person_of_this_size(file: Path) -> None:
    person = load_osx(file)
    placed = person.under(REAL).vertices.astype(np.float64)
    # By similar triangles, for the box's width: f / Z is the same under both cameras.
    expected = 35.0 * np.sqrt(REAL.fx * REAL.fy) / person.camera(640, 480).fx
    assert placed[:, 2].mean() == pytest.approx(expected, rel=0.02)
    # The relief along the viewing ray stays in metres, so the body is not squashed with the distance.
    axis = np.array([(354.5 - REAL.cx) / REAL.fx, (199.5 - REAL.cy) / REAL.fy, 1.0])
    axis /= np.linalg.norm(axis)
    depth = person.body.vertices[:, 2].astype(np.float64)
    np.testing.assert_allclose(placed @ axis - (placed @ axis).mean(), depth - depth.mean(), atol=1e-4)
    assert np.ptp(placed[:, 1]) == pytest.approx(np.ptp(person.body.vertices[:, 1]), rel=0.12)


def test_under_its_own_camera_nothing_changes(file: Path) -> None:
    person = load_osx(file)
    np.testing.assert_allclose(person.under(person.camera(640, 480)).vertices, person.body.vertices, atol=1e-4)


@pytest.mark.parametrize("change", [{"fx": 0.0}, {"fy": -600.0}, {"cx": float("nan")}, {"fx": 3.0, "fy": 3.0}])
def test_cameras_that_cannot_be(file: Path, change: dict[str, float]) -> None:
    values = {"fx": 600.0, "fy": 600.0, "cx": 319.5, "cy": 239.5, "width": 640, "height": 480} | change
    with pytest.raises(InputError, match="intrinsics"):
        load_osx(file).under(CameraIntrinsics(**values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("smpl_vertices", None, "is missing in .*osx"),
        ("bbox_2", None, "is missing"),
        ("smpl_vertices", np.zeros((1, 5, 3)), r"shape \(1, 5, 3\).*'smpl' or \(P, 10475, 3\) of 'smplx'"),
        ("smpl_vertices", np.full((1, 10475, 3), np.nan), "NaN"),
        ("smpl_vertices", np.full((1, 10475, 3), -1.0), "behind the camera"),
        ("smpl_vertices", np.full((1, 10475, 3), "x"), "dtype"),
        ("smpl_vertices", np.zeros((1, 10475, 3), complex), "dtype"),
        ("smpl_faces", np.zeros((7, 3), int), r"body\.faces"),
        ("smpl_faces", np.full((20908, 3), 10475), r"body\.faces.*10475|outside"),
        ("smpl_faces", np.zeros((20908, 3)), "dtype"),
        ("bbox_2", np.zeros((2, 4)), r"give \(1, 4\)"),
        ("bbox_2", np.zeros((1, 4)), "width > 0"),
        ("bbox_2", np.array([[0, 0, np.nan, 5]]), "width > 0"),
        ("bbox_2", np.array([[0, 0, 10, 1e9]]), "width > 0"),
        ("bbox_2", np.zeros((40000, 4)), "larger than it can be"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path: Path, key: str, value: Any, problem: str) -> None:
    stored = arrays() | {key: value}
    path = tmp_path / "osx.npz"
    np.savez(path, **{name: array for name, array in stored.items() if array is not None})
    with pytest.raises(InputError, match=problem):
        load_osx(path)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str, str]]:
            return open, (str(tmp_path / "exploded"), "w")

    path = tmp_path / "osx.npz"
    holder = np.empty((1, 10475, 3), dtype=object)
    holder[0, 0, 0] = Bomb()
    np.savez(path, **(arrays() | {"smpl_vertices": holder}))
    with pytest.raises(InputError, match="pickle"):
        load_osx(path)
    path.write_bytes(pickle.dumps({"smpl_vertices": Bomb()}))
    with pytest.raises(InputError, match="not a complete"):
        load_osx(path)
    assert not (tmp_path / "exploded").exists()


def test_damage_and_missing_files(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    cut = tmp_path / "cut.npz"
    cut.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="not a complete"):
        load_osx(cut)
    cut.write_bytes(content[:500] + bytes(2000) + content[2500:])
    with pytest.raises(InputError, match="damaged"):
        load_osx(cut)
    for missing in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(InputError, match="is not a file"):
            load_osx(missing)
