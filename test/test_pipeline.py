"""The whole core on one frame: order, shapes, caches, and what is refused."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from ivlm_core import CheckpointError, ConfigError, Frame, IvlmError, Mesh, MeshError, ObjectQuery, Pipeline
from ivlm_core.bodies import PART_NAMES, BodyModel, load_body
from ivlm_core.checkpoints import save_checkpoint
from ivlm_core.config import MODES, GenerationConfig, TokenConfig
from ivlm_core.datasets.synthetic import SAMPLE, SynthHoi
from ivlm_core.evaluate.metrics import contact_scores
from ivlm_core.localize.object_branch import ObjectBranch
from ivlm_core.objects import library_mesh
from ivlm_core.reason.tokenizer import SHIPPED_TOKENIZER

IMAGE = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
FRAME = Frame(IMAGE, stamp_ns=123, frame_id="camera_optical")


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def pipeline(cache_dir, seeded_model) -> Pipeline:
    return Pipeline.load(seeded_model, device="cpu", cache_dir=cache_dir)


def test_one_object_gives_contact_on_both_sides(pipeline):
    result = pipeline.run(FRAME, [ObjectQuery("chair", object_id="7", person_id="p")])
    (human,), (thing,) = result.human_contacts, result.object_affordances
    assert human.probability.shape == (len(human.mesh.vertices),) == (13718,)
    assert thing.probability.shape == (len(thing.mesh.vertices),)
    for contact in (human, thing):
        assert contact.probability.dtype == np.float32
        assert 0 <= contact.probability.min() < contact.probability.max() <= 1
        assert contact.object_label == "chair"
        assert contact.object_id == "7"
    assert human.person_id == "p"
    assert tuple(human.body_parts) == PART_NAMES
    assert human.answer.endswith("<HCON>")
    assert thing.answer.endswith("<OCON>")
    assert thing.affordance
    assert (result.stamp_ns, result.frame_id) == (123, "camera_optical")
    assert set(result.seconds) == {"total", "reason", "render", "localize", "lift"}


def test_a_digest_is_of_the_weights_and_not_of_their_files(pipeline, seeded_model, cache_dir, tmp_path):
    shutil.copytree(seeded_model, tmp_path / "copy")
    (tmp_path / "copy" / "model.safetensors").touch()
    copy = Pipeline.load(tmp_path / "copy", device="cpu", cache_dir=cache_dir)
    assert copy.weights_hash != pipeline.weights_hash
    assert copy.digest() == pipeline.digest()
    with torch.no_grad():
        next(copy._model.parameters()).add_(1e-3)
    assert copy.digest() != pipeline.digest()


def test_vertices_that_no_view_sees_have_no_contact(pipeline, monkeypatch):
    # The vertex branch knows them, MV-Loc does not.
    monkeypatch.setitem(pipeline._localizer._modules, "vertex_branch", None)
    human = pipeline.run(FRAME, [ObjectQuery("cup")]).human_contacts[0]
    assert (human.probability[~human.views.vertex_visible.any(axis=0)] == 0).all()


def test_the_branch_of_objects_speaks_about_the_meshes_that_it_has_learned_and_no_other(pipeline, monkeypatch):
    chair, couch = library_mesh("chair"), library_mesh("couch")
    branch = ObjectBranch(pipeline.profile.sam.prompt_dim, 2, {"chair": len(chair.vertices)})
    mean = np.linspace(0.1, 0.9, len(chair.vertices), dtype=np.float32)
    branch.head("chair").start_from(mean, np.zeros((2, len(mean)), np.float32))
    moved = Mesh(chair.vertices * np.float32(1.5), chair.faces)
    queries = [ObjectQuery("chair"), ObjectQuery("couch"), ObjectQuery("chair", mesh=moved)]
    monkeypatch.setattr(pipeline._localizer, "object_branch", None)
    before = pipeline.run(FRAME, queries).object_affordances
    monkeypatch.setattr(pipeline._localizer, "object_branch", branch.eval().to(pipeline.device))
    known, unknown, own = pipeline.run(FRAME, queries).object_affordances
    np.testing.assert_allclose(known.probability, mean, atol=1e-4)
    assert len(unknown.probability) == len(couch.vertices)
    np.testing.assert_allclose(unknown.probability, before[1].probability, atol=1e-6)
    np.testing.assert_allclose(own.probability, before[2].probability, atol=1e-6)
    assert np.abs(own.probability - mean).max() > 0.01


def test_order_is_kept_and_queries_do_not_mix(pipeline):
    labels = ["bottle", "chair", "space suit", "bottle"]
    together = pipeline.run(FRAME, [ObjectQuery(label, object_id=str(n)) for n, label in enumerate(labels)])
    assert [contact.object_id for contact in together.human_contacts] == ["0", "1", "2", "3"]
    assert [contact.object_label for contact in together.object_affordances] == labels
    for index, label in enumerate(labels):
        alone = pipeline.run(FRAME, [ObjectQuery(label)])
        np.testing.assert_allclose(
            alone.human_contacts[0].probability, together.human_contacts[index].probability, atol=1e-4
        )
        np.testing.assert_allclose(
            alone.object_affordances[0].probability, together.object_affordances[index].probability, atol=1e-4
        )


def test_one_query_given_twice_is_answered_twice(pipeline):
    query = ObjectQuery("chair")
    result = pipeline.run(FRAME, [query, query])
    assert (len(result.human_contacts), len(result.object_affordances)) == (2, 2)


def test_image_decides(pipeline):
    other = Frame(np.zeros_like(IMAGE))
    here, there = (pipeline.run(frame, [ObjectQuery("chair")]).human_contacts[0] for frame in (FRAME, other))
    assert not np.allclose(here.probability, there.probability)


def test_unknown_label_says_what_stands_in(pipeline):
    sources = [
        affordance.mesh_source
        for affordance in pipeline.run(FRAME, [ObjectQuery("chair"), ObjectQuery("space suit")]).object_affordances
    ]
    assert sources == ["library", "fallback"]


def test_same_seed_same_weights_same_answer(pipeline, cache_dir, seeded_model):
    again = Pipeline.load(seeded_model, device="cpu", cache_dir=cache_dir)
    assert again.weights_hash == pipeline.weights_hash
    first, second = (which.run(FRAME, [ObjectQuery("chair")]).human_contacts[0] for which in (pipeline, again))
    np.testing.assert_allclose(first.probability, second.probability, atol=1e-5)


def test_second_start_renders_and_encodes_nothing(pipeline, cache_dir, monkeypatch, seeded_model):
    pipeline.run(FRAME, [ObjectQuery("chair")])

    def never(*_: object) -> None:
        raise AssertionError("this should have come from the cache")

    monkeypatch.setattr("ivlm_core.render.view_pack.RayScene", never)
    monkeypatch.setattr("ivlm_core.localize.Localizer.encode_views", never)
    again = Pipeline.load(seeded_model, device="cpu", cache_dir=cache_dir)
    again.run(FRAME, [ObjectQuery("chair")])
    assert again.cache_hits == 4
    assert again.cache_misses == 0


def test_frames_touch_no_disk_once_warm(pipeline):
    pipeline.run(FRAME, [ObjectQuery("chair")])
    before = (pipeline.cache_hits, pipeline.cache_misses)
    pipeline.run(FRAME, [ObjectQuery("chair")])
    assert (pipeline.cache_hits, pipeline.cache_misses) == before


def test_no_objects_no_result(pipeline):
    result = pipeline.run(FRAME, [])
    assert (result.human_contacts, result.object_affordances, result.unanswered) == ((), (), ())


def test_model_that_never_says_the_contact_token(tmp_path, cache_dir, seeded_model):
    free = Pipeline.load(seeded_model, device="cpu", cache_dir=cache_dir)
    free._reasoner.profile = dataclasses.replace(free.profile, generation=GenerationConfig(max_new_tokens=3))
    result = free.run(FRAME, [ObjectQuery("chair", object_id="a")])
    assert (result.human_contacts, result.object_affordances) == ((), ())
    assert [(missing.side, missing.object_id) for missing in result.unanswered] == [("human", "a"), ("object", "a")]
    assert "no contact token" in result.unanswered[0].reason


def test_checkpoint_directory_is_the_model_it_was_saved_from(pipeline, tmp_path, cache_dir):
    save_checkpoint(tmp_path / "model", pipeline._model, pipeline.profile, SHIPPED_TOKENIZER)
    loaded = Pipeline.load(tmp_path / "model", device="cpu", cache_dir=cache_dir)
    again = Pipeline.load(tmp_path / "model", device="cpu", cache_dir=cache_dir)
    assert again.weights_hash == loaded.weights_hash
    half = Pipeline.load(tmp_path / "model", device="cpu", dtype="bfloat16", cache_dir=cache_dir)
    assert half.weights_hash != loaded.weights_hash
    first, second = (which.run(FRAME, [ObjectQuery("chair")]).human_contacts[0] for which in (pipeline, loaded))
    np.testing.assert_allclose(first.probability, second.probability, atol=1e-5)


def test_direct_reasoning_is_another_question(cache_dir, seeded_model):
    direct = Pipeline.load(seeded_model, device="cpu", cache_dir=cache_dir, reasoning="direct")
    human = direct.run(FRAME, [ObjectQuery("chair")]).human_contacts[0]
    assert human.answer == "It is <HCON>"


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_answers_its_own_side(cache_dir, mode, seeded_model):
    pipeline = Pipeline.load(seeded_model, device="cpu", cache_dir=cache_dir, mode=mode, reasoning="direct")
    result = pipeline.run(FRAME, [ObjectQuery("chair", object_id="a"), ObjectQuery("cup", object_id="b")])
    humans, things, pictures = len(result.human_contacts), len(result.object_affordances), len(result.image_contacts)
    expected = {
        "joint": (2, 2, 0),
        "human": (2, 0, 0),
        "binary": (1, 0, 0),
        "scene": (1, 0, 0),
        "affordance": (0, 2, 0),
        "object_contact": (0, 2, 0),
        "image": (0, 0, 2),
    }
    assert (humans, things, pictures) == expected[mode]
    if mode == "scene":
        assert result.human_contacts[0].object_label == "scene"
        assert pipeline.run(FRAME, []).human_contacts, "the scene needs no object"
    for picture in result.image_contacts:
        assert picture.probability.shape == IMAGE.shape[:2]
        assert picture.probability.dtype == np.float32
        assert 0 <= picture.probability.min() < picture.probability.max() <= 1


def test_binary_is_the_union_of_the_objects_at_every_threshold(cache_dir, seeded_model):
    queries = [ObjectQuery("chair"), ObjectQuery("cup"), ObjectQuery("ball")]
    each = Pipeline.load(seeded_model, device="cpu", cache_dir=cache_dir, mode="human").run(FRAME, queries)
    union = (
        Pipeline.load(seeded_model, device="cpu", cache_dir=cache_dir, mode="binary")
        .run(FRAME, queries)
        .human_contacts[0]
    )
    for threshold in (0.3, 0.5, 0.51):
        expected = np.any([contact.probability >= threshold for contact in each.human_contacts], axis=0)
        np.testing.assert_array_equal(union.probability >= threshold, expected)
    assert union.object_label == "any object"


def test_shipped_weights_know_the_shipped_scenes(cache_dir):
    shipped = Pipeline.load("tiny", device="cpu", dtype="float32", cache_dir=cache_dir, mode="human")
    assert not shipped.profile.generation.guided
    scores = []
    for record in SynthHoi(SAMPLE, "test"):
        queries = [ObjectQuery(item.label, object_id=str(place)) for place, item in enumerate(record.objects)]
        found = {item.object_id: item for item in shipped.run(Frame(record.image), queries).human_contacts}
        for place, item in enumerate(record.objects):
            if item.touched and str(place) in found:
                contact = found[str(place)].probability[None]
                scores.append(float(contact_scores(contact, item.body_contact[None]).f1[0]))
    assert len(scores) >= 16
    # Marking the category's mean contact gives about 0.6.
    assert np.mean(scores) > 0.65


@pytest.mark.parametrize("mode", ["scene", "image"])
def test_shipped_weights_refuse_what_they_were_not_taught(cache_dir, mode):
    with pytest.raises(ConfigError, match=f"mode: '{mode}' is not what tiny was trained for"):
        Pipeline.load("tiny", device="cpu", cache_dir=cache_dir, mode=mode)


def test_mode_the_model_was_not_trained_for(cache_dir, tmp_path, seeded_model):
    pipeline = Pipeline.load(seeded_model, device="cpu", cache_dir=cache_dir)
    only = dataclasses.replace(pipeline.profile, modes=("human",))
    save_checkpoint(tmp_path / "model", pipeline._model, only, SHIPPED_TOKENIZER)
    with pytest.raises(ConfigError, match=r"mode: 'joint' is not what tiny was trained for \(choose human\)"):
        Pipeline.load(tmp_path / "model", device="cpu", cache_dir=cache_dir)


def test_bfloat16_runs_and_agrees_roughly(pipeline, cache_dir, seeded_model):
    half = Pipeline.load(seeded_model, device="cpu", dtype="bfloat16", cache_dir=cache_dir, reasoning="direct")
    full = Pipeline.load(seeded_model, device="cpu", cache_dir=cache_dir, reasoning="direct")
    first, second = (which.run(FRAME, [ObjectQuery("chair")]).human_contacts[0] for which in (half, full))
    np.testing.assert_allclose(first.probability, second.probability, atol=0.05)


def test_int8_runs_and_agrees_roughly(cache_dir, seeded_model):
    small = Pipeline.load(seeded_model, device="cpu", quantize="int8", cache_dir=cache_dir, reasoning="direct")
    full = Pipeline.load(seeded_model, device="cpu", cache_dir=cache_dir, reasoning="direct")
    assert small.weights_hash != full.weights_hash
    first, second = (which.run(FRAME, [ObjectQuery("chair")]).human_contacts[0] for which in (small, full))
    np.testing.assert_allclose(first.probability, second.probability, atol=0.05)


def test_many_threads_get_their_own_answers(pipeline):
    queries = [ObjectQuery(label) for label in ("chair", "cup", "ball", "box")]
    expected = [pipeline.run(FRAME, [query]).human_contacts[0].probability for query in queries]
    found: dict[int, np.ndarray] = {}

    def ask(index: int) -> None:
        found[index] = pipeline.run(FRAME, [queries[index]]).human_contacts[0].probability

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(4):
        np.testing.assert_allclose(found[index], expected[index], atol=1e-5)


def test_own_mesh_and_missing_mesh(pipeline, tmp_path):
    tetrahedron = Mesh(np.eye(4)[:, :3], np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]))
    result = pipeline.run(FRAME, [ObjectQuery("thing", mesh=tetrahedron)])
    assert result.object_affordances[0].probability.shape == (4,)
    with pytest.raises(MeshError, match=r"none\.obj"):
        pipeline.run(FRAME, [ObjectQuery("thing", mesh=tmp_path / "none.obj")])
    assert pipeline.run(FRAME, [ObjectQuery("chair")]).human_contacts, "the pipeline lives on"


def test_too_many_objects(pipeline):
    with pytest.raises(ConfigError, match="at most 32"):
        pipeline.run(FRAME, [ObjectQuery("chair")] * 33)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"device": "tpu"}, "device"),
        ({"device": "mps"}, "device"),
        ({"dtype": "int4"}, "dtype"),
        ({"reasoning": "slow"}, "reasoning"),
        ({"model": "enormous"}, "model"),
        ({"body": "robot"}, "body"),
        ({"mode": "guess"}, "mode"),
        ({"quantize": "int2"}, "quantize"),
        ({"graphs": "always"}, "graphs"),
        ({"output_body": "robot"}, "output_body: "),
        ({"output_body": "smplx"}, "output_body_path: is missing"),
        ({"output_body": "anny", "output_body_path": Path("anny.npz")}, "output_body_path: is given"),
        ({"output_body_path": Path("smplx.npz")}, "output_body_path: is given without output_body"),
        ({"body_map_path": Path("map.npz")}, "body_map_path: is given without output_body"),
    ],
)
def test_parameter_out_of_range(arguments, named, cache_dir):
    with pytest.raises(ConfigError, match=named):
        Pipeline.load(cache_dir=cache_dir, **arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_absent_cuda_is_said(cache_dir, seeded_model):
    with pytest.raises(ConfigError, match="cuda is not there"):
        Pipeline.load(seeded_model, device="cuda", cache_dir=cache_dir)


def test_device_out_of_memory_is_one_clear_error(pipeline, monkeypatch):
    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("ivlm_core.reason.Reasoner.encode_image", full)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1 << 30, 8 << 30))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    with pytest.raises(IvlmError, match=r"out of memory at 1 objects with tiny \(1\.0 of 8\.0 GiB free\)") as raised:
        pipeline.run(FRAME, [ObjectQuery("chair")])
    for remedy in ("fewer objects", "smaller model", "bfloat16", "int8"):
        assert remedy in raised.value.remedy
    monkeypatch.undo()
    assert pipeline.run(FRAME, [ObjectQuery("chair")]).human_contacts, "the pipeline lives on"


def test_device_too_small_for_the_model_is_one_clear_error(cache_dir, monkeypatch, seeded_model):
    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("ivlm_core.pipeline.place", full)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1 << 30, 8 << 30))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    with pytest.raises(IvlmError, match=r"weights of tiny are loaded, 0\.0 GiB as float32 \(1\.0 of 8\.0") as raised:
        Pipeline.load(seeded_model, device="cpu", cache_dir=cache_dir)
    assert "int8" in raised.value.remedy


def test_weights_of_another_profile(pipeline, tmp_path):
    wider = dataclasses.replace(
        pipeline.profile, language=dataclasses.replace(pipeline.profile.language, intermediate_size=600)
    )
    save_checkpoint(tmp_path / "model", pipeline._model, wider, SHIPPED_TOKENIZER)
    with pytest.raises(CheckpointError, match=r"does not fit its profile: .*has shape \(512, 192\), not \(600, 192\)"):
        Pipeline.load(tmp_path / "model", device="cpu")


def test_checkpoint_whose_tokenizer_lacks_the_contact_tokens(pipeline, tmp_path):
    spelled = dataclasses.replace(pipeline.profile, tokens=TokenConfig("<TOUCH>"))
    save_checkpoint(tmp_path / "model", pipeline._model, spelled, SHIPPED_TOKENIZER)
    with pytest.raises(CheckpointError, match=r"has no token <TOUCH>"):
        Pipeline.load(tmp_path / "model", device="cpu")


def test_checkpoint_that_was_cut_short(pipeline, tmp_path):
    save_checkpoint(tmp_path / "model", pipeline._model, pipeline.profile, SHIPPED_TOKENIZER)
    path = tmp_path / "model" / "model.safetensors"
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size // 2)
    with pytest.raises(CheckpointError, match="is damaged"):
        Pipeline.load(tmp_path / "model", device="cpu")


def strip(vertices: int) -> Mesh:
    along = np.arange(vertices) / vertices
    points = np.stack([0.1 * (np.arange(vertices) % 2), along, np.zeros(vertices)], axis=1)
    return Mesh(points, np.arange(vertices - 2)[:, None] + np.arange(3))


@pytest.fixture
def other_body(monkeypatch) -> BodyModel:
    """A body of 300 vertices that goes by the name of smplx."""
    body = BodyModel.from_mesh("smplx", strip(300), np.arange(300) % len(PART_NAMES))
    monkeypatch.setattr("ivlm_core.pipeline.load_body", lambda name, path: load_body() if name == "anny" else body)
    return body


@pytest.mark.parametrize("mode", ["human", "binary"])
def test_contact_on_another_body_by_a_map_from_a_file(cache_dir, tmp_path, other_body, mode, seeded_model):
    rows = np.random.default_rng(1).integers(0, 13718, 300)
    matrix = np.zeros((300, 13718), dtype=np.float32)
    matrix[np.arange(300), rows] = 1
    np.savez(tmp_path / "map.npz", matrix=matrix)
    plain = Pipeline.load(seeded_model, "cpu", mode=mode, cache_dir=cache_dir)
    moved = Pipeline.load(
        seeded_model, "cpu", mode=mode, cache_dir=cache_dir, output_body="smplx", body_map_path=tmp_path / "map.npz"
    )
    queries = [ObjectQuery("chair"), ObjectQuery("cup")]
    before, after = (which.run(FRAME, queries).human_contacts for which in (plain, moved))
    for on_anny, on_other in zip(before, after, strict=True):
        np.testing.assert_allclose(on_other.probability, on_anny.probability[rows], atol=1e-5)
        assert on_other.body_model == "smplx"
        assert on_other.mesh is other_body.mesh is on_other.views.mesh
        assert on_other.body_parts == other_body.part_scores(on_other.probability)
    assert moved.body is other_body
    assert moved.run(FRAME, []).human_contacts == ()


def test_map_of_other_bodies_and_missing_files(cache_dir, tmp_path, other_body, seeded_model):
    np.savez(tmp_path / "map.npz", matrix=np.ones((300, 7)))
    for path in (tmp_path / "map.npz", tmp_path / "none.npz"):
        with pytest.raises(MeshError, match=r"body_map\.path"):
            Pipeline.load(seeded_model, "cpu", cache_dir=cache_dir, output_body="smplx", body_map_path=path)


def test_graphs_are_a_choice(cache_dir, seeded_model):
    assert Pipeline.load(seeded_model, "cpu", cache_dir=cache_dir, graphs="off")._reasoner.steps.mode == "off"
    assert Pipeline.load(seeded_model, "cpu", cache_dir=cache_dir)._reasoner.steps.mode == "auto"


# --- objects in the scene ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene() -> tuple[Frame, ObjectQuery, np.ndarray]:
    """A generated scene with its person's keypoints, its skateboard, and where that is in front of the camera."""
    from ivlm_core.evaluate.bodies import noisy_keypoints, true_body

    record = SynthHoi(SAMPLE, "test")[2]
    keypoints = noisy_keypoints(record, true_body(record)[1], np.random.default_rng(0))
    frame = Frame(record.image, record.intrinsics, keypoints=(keypoints,), frame_id="camera_optical")
    place = record.camera_rotation @ (record.objects[0].translation - record.camera_position)
    return frame, ObjectQuery("skateboard", object_id="b", mask=record.object_mask(0)), place


