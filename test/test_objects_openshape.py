"""Files of precomputed embeddings: the three layouts give the same, and damaged ones are named."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ivlm_core.errors import ConfigError, DatasetError
from ivlm_core.objects import Embeddings, Entry, ObjectLibrary, library_mesh, openshape, search
from ivlm_core.objects.openshape import OpenShapeEmbedder, read_openshape

IDS = ["0a1b", "2c3d", "4e5f"]
LABELS = ["chair", "", "teapot"]
ROWS = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)


def _write(path: Path, ids: Any = IDS, labels: Any = LABELS, rows: np.ndarray = ROWS) -> Path:
    if path.suffix == ".npz":
        named = {} if labels is None else {"labels": np.array(labels)}
        np.savez(path, ids=np.array(ids), embeddings=rows, **named)  # type: ignore[arg-type]
    elif path.suffix == ".safetensors":
        from safetensors.numpy import save_file

        texts = {"ids": ids} if labels is None else {"ids": ids, "labels": labels}
        lines = {name: np.frombuffer("\n".join(text).encode(), np.uint8) for name, text in texts.items()}
        save_file({**lines, "embeddings": rows}, path)
    else:
        import torch

        torch.save({"us": list(ids), "feats": torch.from_numpy(rows).half()}, path)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_what_is_in_the_file_is_read(tmp_path: Path, suffix: str) -> None:
    read = read_openshape(_write(tmp_path / f"it{suffix}"))
    assert (read.ids, read.labels) == (tuple(IDS), tuple(LABELS))
    np.testing.assert_allclose(read.embeddings, ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True), atol=1e-6)
    assert read_openshape(_write(tmp_path / f"bare{suffix}", labels=None)).labels == ("", "", "")


def test_the_published_layout_is_read(tmp_path: Path) -> None:
    read = read_openshape(_write(tmp_path / "objaverse.pt"))
    assert (read.ids, read.labels) == (tuple(IDS), ("", "", ""))
    np.testing.assert_allclose(read.embeddings, ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True), atol=2e-3)


@pytest.mark.parametrize("told", [{"2c3d": "cup", "ffff": "x"}, {"cup": ["2c3d", "ffff"], "x": []}])
def test_labels_come_from_a_file_beside_it(tmp_path: Path, told: dict[str, Any]) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(told))
    read = read_openshape(_write(tmp_path / "it.npz"), tmp_path / "labels.json")
    assert read.labels == ("chair", "cup", "teapot")


def test_annotations_have_underscores(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(json.dumps({"coffee_table": ["2c3d"]}))
    assert read_openshape(_write(tmp_path / "it.npz"), tmp_path / "labels.json").labels[1] == "coffee table"


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 3}', '{"a": [3]}'])
def test_damaged_label_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(DatasetError):
        read_openshape(_write(tmp_path / "it.npz"), tmp_path / "labels.json")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ["a", "b", "a"]}, "'a' twice"),
        ({"ids": ["a", "b"], "labels": ["", ""]}, "shorter|fit together|damaged|cannot be read"),
        ({"rows": np.full((3, 16), np.nan, np.float32)}, "row 0 is zero, NaN or infinite"),
        ({"rows": np.ones((3, 5000), np.float32)}, "have shape"),
        ({"rows": np.ones(3, np.float32)}, "have shape"),
    ],
)
def test_rows_that_do_not_fit(tmp_path: Path, suffix: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_openshape(_write(tmp_path / f"it{suffix}", **change))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_damaged_and_missing_files(tmp_path: Path, suffix: str) -> None:
    path = _write(tmp_path / f"it{suffix}")
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"x" * 100):
        path.write_bytes(damaged)
        with pytest.raises(DatasetError, match=r"it\."):
            read_openshape(path)
    path.unlink()
    with pytest.raises(DatasetError, match="does not exist"):
        read_openshape(path)


def test_pickled_objects_are_not_opened(tmp_path: Path) -> None:
    import torch

    np.savez(tmp_path / "it.npz", ids=np.array([object()], dtype=object), embeddings=ROWS[:1])
    torch.save({"us": [Path("x")], "feats": torch.ones(1, 4)}, tmp_path / "it.pt")
    for path in tmp_path.iterdir():
        with pytest.raises(DatasetError, match="cannot be read"):
            read_openshape(path)


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"'\.pkl'"):
        read_openshape(tmp_path / "it.pkl")


def test_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openshape, "MAX_FILE_BYTES", 2000)
    small = tmp_path / "bomb.npz"
    with zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("embeddings.npy", b"\0" * 100_000)
    assert small.stat().st_size < 2000
    with pytest.raises(DatasetError, match="unpacks to 100000 bytes"):
        read_openshape(small)
    np.savez(tmp_path / "large.npz", ids=np.array(IDS), embeddings=np.ones((3, 400)))
    with pytest.raises(DatasetError, match="at most 2000 are read"):
        read_openshape(tmp_path / "large.npz")


class _Clip:
    """A CLIP model that sees the third shape whatever it is shown."""

    dimensions = 16

    def of_picture(self, image: np.ndarray, mask: Any, box: Any = None) -> np.ndarray:
        return ROWS[2] / np.linalg.norm(ROWS[2])


def test_a_picture_finds_the_shape(tmp_path: Path) -> None:
    read = read_openshape(_write(tmp_path / "it.npz"))
    entries = [Entry(name, label or "thing") for name, label in zip(read.ids, read.labels, strict=True)]
    library = ObjectLibrary(entries, {"openshape": Embeddings.of([row[None] for row in read.embeddings], 16)})
    embedder = OpenShapeEmbedder(_Clip())  # type: ignore[arg-type]
    vector = embedder.of_picture(np.zeros((4, 4, 3), np.uint8), None, (0, 0, 4, 4))
    hit = search(library, embedder.name, vector)[0]
    assert (hit.entry.id, hit.entry.label) == ("4e5f", "teapot")
    assert hit.score == pytest.approx(1.0, abs=1e-5)


def test_meshes_cannot_be_embedded() -> None:
    with pytest.raises(ConfigError, match="precomputed embeddings only"):
        OpenShapeEmbedder(_Clip()).of_mesh(library_mesh("chair"))  # type: ignore[arg-type]
