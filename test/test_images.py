"""Pictures from outside are read as they look, or refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ivlm_core import InputError
from ivlm_core.images import load_image

PICTURE = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm"])
def test_lossless_formats_come_back(tmp_path, suffix):
    Image.fromarray(PICTURE).save(tmp_path / f"picture.{suffix}")
    np.testing.assert_array_equal(load_image(tmp_path / f"picture.{suffix}"), PICTURE)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16"])
def test_other_modes_become_rgb(tmp_path, mode):
    source = Image.fromarray(PICTURE).convert(mode if mode != "I;16" else "L")
    if mode == "I;16":
        source = Image.fromarray(np.asarray(source).astype(np.uint16) * 256)
    source.save(tmp_path / "picture.png")
    assert load_image(tmp_path / "picture.png").shape == (20, 30, 3)


def test_exif_orientation_is_honoured(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PICTURE).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(load_image(tmp_path / "turned.png"), np.rot90(PICTURE, -1))


def test_missing_picture(tmp_path):
    with pytest.raises(InputError, match=r"none\.jpg: does not exist"):
        load_image(tmp_path / "none.jpg")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n cut", b"%PDF-1.4"])
def test_no_picture(tmp_path, content):
    (tmp_path / "picture.png").write_bytes(content)
    with pytest.raises(InputError, match=r"picture\.png"):
        load_image(tmp_path / "picture.png")


def test_truncated_picture(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "picture.png")
    data = (tmp_path / "picture.png").read_bytes()
    (tmp_path / "picture.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cannot be read"):
        load_image(tmp_path / "picture.png")


def test_picture_larger_than_the_limit(tmp_path):
    Image.new("1", (8200, 2)).save(tmp_path / "wide.png")
    with pytest.raises(InputError, match="8200×2"):
        load_image(tmp_path / "wide.png")
