from __future__ import annotations

import errno
import hashlib
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivlm_core.datasets.synthetic import SAMPLE, SynthHoi, generate_scene, read_manifest
from ivlm_core.datasets.synthetic.record import HEIGHT, WIDTH, ObjectRecord, SceneRecord
from ivlm_core.datasets.synthetic.store import Manifest, encode, shard_is_sound, with_shard, write_shard
from ivlm_core.errors import DatasetError
from ivlm_core.types import CameraIntrinsics

VERTICES, BONES = 500, 7
LABELS = ("chair", "cell phone", "Sitzsack ☂")


def made_object(rng: np.random.Generator) -> ObjectRecord:
    return ObjectRecord(
        label=str(rng.choice(LABELS)),
        mode=str(rng.choice(["", "left hand"])),
        sizes={"height": float(rng.uniform()), "width": 0.25},
        rotation=rng.normal(size=(3, 3)).astype(np.float32),
        translation=rng.normal(size=3).astype(np.float32),
        box=None if rng.random() < 0.3 else (1.5, 2.5, 30.5, 40.5),
        body_contact=rng.random(VERTICES) < rng.choice([0.0, 0.1]),
        object_contact=rng.random(int(rng.integers(1, 90))) < 0.4,
        library_contact=(rng.random(60) < 0.4).astype(np.float32),
        depth=float(np.float32(rng.uniform(0, 0.03))),
    )


def made_scene(index: int, objects: int = 2, split: str = "val") -> SceneRecord:
    rng = np.random.default_rng(index)
    smooth = np.linspace(0, 255, WIDTH)[None, :, None] * np.ones((HEIGHT, 1, 3))
    return SceneRecord(
        index=index,
        split=split,
        name=f"scene {index}",
        image=smooth.astype(np.uint8),
        segments=rng.integers(0, 19, (HEIGHT, WIDTH)).astype(np.uint8),
        depth=(rng.uniform(0.5, 9, (HEIGHT, WIDTH)) * (rng.random((HEIGHT, WIDTH)) < 0.9)).astype(np.float32),
        intrinsics=CameraIntrinsics(230.5, 231.5, 127.5, 95.5, WIDTH, HEIGHT),
        camera_rotation=np.eye(3, dtype=np.float32),
        camera_position=rng.normal(size=3).astype(np.float32),
        azimuth=float(np.float32(rng.uniform(-80, 80))),
        phenotype=rng.random(5).astype(np.float32),
        rotations=rng.normal(size=(BONES, 3)).astype(np.float32),
        translation=rng.normal(size=3).astype(np.float32),
        joints=rng.normal(size=(BONES, 3)).astype(np.float32),
        joints_2d=rng.normal(size=(BONES, 2)).astype(np.float32),
        person_box=(10.5, 20.5, 100.5, 180.5),
        objects=tuple(made_object(rng) for _ in range(objects)),
    )


def written(root: Path, shards: list[list[SceneRecord]], total: int | None = None) -> Path:
    folder = root / "val"
    count = sum(map(len, shards))
    manifest = Manifest("val", 3, total or count, shard_scenes=len(shards[0]), body_vertices=VERTICES)
    for number, scenes in enumerate(shards):
        manifest = with_shard(manifest, write_shard(folder, number, [encode(scene) for scene in scenes]))
    manifest.write(folder)
    return folder


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthhoi")
    written(root, [[made_scene(0), made_scene(1, objects=0), made_scene(2, objects=1)], [made_scene(3)]])
    return root


@pytest.fixture
def copy(stored: Path, tmp_path: Path) -> Path:
    shutil.copytree(stored, tmp_path, dirs_exist_ok=True)
    return tmp_path


