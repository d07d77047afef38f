"""Files from outside that are code, endless, enormous or elsewhere: one error each, in bounded time and memory."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ivlm_core.datasets import message_store
from ivlm_core.datasets.synthetic.store import SAMPLE
from ivlm_core.errors import IvlmError

# What a user may be given → the name of its file; how each is read stands in `hostile_reader.py`.
FILES = {
    "profile": "own.yaml",
    "profile of a checkpoint": "profile.yaml",
    "tokenizer": "tokenizer.json",
    "weights": "model.safetensors",
    "weights of torch": "pytorch_model.bin",
    "shard index": "model.safetensors.index.json",
    "checkpoint manifest": "manifest.json",
    "adapter": "adapter_config.json",
    "weights of SAM": "sam.pth",
    "body": "SMPLX_NEUTRAL.npz",
    "body map": "map.npz",
    "posed people": "people.npz",
    "mesh": "it.glb",
    "mesh of lines": "it.obj",
    "mesh of points": "it.ply",
    "mesh of triangles": "it.stl",
    "mesh of numbers": "it.off",
    "object library": "index.json",
    "embeddings": "shapes.npz",
    "embeddings in safetensors": "shapes.safetensors",
    "embeddings of torch": "shapes.pt",
    "picture": "it.png",
    "photograph": "it.jpg",
    "depth": "it.npy",
    "depth picture": "depth.png",
    "camera": "camera.yaml",
    "keypoints": "joints.json",
    "dataset": "manifest.json",
    "result": "result.json",
    "bag": "bag.mcap",
    "bag of SQLite": "bag.db3",
    "folder of a bag": "metadata.yaml",
    "bag to evaluate": "metadata.yaml",
    "bag to look at": "metadata.yaml",
}
# Ordinary files take a thousandth of this.
MOST_SECONDS, MOST_MEGABYTES = 15.0, 1500.0
LONGEST_ERROR = 1500


class Reader:
    """The program beside this file, which reads hostile files in processes of their own."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("hostile_reader.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parents[1])},
        )
        # (seconds, megabytes, what) of all that was read.
        self.costs: list[tuple[float, float, str]] = []

    def attempt(self, what: str, reader: str, path: Path) -> str:
        """The error's text, after checks on it; empty where the content was read as what it claims to be."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"reader": reader, "path": str(path)}) + "\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        what = f"{what} as {reader}"
        self.costs.append((told["seconds"], told["megabytes"], what))
        assert "fault" not in told, f"{what}: no IvlmError but {told['fault']}"
        assert told["seconds"] < MOST_SECONDS, f"{what}: took {told['seconds']:.0f} s"
        assert told["megabytes"] < MOST_MEGABYTES, f"{what}: took {told['megabytes']:.0f} MB"
        text = str(told.get("error", ""))
        assert len(text) <= LONGEST_ERROR, f"{what}: {len(text)} characters: {text[:300]}…"
        if text:
            target = os.path.realpath(path)
            named = any(name in text for name in (path.name, str(path.parent), target))
            assert named, f"{what}: {text} does not name {path.name}"
        return text

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Payload:
    """A pickle that makes a file when anything unpickles it."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.proof),)


