"""Pictures from files, checked before they are decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ivlm_core.errors import InputError
from ivlm_core.storage import file_size
from ivlm_core.types import MAX_IMAGE_SIDE, ByteArray

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")
MAX_IMAGE_BYTES = 256 << 20


def load_image(path: Path) -> ByteArray:
    """Read a picture as (H, W, 3) uint8 RGB, turned as its EXIF orientation says.

    Raises
    ------
    InputError : missing, no picture of a known format, damaged, or larger than 8192 pixels a side.
    """
    try:
        if file_size(path) > MAX_IMAGE_BYTES:
            raise InputError(f"image {path}", "is larger than 256 MB", "give a smaller picture")
        with Image.open(path, formats=FORMATS) as picture:
            if max(picture.size) > MAX_IMAGE_SIDE:
                raise InputError(
                    f"image {path}", f"is {picture.width}×{picture.height} px", f"at most {MAX_IMAGE_SIDE} a side"
                )
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except FileNotFoundError as error:
        raise InputError(f"image {path}", "does not exist", "give a picture's file") from error
    except UnidentifiedImageError as error:
        raise InputError(f"image {path}", "is not a picture", f"give one of {', '.join(FORMATS)}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"image {path}", f"cannot be read: {error}", "check the file") from error