@pytest.fixture(scope="module")
def reconstructing(cache_dir) -> Pipeline:
    return Pipeline.load(device="cpu", cache_dir=cache_dir, reasoning="direct", reconstruct=True)


def test_an_object_is_put_where_it_is_and_followed(reconstructing, scene):
    frame, query, place = scene
    reconstructing.forget()
    first = reconstructing.run(frame, [query])
    (found,) = first.reconstructions
    assert found.pose_valid, found.reason
    assert np.linalg.norm(found.translation - place) < 0.25
    assert (found.object_label, found.object_id, found.state) == ("skateboard", "b", "cold")
    assert found.body is not None
    assert found.body.source == "keypoints"
    assert found.summary is not None
    # What is told about contact is what was answered, on the posed body and on the mesh that was put there.
    np.testing.assert_array_equal(found.body_contact, first.human_contacts[0].probability)
    assert found.mesh is first.object_affordances[0].mesh
    assert first.seconds["reconstruct"] > 0
    (again,) = reconstructing.run(dataclasses.replace(frame, stamp_ns=10**8), [query]).reconstructions
    assert again.state in ("kept", "refined")
    reconstructing.forget()
    (fresh,) = reconstructing.run(frame, [query]).reconstructions
    assert fresh.state == "cold"
    np.testing.assert_array_equal(fresh.translation, found.translation)