def torch_zip(proof: Path) -> bytes:
    """What `torch.save` writes, with the payload for its state."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Payload(proof)))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return stream.getvalue()


def npy_header(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def ply_header(kind: str) -> bytes:
    places = "".join(f"property float {axis}\n" for axis in "xyz")
    faces = "element face 1000000000\nproperty list uchar int vertex_indices\n"
    return f"ply\nformat {kind} 1.0\nelement vertex 1000000000\n{places}{faces}end_header\n".encode()


def zip_of(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


NAMES = ("matrix", "embeddings", "ids", "v_template", "f", "smplx_joint_cam", "mesh", "image", "joint_3d")


def bomb() -> bytes:
    """Some kilobytes that unpack to gigabytes, under every name that a reader asks for."""
    gigabyte = npy_header((1 << 28,)) + bytes(1 << 30)
    small = zip_of({"one.npy": gigabyte})
    with zipfile.ZipFile(io.BytesIO(small)) as archive:
        about, packed = archive.infolist()[0], small[30 + len("one.npy") :][: archive.infolist()[0].compress_size]
    # The same packed bytes again and again: deflating one gigabyte is slow enough.
    stream = io.BytesIO()
    entries, places = [f"{name}.npy" for name in NAMES], []
    for name in entries:
        places.append(stream.tell())
        sizes = struct.pack("<IIIHH", about.CRC, len(packed), about.file_size, len(name), 0)
        stream.write(struct.pack("<4sHHHHH", b"PK\3\4", 20, 0, 8, 0, 0) + sizes + name.encode() + packed)
    start = stream.tell()
    for name, place in zip(entries, places, strict=True):
        sizes = struct.pack("<IIIHHHHHII", about.CRC, len(packed), about.file_size, len(name), 0, 0, 0, 0, 0, place)
        stream.write(struct.pack("<4sHHHHHH", b"PK\1\2", 20, 20, 0, 8, 0, 0) + sizes + name.encode())
    size = stream.tell() - start
    stream.write(struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, len(entries), len(entries), size, start, 0))
    return stream.getvalue()


# Nine levels of nine references each: 200 bytes that are half a billion words when anything writes them out.
LAUGHS = "a: &a [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n" + "".join(
    f"{chr(98 + level)}: &{chr(98 + level)} [{','.join(['*' + chr(97 + level)] * 9)}]\n" for level in range(8)
)
PYTHON_TAG = "!!python/object/apply:os.mkdir ['{proof}']\n"


@pytest.fixture(scope="session")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a payload makes when it runs."""
    return tmp_path_factory.mktemp("proof") / "ran"


@pytest.fixture(scope="session")
def hostile(proof: Path) -> dict[str, bytes]:
    """Name of the attack → content."""
    keys = ("name", "k", "d", "image_width", "image_height", "vision", "version", "model")
    laughs = LAUGHS + "".join(f"{key}: *i\n" for key in keys)
    metadata = f"{LAUGHS}rosbag2_bagfile_information:\n  relative_file_paths: *i\n  ros_distro: *i\n  version: *i\n"
    return {
        "empty": b"",
        "zeros": bytes(1 << 20),
        "noise": np.random.default_rng(0).bytes(1 << 16),
        "pickle": pickle.dumps(Payload(proof)),
        "pickle of protocol 0": pickle.dumps(Payload(proof), protocol=0),
        "torch archive with a payload": torch_zip(proof),
        "array of pickled objects": npy_header((1,), "|O") + pickle.dumps(Payload(proof)),
        "archive of pickled objects": zip_of(
            {f"{name}.npy": npy_header((1,), "|O") + pickle.dumps(Payload(proof)) for name in NAMES}
        ),
        "array of terabytes": npy_header((1 << 40,)),
        "array of negative size": npy_header((-5, 3)),
        "archive bomb": bomb(),
        "header of an exabyte": struct.pack("<Q", 1 << 60) + b"{}",
        "nested lists": b"[" * 200_000,
        "nested objects": b'{"a":' * 100_000,
        "nested blocks": b"- " * 5_000,
        "number of a million digits": b"1" * 1_000_000,
        "infinity": b'{"image_width": 1e999, "format": 1e999, "weight_map": NaN, "r": NaN}',
        "billion laughs": LAUGHS.encode(),
        "billion laughs in the metadata": metadata.encode(),
        "billion laughs under every key": laughs.encode(),
        "python tag": PYTHON_TAG.format(proof=proof).encode(),
        "not UTF-8": b"\xff\xfe\xfa" * 100,
        "byte order mark": b"\xef\xbb\xbf{}",
        "ten megabytes on one line": b'{"x":"' + b"y" * (10 << 20) + b'"}',
        "ply of a billion vertices": ply_header("binary_little_endian"),
        "ply of a billion lines": ply_header("ascii") + b"0 0 0\n",
        "stl of a billion triangles": bytes(80) + struct.pack("<I", 10**9) + bytes(50),
        "off of a billion vertices": b"OFF\n1000000000 1000000000 0\n0 0 0\n",
        "glb of four gigabytes": struct.pack("<4sII", b"glTF", 2, 2**32 - 1)
        + struct.pack("<II", 2**32 - 1, 0x4E4F534A),
        "png of a gigapixel": png_of(30_000, 30_000),
        "bmp of a gigapixel": b"BM"
        + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**31 - 1, 1, 1, 24, 0, 0, 0, 0, 0, 0),
    }


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims this size; its pixels are a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def program() -> Iterator[Reader]:
    """The reading program, shared by the tests of this module."""
    made = Reader()
    yield made
    made.close()


