"""Generated scenes on disk: shards of plain NumPy archives, a manifest, and a reader."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.datasets.synthetic.contact import CONTACT_VERSION
from ivlm_core.datasets.synthetic.record import HEIGHT, WIDTH, ObjectRecord, SceneRecord
from ivlm_core.datasets.synthetic.split import GENERATOR_VERSION, check_split
from ivlm_core.errors import DatasetError, shown
from ivlm_core.storage import UNREADABLE, atomic_path, file_size
from ivlm_core.types import CameraIntrinsics

# Sixteen scenes of the split `test` that ship with the package.
SAMPLE = Path(__file__).parent / "data"

FORMAT = "synthhoi"
MANIFEST = "manifest.json"
SCENES_PER_SHARD = 250
# A shard has some 10 MB, packed or not.
MAX_SHARD_BYTES = 1 << 30
MAX_MANIFEST_BYTES = 64 << 20
JPEG_QUALITY = 93
# Depth is stored in whole millimetres; what is further away is stored as 0, nothing.
DEPTH_UNIT = 0.001
MAX_DEPTH = 30.0
BODY_MODEL = "anny"

Arrays = dict[str, NDArray[Any]]

# Per scene, one row each: array of the shard → its dtype.
_SCENE_FIELDS = {
    "index": np.int64,
    "name": np.str_,
    "intrinsics": np.float64,  # fx, fy, cx, cy
    "camera_rotation": np.float32,
    "camera_position": np.float32,
    "azimuth": np.float32,
    "phenotype": np.float32,
    "rotations": np.float32,
    "translation": np.float32,
    "joints": np.float32,
    "joints_2d": np.float32,
    "person_box": np.float32,
}
# Per scene, encoded pictures one after the other; `<name>_offsets` says where each begins.
_PICTURES = ("image", "segments", "depth")
# Per object, one row each; `object_offsets` says which belong to a scene.
_OBJECT_FIELDS = {
    "label": np.str_,
    "mode": np.str_,
    "object_rotation": np.float32,
    "object_translation": np.float32,
    "object_box": np.float32,  # NaN where nothing is seen
    "object_depth": np.float32,
    "contact_sizes": np.int32,  # vertices of the body, of the object's mesh, of the library's mesh
}
# Per object, JSON in UTF-8 one after the other, with `sizes_offsets`.
_SIZES = "sizes"
# Per object, indices of the vertices in contact one after the other, with `<name>_offsets`.
_CONTACTS = ("body_contact", "object_contact", "library_contact")


@dataclass(frozen=True)
class ShardEntry:
    """What the manifest says about one shard; `objects` counts its objects by label and mode."""

    file: str
    first: int
    scenes: int
    bytes: int
    sha256: str
    objects: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Manifest:
    """What a split on disk is and which of its shards are finished.

    Attributes
    ----------
    scenes : how many it has when it is complete. shards : the finished ones.
    """

    split: str
    seed: int
    scenes: int
    shards: tuple[ShardEntry, ...] = ()
    shard_scenes: int = SCENES_PER_SHARD
    body_vertices: int = 0
    format: str = FORMAT
    generator_version: int = GENERATOR_VERSION
    contact_version: int = CONTACT_VERSION
    body_model: str = BODY_MODEL
    image_size: tuple[int, int] = (WIDTH, HEIGHT)

    @property
    def finished(self) -> int:
        """Scenes in finished shards."""
        return sum(shard.scenes for shard in self.shards)

    @property
    def categories(self) -> dict[str, dict[str, int]]:
        """Label → mode → number of objects in the finished shards."""
        total: dict[str, Counter[str]] = {}
        for shard in self.shards:
            for label, modes in shard.objects.items():
                total.setdefault(label, Counter()).update(modes)
        return {label: dict(sorted(modes.items())) for label, modes in sorted(total.items())}

    def write(self, folder: Path) -> None:
        """Write it into `folder`, whole or not at all.

        Raises
        ------
        DatasetError : the disk refuses.
        """
        told = {**asdict(self), "complete": self.finished == self.scenes, "categories": self.categories}
        with _writing(folder), atomic_path(folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps(told, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a split's folder.

    Raises
    ------
    DatasetError : there is none, it is damaged, or another version of the generator or of the contact rule made it.
    """
    path = folder / MANIFEST
    try:
        if file_size(path) > MAX_MANIFEST_BYTES:
            raise ValueError(f"it has more than {MAX_MANIFEST_BYTES} bytes")
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["format"] != FORMAT:
            raise ValueError(f"its format is {told['format']!r}")
        versions = {name: int(told[name]) for name in ("generator_version", "contact_version")}
    except FileNotFoundError:
        raise DatasetError(str(path), "does not exist", f"generate it: {_command(folder)}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(
            str(path), f"is damaged: {shown(str(error) or repr(error), 300)}", "delete it and generate the split again"
        ) from error
    for name, ours in (("generator_version", GENERATOR_VERSION), ("contact_version", CONTACT_VERSION)):
        if versions[name] != ours:
            what = name.replace("_", " ")
            raise DatasetError(
                str(path),
                f"was made with {what} {versions[name]}, this is {what} {ours}",
                f"delete the folder, or choose another, and generate it again: {_command(folder)}",
            )
    try:
        shards = tuple(ShardEntry(**shard) for shard in told["shards"])
        for shard in shards:
            if PurePath(shard.file).name != shard.file:
                raise DatasetError(str(path), f"names {shown(shard.file)}, which is no file beside it", "delete it")
        known = {name: told[name] for name in Manifest.__dataclass_fields__ if name != "shards"}
        known["image_size"] = tuple(known["image_size"])
        return Manifest(**known, shards=shards)
    except (KeyError, TypeError) as error:
        raise DatasetError(str(path), f"lacks a field: {error}", "delete it and generate the split again") from error


