from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import ivlm_core.datasets.synthetic
from ivlm_core.bodies import PART_NAMES, AnnyRig
from ivlm_core.datasets.synthetic import Scene, SceneCamera, SceneRecord, SynthHoi
from ivlm_core.datasets.synthetic.generate import fresh, generate, generate_scene, photographed
from ivlm_core.datasets.synthetic.programs.compose import compose
from ivlm_core.datasets.synthetic.record import FIRST_OBJECT_SEGMENT, FIRST_PART, HEIGHT, WIDTH
from ivlm_core.datasets.synthetic.split import TRAINING_SEED
from ivlm_core.errors import ConfigError, DatasetError
from ivlm_core.objects import library_shape

# The package's function of this name hides the module.
MODULE: ModuleType = sys.modules[f"{ivlm_core.datasets.synthetic.__name__}.generate"]


@lru_cache
def holding() -> Scene:
    return compose(np.random.default_rng(0), "test", "bottle", "left hand", "stand", ("handbag", "right hand"))


def record_of(index: int) -> SceneRecord:
    return replace(photograph(), index=index)


@lru_cache
def photograph() -> SceneRecord:
    return photographed(holding(), np.random.default_rng(1), "val", 0)


class ThisProcess:
    """An executor that works where it is called, lazily."""

    def map(self, function: Callable[[Any], Any], wanted: Iterable[Any], chunksize: int) -> Iterator[Any]:
        return map(function, wanted)

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        pass


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Scenes that cost nothing, made in this process; the list tells which were made."""
    asked: list[int] = []

    def made(seed: int, split: str, index: int) -> SceneRecord:
        asked.append(index)
        return record_of(index)

    @contextmanager
    def pool(workers: int) -> Iterator[ThisProcess]:
        yield ThisProcess()

    monkeypatch.setattr(MODULE, "generate_scene", made)
    monkeypatch.setattr(MODULE, "_pool", pool)
    return asked


def files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / "val").iterdir())}


def test_record_agrees_with_its_scene_and_camera() -> None:
    record, scene = photograph(), holding()
    assert record.image.shape == (HEIGHT, WIDTH, 3)
    assert abs(record.azimuth) <= 80
    camera = SceneCamera(record.intrinsics, record.camera_rotation, record.camera_position)
    pixels, _ = camera.project(record.joints)
    np.testing.assert_allclose(record.joints_2d, pixels, atol=0.05)
    # Every pixel of a body part lies, by its depth, on a vertex of that part.
    labels = AnnyRig.load().part_labels
    origin, directions = camera.rays()
    for part in ("head", "torso", "left thigh"):
        shown = record.segments == FIRST_PART + PART_NAMES.index(part)
        assert shown.sum() > 20
        points = (origin + record.depth[..., None] * directions)[shown]
        vertices = scene.body_vertices[labels == PART_NAMES.index(part)]
        nearest = np.linalg.norm(points[:, None] - vertices[None], axis=2).min(axis=1)
        assert np.percentile(nearest, 99) < 0.03
    for number, item in enumerate(record.objects):
        shown = record.segments == FIRST_OBJECT_SEGMENT + number
        assert (item.box is not None) == bool(shown.any())
        assert item.body_contact.sum() > 100
        assert len(item.object_contact) == len(library_shape(item.label, **item.sizes).mesh.vertices)
        assert len(item.library_contact) == len(library_shape(item.label).mesh.vertices)
        assert item.object_contact.any() == item.library_contact.any() == item.touched
    x_min, y_min, x_max, y_max = record.person_box
    outside = record.person_mask.copy()
    outside[int(y_min + 0.5) : int(y_max + 0.5), int(x_min + 0.5) : int(x_max + 0.5)] = False
    assert not outside.any()


def test_split_is_shards_and_a_manifest(tmp_path: Path, cheap: list[int]) -> None:
    told: list[tuple[int, int]] = []
    manifest = generate(
        tmp_path, "val", 5, seed=7, progress=lambda done, total: told.append((done, total)), shard_scenes=2
    )
    assert told == [(done, 5) for done in range(6)]
    assert [(shard.first, shard.scenes) for shard in manifest.shards] == [(0, 2), (2, 2), (4, 1)]
    assert list(files(tmp_path)) == ["manifest.json", "shard-00000.npz", "shard-00001.npz", "shard-00002.npz"]
    assert [record.index for record in SynthHoi(tmp_path, "val")] == list(range(5))


def test_interrupted_run_goes_on_and_gives_the_same_files(tmp_path: Path, cheap: list[int]) -> None:
    generate(tmp_path / "whole", "val", 5, shard_scenes=2)
    cheap.clear()

    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "parts", "val", 5, progress=interrupt, shard_scenes=2)
    with pytest.raises(DatasetError, match="has 2 of 5 scenes"):
        SynthHoi(tmp_path / "parts", "val")
    cheap.clear()
    generate(tmp_path / "parts", "val", 5, shard_scenes=2)
    assert cheap == [2, 3, 4]
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    cheap.clear()
    generate(tmp_path / "parts", "val", 5, shard_scenes=2)
    assert cheap == []


def test_longer_split_keeps_its_full_shards(tmp_path: Path, cheap: list[int]) -> None:
    generate(tmp_path / "grown", "val", 3, shard_scenes=2)
    generate(tmp_path / "whole", "val", 5, shard_scenes=2)
    cheap.clear()
    generate(tmp_path / "grown", "val", 5, shard_scenes=2)
    assert cheap == [2, 3, 4]
    assert files(tmp_path / "grown") == files(tmp_path / "whole")


def test_damaged_shard_is_made_anew(tmp_path: Path, cheap: list[int], caplog: pytest.LogCaptureFixture) -> None:
    generate(tmp_path, "val", 4, shard_scenes=2)
    before = files(tmp_path)
    (tmp_path / "val" / "shard-00000.npz").write_bytes(b"damaged")
    cheap.clear()
    generate(tmp_path, "val", 4, shard_scenes=2)
    assert cheap == [0, 1]
    assert "shard-00000.npz is missing or corrupt" in caplog.text
    assert files(tmp_path) == before


@pytest.mark.parametrize("changes", [{"seed": 1}, {"shard_scenes": 3}, {"count": 2}])
def test_other_split_in_the_folder_is_not_touched(tmp_path: Path, cheap: list[int], changes: dict[str, int]) -> None:
    wanted = {"count": 4, "seed": 0, "shard_scenes": 2}
    generate(tmp_path, "val", **wanted)
    before = files(tmp_path)
    with pytest.raises(DatasetError, match="holds"):
        generate(tmp_path, "val", **{**wanted, **changes})
    assert files(tmp_path) == before


@pytest.mark.parametrize("wrong", [{"count": 0}, {"workers": 0}, {"seed": -1}, {"split": "dev"}])
def test_numbers_out_of_range_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        generate(tmp_path, **{"split": "val", "count": 1, **wrong})
    assert not list(tmp_path.iterdir())


def test_training_scenes_are_refused_before_the_first_is_made() -> None:
    with pytest.raises(ConfigError, match="trained with"):
        fresh("train", TRAINING_SEED, 1)


def test_same_seed_same_record() -> None:
    first, again, other = generate_scene(4, "test", 2), generate_scene(4, "test", 2), generate_scene(4, "test", 3)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.joints, again.joints)
    for item, same in zip(first.objects, again.objects, strict=True):
        np.testing.assert_array_equal(item.body_contact, same.body_contact)
    assert not np.array_equal(first.image, other.image)
    assert next(fresh("test", 4, 1)).split == "test"


def test_number_of_workers_does_not_matter(tmp_path: Path) -> None:
    for workers in (1, 2):
        generate(tmp_path / str(workers), "val", 4, seed=11, workers=workers, shard_scenes=3)
    assert files(tmp_path / "1") == files(tmp_path / "2")