@pytest.mark.parametrize("reader", FILES)
def test_hostile_content_is_one_error_that_names_the_file(
    program: Reader, reader: str, hostile: dict[str, bytes], proof: Path, tmp_path: Path
) -> None:
    """Every attack on every file that this package reads: bombs, pickles, tags, lies about sizes, endless nesting."""
    refused = 0
    for number, (attack, content) in enumerate(hostile.items()):
        folder = tmp_path / f"attack{number}"
        folder.mkdir()
        (folder / FILES[reader]).write_bytes(content)
        refused += program.attempt(attack, reader, folder / FILES[reader]) != ""
        assert not proof.exists(), f"{attack} as {reader}: the payload ran"
    assert refused >= len(hostile) - 5


@pytest.mark.parametrize("reader", FILES)
def test_what_is_no_file_neither_blocks_nor_fills_the_memory(program: Reader, reader: str, tmp_path: Path) -> None:
    """A named pipe that nobody writes to, /dev/zero, a link to itself and a folder, in the place of every file."""
    makers: dict[str, Callable[[Path], object]] = {
        "pipe": os.mkfifo,
        "endless device": lambda path: path.symlink_to("/dev/zero"),
        "link to itself": lambda path: path.symlink_to(path),
        "folder": Path.mkdir,
    }
    for kind, make in makers.items():
        folder = tmp_path / kind.replace(" ", "_")
        folder.mkdir()
        make(folder / FILES[reader])
        text = program.attempt(kind, reader, folder / FILES[reader])
        # An optional file that is not there is no error.
        assert text or reader in ("adapter", "checkpoint manifest"), f"{kind} as {reader} was read"