def test_poses_are_found_from_a_thread_that_keeps_no_gradients(reconstructing, scene):
    frame, query, _ = scene
    reconstructing.forget()
    with torch.no_grad():
        (found,) = reconstructing.run(frame, [query]).reconstructions
    assert found.pose_valid, found.reason


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"intrinsics": None}, "camera_info"),
        ({"keypoints": ()}, "no posed body"),
    ],
)
def test_what_is_missing_is_said_and_contact_is_answered_all_the_same(reconstructing, scene, change, told):
    frame, query, _ = scene
    reconstructing.forget()
    result = reconstructing.run(dataclasses.replace(frame, **change), [query])
    (found,) = result.reconstructions
    assert not found.pose_valid
    assert told in found.reason
    assert len(result.human_contacts) == 1


def test_an_object_keeps_its_mesh_as_long_as_it_has_its_name(reconstructing, scene, monkeypatch):
    frame, query, _ = scene
    reconstructing.forget()
    asked = []
    from ivlm_core import pipeline as module

    def find(*given):
        asked.append(given[0].object_id)
        return find_object(*given)

    find_object = module.find_object
    monkeypatch.setattr(module, "find_object", find)
    unnamed = dataclasses.replace(query, object_id="")
    for _ in range(2):
        reconstructing.run(frame, [query, unnamed])
    assert asked == ["b", "", ""]