def _command(folder: Path) -> str:
    return f"ivlm synth generate {folder.parent} --split {folder.name}"


def encode(record: SceneRecord) -> dict[str, Any]:
    """A record as what a shard stores of it: plain arrays, encoded pictures, indices of the vertices in contact."""
    import cv2

    camera = record.intrinsics
    millimetres = np.where(record.depth <= MAX_DEPTH, np.rint(record.depth / DEPTH_UNIT), 0).astype(np.uint16)
    stored: dict[str, Any] = {name: getattr(record, name) for name in _SCENE_FIELDS if name != "intrinsics"}
    stored["intrinsics"] = (camera.fx, camera.fy, camera.cx, camera.cy)
    pictures = {
        "image": (".jpg", record.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]),
        "segments": (".png", record.segments, [cv2.IMWRITE_PNG_COMPRESSION, 4]),
        "depth": (".png", millimetres, [cv2.IMWRITE_PNG_COMPRESSION, 4]),
    }
    for name, (kind, pixels, options) in pictures.items():
        stored[name] = cv2.imencode(kind, np.ascontiguousarray(pixels), options)[1].ravel()
    stored["objects"] = [
        {
            "label": item.label,
            "mode": item.mode,
            "sizes": np.frombuffer(json.dumps(dict(item.sizes), default=float).encode(), np.uint8),
            "object_rotation": item.rotation,
            "object_translation": item.translation,
            "object_box": item.box or (np.nan,) * 4,
            "object_depth": item.depth,
            "contact_sizes": [len(getattr(item, name)) for name in _CONTACTS],
            **{name: np.flatnonzero(getattr(item, name) > 0.5).astype(np.int32) for name in _CONTACTS},
        }
        for item in record.objects
    ]
    return stored


def write_shard(folder: Path, number: int, scenes: Sequence[Mapping[str, Any]]) -> ShardEntry:
    """Write encoded scenes as shard `number` of a split's folder, whole or not at all.

    Raises
    ------
    DatasetError : the disk is full or refuses.
    """
    objects = [item for scene in scenes for item in scene["objects"]]
    arrays: Arrays = {name: np.array([scene[name] for scene in scenes], kind) for name, kind in _SCENE_FIELDS.items()}
    for name in _PICTURES:
        arrays[name], arrays[f"{name}_offsets"] = _joined([scene[name] for scene in scenes], np.uint8)
    arrays["object_offsets"] = np.cumsum([0] + [len(scene["objects"]) for scene in scenes], dtype=np.int64)
    arrays |= {name: np.array([item[name] for item in objects], kind) for name, kind in _OBJECT_FIELDS.items()}
    arrays[_SIZES], arrays[f"{_SIZES}_offsets"] = _joined([item[_SIZES] for item in objects], np.uint8)
    for name in _CONTACTS:
        arrays[name], arrays[f"{name}_offsets"] = _joined([item[name] for item in objects], np.int32)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    data = buffer.getvalue()
    path = folder / f"shard-{number:05d}.npz"
    with _writing(folder), atomic_path(path) as temporary:
        temporary.write_bytes(data)
    counts: dict[str, Counter[str]] = {}
    for item in objects:
        counts.setdefault(item["label"], Counter())[item["mode"]] += 1
    told = {label: dict(modes) for label, modes in counts.items()}
    first = int(scenes[0]["index"])
    return ShardEntry(path.name, first, len(scenes), len(data), hashlib.sha256(data).hexdigest(), told)


