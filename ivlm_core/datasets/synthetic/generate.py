"""Making SynthHOI: one scene from its seed, and whole splits on several processes."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.bodies import AnnyRig
from ivlm_core.datasets.synthetic.camera import Viewpoint, framed
from ivlm_core.datasets.synthetic.contact import Touch, touches
from ivlm_core.datasets.synthetic.record import Box, ObjectRecord, SceneRecord
from ivlm_core.datasets.synthetic.renderer import SceneRenderer
from ivlm_core.datasets.synthetic.scene import PERSON, PlacedObject, Scene
from ivlm_core.datasets.synthetic.split import belongs, check_fresh_seed, check_split, scene_rng
from ivlm_core.datasets.synthetic.store import (
    MANIFEST,
    SCENES_PER_SHARD,
    Manifest,
    encode,
    read_manifest,
    shard_is_sound,
    with_shard,
    write_shard,
)
from ivlm_core.datasets.synthetic.surroundings import Surroundings
from ivlm_core.errors import ConfigError, DatasetError, IvlmError
from ivlm_core.objects import corresponding_vertices, library_shape
from ivlm_core.types import FloatArray

log = logging.getLogger("ivlm")

MAX_SCENES = 1_000_000
MAX_WORKERS = 256
# A picture in which the person, or a touched thing, can hardly be seen is taken again from elsewhere, this often.
CAMERA_TRIES = 4
MIN_PERSON_PIXELS = 2500
MIN_OBJECT_PIXELS = 24
# The composer gives up on things that a person cannot do; then another scene is drawn, this often.
COMPOSING_TRIES = 10
# Scenes that a worker makes at a time.
BATCH = 2
# Numerical libraries that would otherwise start a thread per core in every worker.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Progress = Callable[[int, int], None]


def generate_scene(seed: int, split: str, index: int) -> SceneRecord:
    """Scene `index` of a split: the same arguments always give the same record.

    Raises
    ------
    ConfigError : an unknown split, or a seed or index out of range.
    """
    rng = scene_rng(seed, split, index)
    scene = composed(rng, split)
    return photographed(scene, rng, split, index)


def fresh(split: str, seed: int, count: int) -> Iterator[SceneRecord]:
    """`count` scenes for evaluation, made as they are asked for.

    Raises
    ------
    ConfigError : at once, for the scenes that the shipped weights were trained on, or arguments out of range.
    """
    check_fresh_seed(split, seed)
    scene_rng(seed, split, 0)
    _check_count(count)
    return (generate_scene(seed, split, index) for index in range(count))


def photographed(scene: Scene, rng: np.random.Generator, split: str, index: int) -> SceneRecord:
    """A picture of a scene from a camera and in surroundings that are drawn, and all that is known about it."""
    renderer = SceneRenderer(scene, Surroundings.draw(rng))
    view = _viewpoint(scene, renderer, rng)
    render = renderer.render(view.camera, rng)
    person = render.box(PERSON)
    if person is None:
        raise DatasetError(f"scene {index}", "shows nobody", "this is a mistake in the interaction programs")
    camera = view.camera
    joints = np.zeros((0, 3), np.float32) if scene.joints is None else scene.joints
    found = touches(scene)
    return SceneRecord(
        index=index,
        split=split,
        name=scene.name,
        image=render.image,
        segments=render.segments,
        depth=render.depth,
        intrinsics=camera.intrinsics,
        camera_rotation=camera.rotation.astype(np.float32),
        camera_position=camera.position.astype(np.float32),
        azimuth=view.azimuth,
        phenotype=np.array(scene.phenotype, np.float32),
        rotations=_rotation_vectors(scene),
        translation=np.asarray(scene.translation, np.float32),
        joints=joints,
        joints_2d=camera.project(joints)[0].astype(np.float32),
        person_box=person,
        objects=tuple(
            _object_record(placed, touch, render.box(scene.object_id(number)))
            for number, (placed, touch) in enumerate(zip(scene.objects, found, strict=True))
        ),
    )


def generate(
    root: Path | str,
    split: str,
    count: int,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
    shard_scenes: int = SCENES_PER_SHARD,
) -> Manifest:
    """Write a split of `count` scenes into `root/split`, going on where an earlier run stopped.

    The files do not depend on `workers` nor on interruptions. A program that calls this must guard its own start
    (`if __name__ == "__main__":`), because workers are new Python processes.

    Parameters
    ----------
    progress : called with the number of scenes that exist and the number wanted, at the start and after every scene.

    Raises
    ------
    ConfigError : an unknown split, or a number out of range.
    DatasetError : the folder holds a split of another seed or version, or more scenes than wanted; the disk is full;
        a worker died. What was finished stays, and the next run goes on from there.
    """
    check_split(split)
    _check_count(count)
    scene_rng(seed, split, 0)
    if not 1 <= workers <= MAX_WORKERS:
        raise ConfigError("workers", f"is {workers}", f"give 1…{MAX_WORKERS}")
    folder = Path(root) / split
    manifest = _begun(folder, split, count, seed, shard_scenes)
    ends = {shard.first: shard.first + shard.scenes for shard in manifest.shards}
    missing = [
        first for first in range(0, count, shard_scenes) if ends.get(first, 0) < min(first + shard_scenes, count)
    ]
    done = count - sum(min(first + shard_scenes, count) - first for first in missing)
    if progress is not None:
        progress(done, count)
    if not missing:
        return manifest
    wanted = [(seed, split, index) for first in missing for index in range(first, min(first + shard_scenes, count))]
    with _pool(min(workers, len(wanted))) as pool:
        try:
            scenes = pool.map(_encoded, wanted, chunksize=BATCH)
            for first in missing:
                shard = []
                for scene in islice(scenes, min(first + shard_scenes, count) - first):
                    shard.append(scene)
                    done += 1
                    if progress is not None:
                        progress(done, count)
                manifest = with_shard(manifest, write_shard(folder, first // shard_scenes, shard))
                manifest.write(folder)
        except BrokenProcessPool as error:
            raise DatasetError(
                str(folder), "a worker process died, perhaps for want of memory", "run the same command again"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return manifest


def _begun(folder: Path, split: str, count: int, seed: int, shard_scenes: int) -> Manifest:
    """The manifest to go on from: shards that are finished and sound stay, a part-filled last one is made anew."""
    fresh_one = Manifest(split, seed, count, shard_scenes=shard_scenes, body_vertices=len(AnnyRig.load().part_labels))
    if not (folder / MANIFEST).exists():
        fresh_one.write(folder)
        return fresh_one
    found = read_manifest(folder)
    if (found.seed, found.shard_scenes) != (seed, shard_scenes):
        told = f"holds scenes of seed {found.seed} in shards of {found.shard_scenes}"
        raise DatasetError(str(folder), told, "choose another folder, or the same seed")
    if found.finished > count:
        raise DatasetError(
            str(folder), f"holds {found.finished} scenes already", f"ask for more than that, not {count}"
        )
    kept = []
    for shard in found.shards:
        if shard.scenes < min(shard_scenes, count - shard.first):
            continue
        if shard_is_sound(folder, shard):
            kept.append(shard)
        else:
            log.warning("%s is missing or corrupt and will be made anew", folder / shard.file)
    begun = replace(found, scenes=count, shards=tuple(kept))
    begun.write(folder)
    return begun


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes of one thread each; forked ones would inherit the locks of the ray caster's threads."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield pool
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _encoded(wanted: tuple[int, str, int]) -> dict[str, Any]:
    return encode(generate_scene(*wanted))


def composed(rng: np.random.Generator, split: str, **choice: Any) -> Scene:
    """A scene of a split; what `choice` says about it, as `compose` wants it, is settled, and the rest drawn."""
    from ivlm_core.datasets.synthetic.programs.compose import compose

    for attempt in range(COMPOSING_TRIES):
        try:
            scene = compose(rng, split, **choice)
            break
        except IvlmError:
            if attempt == COMPOSING_TRIES - 1:
                raise
    labels = [placed.label for placed in scene.objects]
    if not belongs(split, labels, labels[0]):
        raise DatasetError(f"split {split}", f"was given a scene of {', '.join(labels)}", "mend `compose`")
    return scene


def _viewpoint(scene: Scene, renderer: SceneRenderer, rng: np.random.Generator) -> Viewpoint:
    """The first camera of a few that sees the person and every touched thing; the best of them if none does."""
    best, best_share = None, -1.0
    for _ in range(CAMERA_TRIES):
        view = framed(scene, rng)
        seen = renderer.count_pixels(view.camera)
        shares = [seen.get(PERSON, 0) / MIN_PERSON_PIXELS]
        shares += [
            seen.get(scene.object_id(number), 0) / MIN_OBJECT_PIXELS
            for number, placed in enumerate(scene.objects)
            if placed.parts
        ]
        if min(shares) > best_share:
            best, best_share = view, min(shares)
        if best_share >= 1:
            break
    assert best is not None
    return best


def _object_record(placed: PlacedObject, touch: Touch, box: Box | None) -> ObjectRecord:
    return ObjectRecord(
        label=placed.label,
        mode=placed.mode,
        sizes=dict(placed.shape.sizes),
        rotation=placed.rotation.astype(np.float32),
        translation=np.asarray(placed.translation, np.float32),
        box=box,
        body_contact=touch.body,
        object_contact=touch.object,
        library_contact=on_library(placed, touch.object),
        depth=touch.depth,
    )


def on_library(placed: PlacedObject, contact: NDArray[np.bool_]) -> FloatArray:
    """(N_library,) float32: contact on an instance's vertices, carried to the library's default mesh of its label.

    A vertex of the library is touched if the vertex that corresponds to it is, and if it corresponds to one that is:
    where the meshes differ in fineness, either alone would lose places.
    """
    default = library_shape(placed.label)
    if not contact.any():
        return np.zeros(len(default.mesh.vertices), np.float32)
    own = corresponding_vertices(placed.shape, default)
    carried = contact[own].astype(np.float32)
    if not np.array_equal(own, np.arange(len(contact))):
        carried[corresponding_vertices(default, placed.shape)[contact]] = 1.0
    return carried


@lru_cache(maxsize=1)
def _bones() -> dict[str, int]:
    return {name: bone for bone, name in enumerate(AnnyRig.load().joint_names)}


def _rotation_vectors(scene: Scene) -> FloatArray:
    """(B, 3) rotation vectors in the order of the rig's bones; zero for bones that are not turned."""
    from scipy.spatial.transform import Rotation

    bones = _bones()
    vectors = np.zeros((len(bones), 3), np.float32)
    if scene.rotations:
        rows = [bones[name] for name in scene.rotations]
        vectors[rows] = Rotation.from_matrix(np.stack(list(scene.rotations.values()))).as_rotvec()
    return vectors


def _check_count(count: int) -> None:
    if not 1 <= count <= MAX_SCENES:
        raise ConfigError("count", f"is {count}", f"give 1…{MAX_SCENES}")