def assert_same(found: SceneRecord, scene: SceneRecord) -> None:
    for name in ("index", "split", "name", "intrinsics", "azimuth", "person_box"):
        assert getattr(found, name) == getattr(scene, name), name
    for name in ("segments", "camera_rotation", "camera_position", "phenotype", "rotations", "translation", "joints"):
        np.testing.assert_array_equal(getattr(found, name), getattr(scene, name), err_msg=name)
    np.testing.assert_array_equal(found.joints_2d, scene.joints_2d)
    np.testing.assert_allclose(found.depth, scene.depth, atol=0.51e-3)
    assert np.abs(found.image.astype(int) - scene.image).mean() < 2
    assert len(found.objects) == len(scene.objects)
    for item, other in zip(found.objects, scene.objects, strict=True):
        for name in ("label", "mode", "sizes", "box", "depth", "touched"):
            assert getattr(item, name) == getattr(other, name), name
        for name in ("rotation", "translation", "body_contact", "object_contact", "library_contact"):
            np.testing.assert_array_equal(getattr(item, name), getattr(other, name), err_msg=name)
            assert getattr(item, name).dtype == getattr(other, name).dtype


def test_what_is_read_is_what_was_written(stored: Path) -> None:
    data = SynthHoi(stored, "val")
    assert len(data) == 4
    expected = [made_scene(0), made_scene(1, objects=0), made_scene(2, objects=1), made_scene(3)]
    for found, scene in zip(data, expected, strict=True):
        assert_same(found, scene)
    assert_same(data[-1], expected[-1])
    assert data.objects(0) == tuple((item.label, item.mode) for item in expected[0].objects)
    with pytest.raises(IndexError):
        data[4]


@settings(max_examples=10, deadline=None)
@given(order=st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_order_and_memory_do_not_matter(stored: Path, order: list[int]) -> None:
    little, much = SynthHoi(stored, "val", shards_in_memory=1), SynthHoi(stored, "val", shards_in_memory=None)
    for index in order:
        np.testing.assert_array_equal(little[index].joints, much[index].joints)
        assert little[index].index == index


def test_reader_travels_to_another_process(stored: Path) -> None:
    data = pickle.loads(pickle.dumps(SynthHoi(stored, "val")))
    assert data[2].name == "scene 2"


def test_depth_can_be_left_out(stored: Path) -> None:
    assert SynthHoi(stored, "val", depth=False)[0].depth.size == 0


def test_files_are_plain(stored: Path) -> None:
    with np.load(stored / "val" / "shard-00000.npz", allow_pickle=False) as archive:
        assert all(not archive[name].dtype.hasobject for name in archive.files)
    told = json.loads((stored / "val" / "manifest.json").read_text())
    assert told["complete"] is True
    assert sum(sum(modes.values()) for modes in told["categories"].values()) == 5


def test_corrupt_shard_is_named(copy: Path) -> None:
    shard = copy / "val" / "shard-00001.npz"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    reader = SynthHoi(copy, "val")
    assert reader[0].index == 0
    with pytest.raises(DatasetError, match=r"shard-00001\.npz: is corrupt.*ivlm synth generate") as caught:
        reader[3]
    assert "--count 4 --seed 3" in str(caught.value)
    assert not shard_is_sound(copy / "val", reader.manifest.shards[1])
    assert shard_is_sound(copy / "val", reader.manifest.shards[0])


def test_missing_shard_is_named(copy: Path) -> None:
    (copy / "val" / "shard-00000.npz").unlink()
    with pytest.raises(DatasetError, match=r"shard-00000\.npz: is missing"):
        SynthHoi(copy, "val")[0]


def rewrite(folder: Path, number: int, arrays: dict[str, np.ndarray]) -> None:
    """Replace a shard by these arrays and make the manifest agree with it."""
    path = folder / f"shard-{number:05d}.npz"
    with path.open("wb") as stream:
        np.savez(stream, **arrays)
    told = json.loads((folder / "manifest.json").read_text())
    told["shards"][number]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(told))


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "shard-00000.npz") as archive:
        return {name: archive[name] for name in archive.files}


@pytest.mark.parametrize("field", ["joints", "body_contact", "label", "image", "object_offsets", "image_offsets"])
def test_missing_field_is_named(copy: Path, field: str) -> None:
    arrays = arrays_of(copy / "val")
    del arrays[field]
    rewrite(copy / "val", 0, arrays)
    with pytest.raises(DatasetError, match=f"lacks the field '{field}'"):
        SynthHoi(copy, "val")[0]