def shard_is_sound(folder: Path, shard: ShardEntry) -> bool:
    """Whether a finished shard is still there, unchanged."""
    try:
        return hashlib.sha256((folder / shard.file).read_bytes()).hexdigest() == shard.sha256
    except OSError:
        return False


def _joined(pieces: Sequence[NDArray[Any]], kind: type) -> tuple[NDArray[Any], NDArray[np.int64]]:
    offsets = np.cumsum([0] + [len(piece) for piece in pieces], dtype=np.int64)
    return np.concatenate([*pieces, np.zeros(0, kind)]).astype(kind), offsets


class _writing:
    """Turns the disk's refusals into errors that say what is kept and how to go on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise DatasetError(
                str(self._folder),
                "the disk is full" if full else f"cannot be written: {error}",
                "finished shards are kept; make room and run the same command again"
                if full
                else "make it writable and run the same command again; finished shards are kept",
            ) from error


class SynthHoi:
    """Reads a generated split: `len(data)`, `data[i]` → `SceneRecord`, iteration. Safe to share between processes.

    Parameters
    ----------
    root : the dataset's folder, with one folder per split. split : train, val, test or unseen.
    depth : decode depth pictures; without, `SceneRecord.depth` is (0, 0).
    shards_in_memory : how many shards are kept after reading (250 scenes, about 10 MB each); None keeps all.
    partial : accept a split whose generation is not finished.

    Raises
    ------
    DatasetError : no such split, made by another version, or incomplete; when reading: a shard that is missing,
        corrupt or lacks a field.
    """

    def __init__(
        self,
        root: Path | str,
        split: str = "train",
        depth: bool = True,
        shards_in_memory: int | None = 8,
        partial: bool = False,
    ) -> None:
        self.folder = Path(root) / check_split(split)
        self.manifest = read_manifest(self.folder)
        if self.manifest.finished < self.manifest.scenes and not partial:
            told = f"has {self.manifest.finished} of {self.manifest.scenes} scenes"
            raise DatasetError(
                str(self.folder), told, f"finish it: {_command(self.folder)} --count {self.manifest.scenes}"
            )
        self._depth = depth
        self._limit = shards_in_memory
        self._kept: OrderedDict[int, Arrays] = OrderedDict()
        self._starts = np.cumsum([0] + [shard.scenes for shard in self.manifest.shards])

    def __len__(self) -> int:
        return self.manifest.finished

    def __iter__(self) -> Iterator[SceneRecord]:
        for index in range(len(self)):
            yield self[index]

    def __getitem__(self, index: int) -> SceneRecord:
        if not -len(self) <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        number, row = self._place(index % len(self))
        shard = self._shard(number)
        return self._checked(number, lambda: self._record(shard, row))

    def objects(self, index: int) -> tuple[tuple[str, str], ...]:
        """(label, mode) of the objects of a scene, without decoding its pictures."""
        number, row = self._place(index)
        shard = self._shard(number)
        rows = slice(*shard["object_offsets"][row : row + 2])
        return tuple(zip(shard["label"][rows].tolist(), shard["mode"][rows].tolist(), strict=True))

    def _place(self, index: int) -> tuple[int, int]:
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return number, index - int(self._starts[number])

    def _shard(self, number: int) -> Arrays:
        if number not in self._kept:
            self._kept[number] = self._checked(number, lambda: self._read(self.manifest.shards[number]))
            while self._limit is not None and len(self._kept) > max(1, self._limit):
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number]

    def _checked(self, number: int, read: Callable[[], Any]) -> Any:
        shard = self.manifest.shards[number]
        path = str(self.folder / shard.file)
        again = f"make it anew: {_command(self.folder)} --count {self.manifest.scenes} --seed {self.manifest.seed}"
        try:
            return read()
        except FileNotFoundError:
            raise DatasetError(path, "is missing", again) from None
        except KeyError as error:
            raise DatasetError(path, f"lacks the field {error}", again) from error
        except UNREADABLE as error:
            raise DatasetError(path, f"is corrupt: {error}", again) from error

    def _read(self, shard: ShardEntry) -> Arrays:
        path = self.folder / shard.file
        if file_size(path) > MAX_SHARD_BYTES:
            raise ValueError(f"it has more than {MAX_SHARD_BYTES} bytes")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != shard.sha256:
            raise ValueError("its checksum is not the manifest's")
        with zipfile.ZipFile(io.BytesIO(data)) as members:
            if sum(member.file_size for member in members.infolist()) > MAX_SHARD_BYTES:
                raise ValueError(f"it unpacks to more than {MAX_SHARD_BYTES} bytes")
        skipped = () if self._depth else ("depth",)
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if name not in skipped}
        for name in (*_SCENE_FIELDS, *_OBJECT_FIELDS, *_PICTURES, _SIZES, *_CONTACTS, "object_offsets"):
            if name not in arrays and name not in skipped:
                raise KeyError(name)
        return arrays

    def _record(self, shard: Arrays, row: int) -> SceneRecord:
        first, end = shard["object_offsets"][row : row + 2]
        fx, fy, cx, cy = shard["intrinsics"][row].tolist()
        depth = np.zeros((0, 0), np.float32)
        if self._depth:
            depth = (_decoded(shard, "depth", row).astype(np.float32) * np.float32(DEPTH_UNIT)).astype(np.float32)
        plain = {
            name: shard[name][row]
            for name in _SCENE_FIELDS
            if name not in ("index", "name", "intrinsics", "azimuth", "person_box")
        }
        return SceneRecord(
            index=int(shard["index"][row]),
            split=self.manifest.split,
            name=str(shard["name"][row]),
            image=np.ascontiguousarray(_decoded(shard, "image", row)[..., ::-1]),
            segments=_decoded(shard, "segments", row),
            depth=depth,
            intrinsics=CameraIntrinsics(fx, fy, cx, cy, *self.manifest.image_size),
            azimuth=float(shard["azimuth"][row]),
            person_box=tuple(shard["person_box"][row].tolist()),
            objects=tuple(_object(shard, number) for number in range(first, end)),
            **plain,
        )


def _object(shard: Arrays, number: int) -> ObjectRecord:
    box = shard["object_box"][number]
    masks = {}
    for name, size in zip(_CONTACTS, shard["contact_sizes"][number].tolist(), strict=True):
        masks[name] = np.zeros(size, dtype=np.bool_)
        begin, end = shard[f"{name}_offsets"][number : number + 2]
        masks[name][shard[name][begin:end]] = True
    return ObjectRecord(
        label=str(shard["label"][number]),
        mode=str(shard["mode"][number]),
        sizes=json.loads(shard[_SIZES][slice(*shard[f"{_SIZES}_offsets"][number : number + 2])].tobytes()),
        rotation=shard["object_rotation"][number],
        translation=shard["object_translation"][number],
        box=None if np.isnan(box).any() else tuple(box.tolist()),
        body_contact=masks["body_contact"],
        object_contact=masks["object_contact"],
        library_contact=masks["library_contact"].astype(np.float32),
        depth=float(shard["object_depth"][number]),
    )


def _decoded(shard: Arrays, name: str, row: int) -> NDArray[Any]:
    import cv2

    begin, end = shard[f"{name}_offsets"][row : row + 2]
    picture = cv2.imdecode(shard[name][begin:end], cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise ValueError(f"the {name} of scene {int(shard['index'][row])} cannot be decoded")
    return np.asarray(picture)


def with_shard(manifest: Manifest, shard: ShardEntry) -> Manifest:
    """The manifest with one more finished shard, in the order of the scenes."""
    return replace(manifest, shards=tuple(sorted((*manifest.shards, shard), key=lambda entry: entry.first)))
