"""Posed bodies from what estimators publish: frames, precedence, parity with `smplx`, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ivlm_core.bodies import AnnyRig, Phenotype, varied_rig
from ivlm_core.bodies.build_anny import ANNY_TO_CANONICAL
from ivlm_core.bodies.posed import posed_body
from ivlm_core.bodies.smpl_family import _LAYOUTS
from ivlm_core.errors import InputError, IvlmError, MeshError

FACING = (np.pi, 0.0, 0.0)  # upright, towards the camera
BONES = 104


def anny_pose(seed: int = 0) -> np.ndarray:
    pose = np.random.default_rng(seed).normal(0, 0.3, (BONES, 3))
    pose[0] = FACING
    return pose


def head_and_feet(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels = AnnyRig.load().part_labels
    return vertices[labels == 0].mean(axis=0), vertices[labels >= 13].mean(axis=0)


def synthetic_smpl(name: str, shapes: int = 20) -> dict[str, np.ndarray]:
    """Arrays of a model file: real shapes, random geometry, every joint in use."""
    layout = _LAYOUTS[name]
    joints, vertices = len(layout.joints), layout.vertices
    random = np.random.default_rng(joints)
    owner = np.arange(vertices) % joints
    weights = np.zeros((vertices, joints))
    weights[np.arange(vertices), owner] = 1
    regressor = weights.T / weights.sum(axis=0)[:, None]
    body = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19]
    hands = [20] * 15 + [21] * 15
    parents = np.array(body + {"smpl": [20, 21], "smplh": hands, "smplx": [15, 15, 15, *hands]}[name])
    start = random.integers(0, vertices - 3, size=layout.faces)
    places = random.normal(0, 0.5, (joints, 3))
    return {
        "v_template": places[owner] + random.normal(0, 0.05, (vertices, 3)),
        "f": (start[:, None] + [0, 1, 2]).astype(np.uint32),
        "weights": weights,
        "J_regressor": regressor,
        "posedirs": np.zeros((vertices, 3, 9 * (joints - 1)), np.float32),
        "kintree_table": np.stack([parents.astype(np.uint32), np.arange(joints, dtype=np.uint32)]),
        "shapedirs": random.normal(0, 0.01, (vertices, 3, shapes)),
    }


@pytest.fixture(scope="module", params=["smpl", "smplh", "smplx"])
def smpl_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp(request.param) / "model.npz"
    np.savez(path, **synthetic_smpl(request.param))
    return request.param, path


def test_somebody_who_faces_the_camera_stands_upright_in_the_picture() -> None:
    pose = np.zeros((BONES, 3))
    pose[0] = FACING
    body = posed_body("anny", pose_parameters=pose.ravel(), translation=(0.3, 0.1, 3.0))
    head, feet = head_and_feet(body.vertices)
    assert feet[1] - head[1] > 1.3  # y is down
    nose = body.vertices[np.argmax(AnnyRig.load().vertices[:, 2] * (AnnyRig.load().part_labels == 0))]
    assert nose[2] < head[2]  # nearer to the camera than the middle of the head
    left_hand = body.vertices[AnnyRig.load().part_labels == 7].mean(axis=0)
    assert left_hand[0] > 0.3 + 0.3  # their left is the picture's right
    assert body.in_front
    assert body.source == "estimator"


def test_pose_is_that_of_the_rig_turned_and_moved() -> None:
    pose, shift = anny_pose(), np.array([0.1, -0.2, 4.0])
    shape = {"height": 0.3, "gender": 1.0}
    rig = varied_rig(Phenotype(**shape))
    turns = Rotation.from_rotvec(pose).as_matrix()
    upright = rig.pose(dict(zip(rig.joint_names[1:], turns[1:], strict=True)))
    body = posed_body(
        "anny",
        pose_parameters=pose.ravel().astype(np.float32),
        shape_parameters=list(shape.values()),
        shape_parameter_names=list(shape),
        translation=shift,
        person_id="p7",
        score=0.25,
    )
    np.testing.assert_allclose(body.vertices, upright @ turns[0].T + shift, atol=2e-5)
    assert (body.person_id, body.score, body.body_model) == ("p7", 0.25, "anny")
    np.testing.assert_array_equal(body.faces, rig.faces)


def test_annys_own_axes_are_taken_in_as_documented() -> None:
    rng = np.random.default_rng(1)
    rig, turn = AnnyRig.load(), ANNY_TO_CANONICAL
    theirs = rng.normal(0, 0.3, (BONES, 3))
    root = Rotation.random(rng=1).as_matrix()  # from Anny's own z-up axes into the optical frame
    ours = theirs @ turn.T
    ours[0] = Rotation.from_matrix(root @ turn.T).as_rotvec()
    body = posed_body("anny", pose_parameters=ours)
    canonical = rig.pose(
        {
            name: turn @ Rotation.from_rotvec(vector).as_matrix() @ turn.T
            for name, vector in zip(rig.joint_names[1:], theirs[1:], strict=True)
        }
    )
    in_annys_axes = canonical @ turn
    np.testing.assert_allclose(body.vertices, in_annys_axes @ root.T, atol=2e-5)


def test_vertices_win_over_parameters() -> None:
    vertices = AnnyRig.load().vertices + np.array([0, 0, 3], np.float32)
    body = posed_body(
        "anny",
        pose_parameters=anny_pose().ravel(),
        vertices=vertices.ravel(),
        translation=(9, 9, 9),
        shape_parameters=[np.pi],
    )
    np.testing.assert_array_equal(body.vertices, vertices)


def test_topology_hash_is_checked_with_vertices_and_without() -> None:
    rig = AnnyRig.load()
    vertices = rig.vertices + np.array([0, 0, 3], np.float32)
    own = rig.star_mesh.topology_hash
    assert len(posed_body("anny", vertices=vertices, topology_hash=own).vertices) == len(vertices)
    assert len(posed_body("anny", pose_parameters=anny_pose(), topology_hash=own).vertices) == len(vertices)
    for fields in ({"vertices": vertices}, {"pose_parameters": anny_pose()}):
        with pytest.raises(InputError, match=f"'0123456789abcdef' is unknown.*{own}") as caught:
            posed_body("anny", topology_hash="0123456789abcdef", **fields)
        assert caught.value.field == "body.topology_hash"


def test_smpl_family_equals_the_classes_of_smplx(smpl_file: tuple[str, Path]) -> None:
    import torch
    from smplx.lbs import lbs

    name, path = smpl_file
    arrays = synthetic_smpl(name)
    random = np.random.default_rng(3)
    joints = len(_LAYOUTS[name].joints)
    pose, betas, shift = random.normal(0, 0.4, (joints, 3)), random.normal(0, 1, 7), np.array([0.1, 0.2, 3.0])
    body = posed_body(name, pose_parameters=pose, shape_parameters=betas, translation=shift, body_path=path)
    parents = arrays["kintree_table"][0].astype(np.int64)
    parents[0] = -1
    expected, _ = lbs(
        torch.tensor(betas)[None],
        torch.tensor(pose.reshape(1, -1)),
        torch.tensor(arrays["v_template"]),
        torch.tensor(arrays["shapedirs"][:, :, :7]),
        torch.tensor(arrays["posedirs"].reshape(-1, 9 * (joints - 1)).T.astype(np.float64)),
        torch.tensor(arrays["J_regressor"]),
        torch.tensor(parents),
        torch.tensor(arrays["weights"]),
    )
    np.testing.assert_allclose(body.vertices, expected[0].numpy() + shift, atol=1e-5)
    np.testing.assert_array_equal(body.faces, arrays["f"])
    assert body.body_model == name


def test_expression_directions_are_not_betas(tmp_path: Path) -> None:
    path = tmp_path / "smplx.npz"
    np.savez(path, **synthetic_smpl("smplx", shapes=20))
    with pytest.raises(InputError, match=r"11 coefficients.*has 10 shape directions"):
        posed_body("smplx", pose_parameters=np.zeros(165), shape_parameters=np.ones(11), body_path=path)


def test_a_file_without_shapes_poses_the_mean_body_only(tmp_path: Path) -> None:
    path = tmp_path / "smpl.npz"
    np.savez(path, **{key: array for key, array in synthetic_smpl("smpl").items() if key != "shapedirs"})
    assert len(posed_body("smpl", pose_parameters=np.zeros(72), body_path=path).vertices) == 6890
    with pytest.raises(InputError, match="convert the model's file again"):
        posed_body("smpl", pose_parameters=np.zeros(72), shape_parameters=[0.5], body_path=path)


@pytest.mark.parametrize("shapes", [np.full((6890, 3, 10), np.nan), np.zeros((6890, 10)), np.zeros((6890, 3, 600))])
def test_shapes_that_do_not_fit_are_named(tmp_path: Path, shapes: np.ndarray) -> None:
    path = tmp_path / "smpl.npz"
    np.savez(path, **(synthetic_smpl("smpl") | {"shapedirs": shapes}))
    with pytest.raises(MeshError, match=r"shapedirs.*(NaN|shape|larger)"):
        posed_body("smpl", pose_parameters=np.zeros(72), body_path=path)


def test_smpl_vertices_need_faces_or_the_file(smpl_file: tuple[str, Path]) -> None:
    name, path = smpl_file
    arrays = synthetic_smpl(name)
    vertices = arrays["v_template"] + [0, 0, 3]
    with pytest.raises(InputError, match="whose faces are not known here"):
        posed_body(name, vertices=vertices)
    by_file = posed_body(name, vertices=vertices, body_path=path)
    by_faces = posed_body(name, vertices=vertices, faces=arrays["f"])
    np.testing.assert_array_equal(by_file.faces, by_faces.faces)
    np.testing.assert_array_equal(by_file.vertices, by_faces.vertices)
    with pytest.raises(InputError, match="are not those of"):
        posed_body(name, vertices=vertices, faces=arrays["f"][::-1], body_path=path)
    with pytest.raises(InputError, match=r"body\.faces"):
        posed_body(name, vertices=vertices, faces=arrays["f"] + np.uint32(20000))


NAN_POSE = [*([0.0] * 311), float("nan")]
WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("human", {"pose_parameters": [0.0] * 312}, "body.body_model", "is unknown.*anny, smpl, smplh, smplx"),
    ("anny", {}, "body.pose_parameters", "both empty"),
    ("anny", {"pose_parameters": [0.0] * 311}, "body.pose_parameters", "has 311 numbers.*104 joints.*312"),
    ("anny", {"pose_parameters": NAN_POSE}, "body.pose_parameters", r"NaN or infinity \(number 311\)"),
    ("anny", {"pose_parameters": [90.0] * 312}, "body.pose_parameters", "radians"),
    ("anny", {"pose_parameters": ["a"] * 312}, "body.pose_parameters", "dtype"),
    ("anny", {"pose_parameters": [[0.0], [0.0, 1.0]]}, "body.pose_parameters", "ragged"),
    ("smplx", {"pose_parameters": [0.0] * 66}, "body.pose_parameters", "55 joints: give 165"),
    ("smplx", {"pose_parameters": [0.0] * 165}, "body.pose_parameters", "licensed"),
    ("smpl", {"pose_parameters": [0.0] * 72, "shape_parameter_names": ["a"]}, "body.shape_parameter_names", "counts"),
    ("anny", {"pose_parameters": [0.0] * 312, "translation": [0, 0]}, "body.translation", "2 numbers"),
    ("anny", {"pose_parameters": [0.0] * 312, "translation": [0, 0, np.inf]}, "body.translation", "infinity"),
    ("anny", {"vertices": np.zeros(13717 * 3)}, "body.vertices", "13717 vertices.*13718"),
    ("anny", {"vertices": np.zeros(13718 * 3 + 1)}, "body.vertices", "x, y, z"),
    ("anny", {"vertices": np.full(13718 * 3, np.nan)}, "body.vertices", "NaN"),
    ("anny", {"vertices": np.full(13718 * 3, 1e300)}, "body.vertices", "float32"),
    ("anny", {"vertices": np.broadcast_to(0.0, 9_000_000)}, "body.vertices", "at most"),
    ("anny", {"pose_parameters": [0.0] * 312, "person_id": "x" * 257}, "body.person_id", "257"),
    ("anny", {"pose_parameters": [0.0] * 312, "score": 1.5}, "body.score", "1.5"),
    ("anny", {"pose_parameters": [0.0] * 312, "score": float("nan")}, "body.score", "nan"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "fields", "field", "problem"), WRONG)
def test_what_is_wrong_is_named(model: str, fields: dict[str, Any], field: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        posed_body(model, **fields)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("names", "values", "field", "problem"),
    [
        (
            ["height", "strength"],
            [0.5, 0.5],
            "body.shape_parameter_names",
            "'strength' is unknown.*gender, age, muscle",
        ),
        (["height"], [1.2], "body.shape_parameters", "height is 1.2"),
        (["weight"], [-0.1], "body.shape_parameters", "weight is -0.1"),
        (["age"], [0.2], "body.shape_parameters", "age is 0.2.*adults"),
        (["height"], [0.5, 0.5], "body.shape_parameters", "2 numbers for 1 names"),
        ([], [0.5], "body.shape_parameters", "1 numbers for 0 names"),
        (["height", "height"], [0.5, 0.5], "body.shape_parameter_names", "twice"),
        (["height"], [float("nan")], "body.shape_parameters", "NaN"),
    ],
)
def test_phenotypes_that_do_not_exist(names: list[str], values: list[float], field: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        posed_body("anny", pose_parameters=anny_pose(), shape_parameters=values, shape_parameter_names=names)
    assert caught.value.field == field


numbers = st.lists(st.floats(width=32), max_size=8) | st.sampled_from([[0.0] * 312, [0.1] * 72, [0.0] * 41154])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["anny", "smpl", "smplx", "", "ANNY"]),
    numbers,
    numbers,
    st.lists(st.sampled_from(["height", "age", "x"]), max_size=3),
    numbers,
    numbers,
    st.text(max_size=16),
)
def test_any_message_gives_a_body_or_an_error_of_the_family(
    model: str, pose: list, shape: list, names: list, translation: list, vertices: list, topology: str
) -> None:
    try:
        body = posed_body(
            model,
            pose_parameters=pose,
            shape_parameters=shape,
            shape_parameter_names=names,
            translation=translation,
            vertices=vertices,
            topology_hash=topology,
        )
    except IvlmError:
        return
    assert body.body_model == "anny"
    assert np.isfinite(body.vertices).all()