def test_damaged_picture_is_an_error(copy: Path) -> None:
    arrays = arrays_of(copy / "val")
    arrays["segments"] = np.zeros_like(arrays["segments"])
    rewrite(copy / "val", 0, arrays)
    with pytest.raises(DatasetError, match="the segments of scene 0 cannot be decoded"):
        SynthHoi(copy, "val")[0]


def test_pickled_objects_are_refused(copy: Path) -> None:
    arrays = arrays_of(copy / "val")
    arrays["label"] = np.array([{"not": "text"}] * len(arrays["label"]), dtype=object)
    rewrite(copy / "val", 0, arrays)
    with pytest.raises(DatasetError, match="is corrupt"):
        SynthHoi(copy, "val")[0]


@pytest.mark.parametrize("version", ["generator_version", "contact_version"])
def test_other_version_is_refused(copy: Path, version: str) -> None:
    path = copy / "val" / "manifest.json"
    told = json.loads(path.read_text())
    told[version] += 1
    path.write_text(json.dumps(told))
    with pytest.raises(
        DatasetError, match=f"{version.replace('_', ' ')} {told[version]}, this is .* {told[version] - 1}"
    ):
        SynthHoi(copy, "val")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "other"}'])
def test_damaged_manifest_is_refused(copy: Path, text: str) -> None:
    (copy / "val" / "manifest.json").write_text(text)
    with pytest.raises(DatasetError, match=r"manifest\.json: is damaged"):
        SynthHoi(copy, "val")


def test_manifest_without_a_field_is_refused(copy: Path) -> None:
    path = copy / "val" / "manifest.json"
    told = json.loads(path.read_text())
    del told["seed"]
    path.write_text(json.dumps(told))
    with pytest.raises(DatasetError, match="lacks a field: 'seed'"):
        SynthHoi(copy, "val")


def test_missing_split_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"ivlm synth generate .* --split test"):
        SynthHoi(tmp_path, "test")


def test_unfinished_split_is_refused_unless_asked_for(tmp_path: Path) -> None:
    written(tmp_path, [[made_scene(0)]], total=9)
    with pytest.raises(DatasetError, match=r"has 1 of 9 scenes.*--count 9"):
        SynthHoi(tmp_path, "val")
    assert len(SynthHoi(tmp_path, "val", partial=True)) == 1


@pytest.mark.parametrize(("number", "told"), [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "cannot be written")])
def test_disk_that_refuses_leaves_finished_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str
) -> None:
    folder = written(tmp_path, [[made_scene(0)]], total=2)

    def refuse(self: Path, data: bytes) -> int:
        raise OSError(number, "no")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(DatasetError, match=f"{told}.*finished shards are kept"):
        write_shard(folder, 1, [encode(made_scene(1))])
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "shard-00000.npz"]
    assert SynthHoi(tmp_path, "val", partial=True)[0].index == 0


def test_manifest_is_read_as_it_was_written(stored: Path) -> None:
    manifest = read_manifest(stored / "val")
    assert (manifest.finished, manifest.seed, manifest.split) == (4, 3, "val")
    assert with_shard(replace(manifest, shards=manifest.shards[1:]), manifest.shards[0]) == manifest


def test_sample_that_ships_can_be_read() -> None:
    """It also is what the generator makes now: when this fails, raise `GENERATOR_VERSION` and run `make assets`."""
    data = SynthHoi(SAMPLE, "test")
    assert len(data) == 16
    assert sum(path.stat().st_size for path in (SAMPLE / "test").iterdir()) < 600_000
    assert all(record.objects[0].touched for record in data)
    again = generate_scene(data.manifest.seed, "test", 3)
    np.testing.assert_allclose(again.joints, data[3].joints, atol=1e-4)
    assert [(item.label, item.mode) for item in again.objects] == list(data.objects(3))
    assert abs(again.azimuth - data[3].azimuth) < 1e-3