def safetensors(header: dict[str, Any], data: bytes = b"", claimed: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text + data


def floats(shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


LYING_WEIGHTS = {
    "header longer than the file": safetensors({"a": floats([2], 0, 8)}, bytes(8), claimed=10_000),
    "header of an exabyte": safetensors({"a": floats([2], 0, 8)}, bytes(8), claimed=1 << 60),
    "offsets that overlap": safetensors({"a": floats([2], 0, 8), "b": floats([2], 4, 12)}, bytes(12)),
    "offsets that run backwards": safetensors({"a": floats([2], 8, 0)}, bytes(8)),
    "offsets behind the end": safetensors({"a": floats([2], 1 << 40, (1 << 40) + 8)}, bytes(8)),
    "shape of an exabyte": safetensors({"a": floats([1 << 30, 1 << 30], 0, 8)}, bytes(8)),
    "shape that overflows": safetensors({"a": floats([1 << 32, 1 << 32, 2], 0, 0)}),
    "shape of negative size": safetensors({"a": floats([-2], 0, 8)}, bytes(8)),
    "type that does not exist": safetensors({"a": {"dtype": "PYTHON", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "hole in the data": safetensors({"a": floats([1], 0, 4), "b": floats([1], 400, 404)}, bytes(404)),
    "a name of a megabyte": safetensors({"x" * (1 << 20): floats([2], 0, 4)}, bytes(4)),
    "no tensors but a list": struct.pack("<Q", 2) + b"[]",
}


@pytest.mark.parametrize("lie", LYING_WEIGHTS)
def test_malicious_weights_that_lie_about_themselves(program: Reader, lie: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(LYING_WEIGHTS[lie])
    assert "damaged" in program.attempt(lie, "weights", path)


@pytest.mark.parametrize("outside", ["../secret.safetensors", "/etc/passwd", "a/../../secret.safetensors", "..", "."])
def test_malicious_shard_index_cannot_leave_its_folder(program: Reader, outside: str, tmp_path: Path) -> None:
    (tmp_path / "secret.safetensors").write_bytes(safetensors({"a": floats([1], 0, 4)}, bytes(4)))
    path = tmp_path / "model" / "model.safetensors.index.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"weight_map": {"a": outside}}))
    text = program.attempt(outside, "shard index", path)
    assert "outside" in text or "missing" in text


# One weight of every part that the answer passes through.
WEIGHTS = (
    "reason.llava.model.vision_tower.pre_layrnorm.weight",
    "reason.llava.model.language_model.layers.2.input_layernorm.weight",
    "localize.image_encoder.blocks.1.norm1.bias",
    "localize.featlift.view_transforms.1.weight",
    "localize.decoders.human.mask_tokens.weight",
    "localize.decoders.object.transformer.norm_final_attn.bias",
    "localize.vertex_branch.gain",
)


@pytest.mark.parametrize("name", WEIGHTS)
def test_nan_in_the_weights_is_one_error_and_no_contact(seeded_model: Path, tmp_path: Path, name: str) -> None:
    """A single NaN makes NaN of the answer; published, it would look like a body that nothing touches."""
    from safetensors.torch import load_file, save_file

    from ivlm_core import Frame, ObjectQuery, Pipeline

    model = tmp_path / "model"
    shutil.copytree(seeded_model, model)
    weights = load_file(model / "model.safetensors")
    weights[name].view(-1)[0] = float("nan")
    save_file(weights, model / "model.safetensors")
    pipeline = Pipeline.load(model, cache_dir=tmp_path / "cache")
    with pytest.raises(IvlmError, match=r"NaN or infinite.*weights are damaged"):
        pipeline.run(Frame(np.zeros((48, 64, 3), np.uint8)), [ObjectQuery("chair")])


def dataset(folder: Path, file: str, data: bytes) -> None:
    """A split whose only shard is `file`, with the right checksum for `data`."""
    manifest = json.loads((SAMPLE / "test" / "manifest.json").read_text(encoding="utf-8"))
    shard = {**manifest["shards"][0], "file": file, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "shards": [shard]}))


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """The folder of a split."""
    (tmp_path / "test").mkdir()
    return tmp_path / "test"


@pytest.mark.parametrize("outside", ["/dev/zero", "../secret.npz", "/etc/passwd", "a/b.npz"])
def test_malicious_dataset_names_a_shard_outside_its_folder(program: Reader, outside: str, split: Path) -> None:
    dataset(split, outside, b"")
    text = program.attempt(outside, "scenes of a dataset", split / "shard.npz")
    assert "no file beside it" in text


@pytest.mark.parametrize("attack", ["archive bomb", "archive of pickled objects", "array of terabytes", "noise"])
def test_malicious_shard_with_the_right_checksum(
    program: Reader, attack: str, hostile: dict[str, bytes], proof: Path, split: Path
) -> None:
    (split / "shard.npz").write_bytes(hostile[attack])
    dataset(split, "shard.npz", hostile[attack])
    assert "shard.npz" in program.attempt(attack, "scenes of a dataset", split / "shard.npz")
    assert not proof.exists()


GIGABYTES = 1


@pytest.mark.parametrize("mode", ["file", "message"])
def test_malicious_bag_that_unpacks_to_gigabytes(
    program: Reader, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bag whose packed messages, or whose whole file, claim some kilobytes and are gigabytes."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.rosbag2.enums import CompressionFormat, CompressionMode

    writer = Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode[mode.upper()], CompressionFormat.ZSTD)
    with writer:
        topic = writer.add_connection("/text", "std_msgs/msg/String", typestore=message_store())
        for second in range(GIGABYTES if mode == "file" else 1):
            writer.write(topic, second, bytes(1 << 30))
    assert sum(path.stat().st_size for path in (tmp_path / "bag").iterdir()) < 10 << 20
    program.attempt(f"bomb by {mode}", "folder of a bag", tmp_path / "bag" / "metadata.yaml")
