"""The evaluation on SynthHOI: what the model is given, what is counted, and that no ground truth reaches an answer."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from ivlm_core import ConfigError, InputError, Pipeline
from ivlm_core.bodies import load_body
from ivlm_core.datasets.synthetic import SynthHoi
from ivlm_core.datasets.synthetic.record import ObjectRecord, SceneRecord
from ivlm_core.datasets.synthetic.split import TRAINING_SEED
from ivlm_core.datasets.synthetic.store import Manifest, encode, with_shard, write_shard
from ivlm_core.evaluate import body_surface
from ivlm_core.evaluate.answers import Answer, ModelAnswers, Picture, PriorAnswers, picture_of
from ivlm_core.evaluate.ceilings import MaskPath
from ivlm_core.evaluate.priors import fit_priors, gather
from ivlm_core.evaluate.synthhoi import BASELINES, CEILINGS, MODEL, Judge, Setup, check_setup, evaluate, judge_records
from ivlm_core.evaluate.synthhoi import report as report_of
from ivlm_core.objects import library_mesh
from ivlm_core.types import CameraIntrinsics

BODY = load_body()
HANDS = {"left hand": 7, "right hand": 8}


def record(index: int, *objects: tuple[str, str], split: str = "test") -> SceneRecord:
    """A made-up scene; (label, mode) of each object, the mode a hand or empty."""
    random = np.random.default_rng(index)

    def thing(label: str, mode: str) -> ObjectRecord:
        contact = np.zeros(len(BODY.part_labels), dtype=bool)
        if mode:
            hand = np.flatnonzero(BODY.part_labels == HANDS[mode])
            contact = body_surface().distance_to(np.isin(np.arange(len(contact)), random.choice(hand))) < 0.06
        mesh = library_mesh(label)
        library = (np.arange(len(mesh.vertices)) < 40).astype(np.float32) * bool(mode)
        return ObjectRecord(
            label, mode, {}, np.eye(3), np.zeros(3), (20.0, 30.0, 90.0, 120.0), contact, library > 0, library, 0.0
        )

    blank = np.zeros
    return SceneRecord(
        index=index,
        split=split,
        name="made up",
        image=random.integers(0, 255, (192, 256, 3)).astype(np.uint8),
        segments=blank((192, 256), np.uint8),
        depth=blank((192, 256), np.float32),
        intrinsics=CameraIntrinsics(300.0, 300.0, 127.5, 95.5, 256, 192),
        camera_rotation=np.eye(3),
        camera_position=blank(3),
        azimuth=20.0,
        phenotype=np.full(5, 0.67, np.float32),
        rotations=blank((104, 3)),
        translation=blank(3),
        joints=blank((104, 3)),
        joints_2d=blank((104, 2)),
        person_box=(0.0, 0.0, 256.0, 192.0),
        objects=tuple(thing(*item) for item in objects),
    )


RECORDS = [
    record(0, ("bottle", "left hand")),
    record(1, ("bottle", "right hand"), ("chair", "")),
    record(2, ("cup", "left hand"), ("bottle", "right hand")),
]


def noised(scene: SceneRecord) -> SceneRecord:
    """The same picture and detections with noise for ground truth."""
    random = np.random.default_rng(99)
    objects = tuple(
        dataclasses.replace(
            item,
            mode="noise",
            body_contact=random.random(len(item.body_contact)) > 0.5,
            object_contact=random.random(len(item.object_contact)) > 0.5,
            library_contact=random.random(len(item.library_contact)).astype(np.float32),
            rotation=random.random((3, 3)),
            translation=random.random(3),
            sizes={"noise": 1.0},
            depth=float(random.random()),
        )
        for item in scene.objects
    )
    arrays = ("segments", "depth", "camera_rotation", "camera_position", "phenotype", "rotations", "translation")
    noise = {
        name: random.random(getattr(scene, name).shape).astype(getattr(scene, name).dtype)
        for name in (*arrays, "joints", "joints_2d")
    }
    return dataclasses.replace(scene, objects=objects, azimuth=-70.0, name="noise", **noise)


@pytest.fixture(scope="module")
def model(seeded_model) -> ModelAnswers:
    return ModelAnswers(Pipeline.load(seeded_model, device="cpu", dtype="float32", reasoning="direct"))


def test_ground_truth_replaced_by_noise_leaves_every_answer_the_same_to_the_bit(model):
    priors = fit_priors(gather(RECORDS))
    judge = Judge({MODEL: model, "category_prior": PriorAnswers(priors)}, BODY)
    straight = report_of(judge_records(judge, RECORDS), "test")
    for scene in RECORDS:
        pair = [model(picture_of(scene)), model(picture_of(noised(scene)))]
        for one, two in zip(*pair, strict=True):
            assert one.body.tobytes() == two.body.tobytes()
            assert one.thing.tobytes() == two.thing.tobytes()
    noisy = report_of(judge_records(judge, [noised(scene) for scene in RECORDS]), "test")
    assert straight["answers_sha256"] == noisy["answers_sha256"]
    assert straight["semantic"]["f1"] != noisy["semantic"]["f1"]


def test_model_is_given_picture_labels_and_boxes_and_nothing_else():
    asked = []

    class Spy:
        body = BODY

        def forget(self):
            pass

        def run(self, frame, queries):
            asked.append((frame, queries))
            return SimpleNamespace(human_contacts=(), object_affordances=())

    answers = ModelAnswers(Spy())(picture_of(RECORDS[1]))
    (frame, queries), scene = asked[0], RECORDS[1]
    assert frame.image is scene.image
    assert frame.depth is None
    assert [query.label for query in queries] == ["bottle", "chair"]
    assert all(query.mesh is None and query.mask is None for query in queries)
    assert queries[0].box_xyxy == scene.objects[0].box
    assert [field.name for field in dataclasses.fields(Picture)] == ["image", "intrinsics", "objects"]
    assert all(not answer.given and not answer.body.any() for answer in answers)


class Perfect:
    """Answers with what it was told beforehand."""

    threshold = 0.5

    def __init__(self, records):
        self.known = {scene.image.tobytes(): scene for scene in records}

    def __call__(self, picture):
        scene = self.known[picture.image.tobytes()]
        return [Answer(item.body_contact.astype(np.float32), item.library_contact) for item in scene.objects]


def test_report_of_perfect_answers():
    priors = fit_priors(gather(RECORDS))
    judge = Judge({MODEL: Perfect(RECORDS), "category_prior": PriorAnswers(priors)}, BODY, priors)
    made = report_of(judge_records(judge, RECORDS), "test")
    assert made["scenes"] == 3
    assert made["binary"]["samples"] == 3
    assert made["semantic"]["samples"] == 4
    for block in (made["binary"], made["semantic"]):
        assert [block[name] for name in ("f1", "precision", "recall", "f1_area")] == pytest.approx([1] * 4)
        assert block["geodesic_cm"] == block["geodesic_reverse_cm"] == 0
    assert made["object"]["sim"] == pytest.approx(1)
    assert made["object"]["auc"] == pytest.approx(1)
    assert made["object"]["mae"] == 0
    assert made["wrong_hand_rate"] == 0
    assert made["hand_choice"]["only_right"] == 4
    assert made["untouched"] == {"samples": 1, "marked": 0.0}
    assert set(made["baselines"]) == set(BASELINES)
    assert made["baselines"]["deco_style"] is None
    prior = made["baselines"]["category_prior"]
    assert set(prior["semantic"]) == set(made["semantic"])
    assert prior["semantic"]["f1"] < 1
    json.dumps(made)


def test_unseen_split_judges_the_held_out_categories():
    judge = Judge({MODEL: Perfect(RECORDS)}, BODY)
    made = report_of(judge_records(judge, RECORDS), "unseen")
    assert set(made["semantic"]["per_category"]) == {"cup"}
    assert made["object"]["samples"] == 1
    assert made["binary"]["samples"] == 3


def test_ceilings_are_ordered():
    from ivlm_core.config import load_profile

    priors = fit_priors(gather(RECORDS))
    path = MaskPath.of(load_profile("tiny"), BODY.mesh)
    made = report_of(judge_records(Judge({}, BODY, priors, path), RECORDS), "test")["ceilings"]
    assert set(made) == set(CEILINGS)
    assert made["prior_through_masks"] < made["oracle_through_masks"] <= made["oracle"] + 0.05
    assert made["ground_truth_through_masks"] > 0.8


@pytest.mark.parametrize(
    ("setup", "field"),
    [
        (Setup(scenes=0), "scenes"),
        (Setup(split="nothing"), "split"),
        (Setup(seed=TRAINING_SEED), "seed"),
        (Setup(split="unseen", seed=TRAINING_SEED), "seed"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(setup, field):
    with pytest.raises(ConfigError) as caught:
        check_setup(setup)
    assert caught.value.field == field


def test_seeds_that_the_baselines_were_fitted_on_are_refused(tmp_path):
    fit_priors(gather(RECORDS), source={"seeds": [77]}).save(tmp_path / "priors.npz")
    with pytest.raises(ConfigError, match="77 is a training seed"):
        check_setup(Setup(seed=77, baselines=tmp_path))
    check_setup(Setup(seed=78, baselines=tmp_path))


def test_report_of_nothing_is_refused():
    with pytest.raises(InputError, match="scenes"):
        report_of([], "test")


@pytest.fixture
def stored(tmp_path):
    folder = tmp_path / "data" / "test"
    folder.mkdir(parents=True)
    shard = write_shard(folder, 0, [encode(scene) for scene in RECORDS])
    with_shard(Manifest("test", 5, len(RECORDS), body_vertices=len(BODY.part_labels)), shard).write(folder)
    return folder.parent


def test_stored_scenes_and_progress(stored, tmp_path):
    told = []
    setup = Setup(scenes=2, data=stored, device="cpu", baselines=tmp_path)
    made = evaluate(setup, workers=0, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    assert made["scenes"] == 2
    assert made["ceilings"] is None
    assert made["data"] == str(stored)
    assert len(SynthHoi(stored, "test")) == 3
    with pytest.raises(ConfigError, match="scenes: are 4 of 3"):
        evaluate(dataclasses.replace(setup, scenes=4), workers=0)