def test_a_frame_that_is_not_followed_neither_uses_nor_changes_what_is_remembered(reconstructing, scene):
    frame, query, _ = scene
    reconstructing.forget()
    reconstructing.run(frame, [query])
    (alone,) = reconstructing.run(dataclasses.replace(frame, stamp_ns=10**12), [query], follow=False).reconstructions
    assert alone.state == "cold"
    (again,) = reconstructing.run(dataclasses.replace(frame, stamp_ns=10**8), [query]).reconstructions
    assert again.state in ("kept", "refined")


def test_settings_of_the_fit_are_used(cache_dir, scene):
    from ivlm_core.reconstruct import FitSettings, SceneSettings

    frame, query, _ = scene
    settings = SceneSettings(fit=FitSettings(starts=4, keep_trace=True), tracking=False)
    pipeline = Pipeline.load(device="cpu", cache_dir=cache_dir, reasoning="direct", reconstruct=settings)
    for _ in range(2):
        (found,) = pipeline.run(frame, [query]).reconstructions
        assert found.state == "cold"
        assert len(found.trace) > 10


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"mode": "image", "reconstruct": True}, "reconstruct"),
        ({"mode": "scene", "reconstruct": True}, "reconstruct"),
        ({"sam": Path("sam.pth")}, "sam"),
        ({"sam": Path("no.pth"), "reconstruct": True}, "no.pth"),
        ({"library": Path("no_library")}, "no_library"),
    ],
)
def test_a_wrong_wish_for_reconstruction_is_refused_at_load(cache_dir, given, field):
    with pytest.raises(IvlmError) as error:
        Pipeline.load(device="cpu", cache_dir=cache_dir, **given)
    assert field in str(error.value)
