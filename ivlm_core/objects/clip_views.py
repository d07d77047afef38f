"""CLIP as a source of embeddings: picture crops against renders of a mesh from several sides.

The model is a directory that the user has (`config.json`, weights, and for texts the tokenizer's files, as CLIP models
are published); nothing is downloaded. Crops and renders look alike: the object on white, in a square with a margin.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivlm_core.errors import CheckpointError, ConfigError, InputError, MeshError, shown
from ivlm_core.objects.embedding import Box, mask_box, unit_rows
from ivlm_core.storage import file_size
from ivlm_core.types import ByteArray, FloatArray, Mesh

# Azimuths at two heights, degrees: what a camera at a person's height sees, of things that stand and things in hands.
VIEWS = tuple((elevation, azimuth) for elevation in (10.0, 40.0) for azimuth in range(0, 360, 60))
DISTANCE = 2.2
MARGIN = 1.1
GREY = 0.75
# Renders are this much larger than the model's pictures: one ray per pixel would tear spokes and rods to pieces.
OVERSAMPLING = 3
MAX_CONFIG_BYTES = 1 << 20
# What CLIP's pictures are normalised with where its directory does not say.
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class ClipEmbedder:
    """CLIP's picture and text towers behind the interface of `Embedder` and `TextEmbedder`.

    Parameters
    ----------
    directory : a CLIP model in the layout of `transformers`, weights as safetensors or as a plain torch file.
    device : where it runs.

    Raises
    ------
    CheckpointError : no such directory, no CLIP model in it, or weights that cannot be read.
    """

    needs_mask = False

    def __init__(self, directory: Path, device: str = "cpu") -> None:
        import torch
        from transformers import CLIPModel

        self.directory = Path(directory)
        config = _json(self.directory / "config.json")
        if config.get("model_type") != "clip":
            told = f"is a {shown(config.get('model_type'))} model"
            raise CheckpointError(str(self.directory), told, "give the directory of a CLIP model")
        weights = sorted(path for path in self.directory.iterdir() if path.suffix in (".safetensors", ".bin"))
        if not weights:
            raise CheckpointError(str(self.directory), "holds no weights", "give model.safetensors beside config.json")
        try:
            model: Any = CLIPModel.from_pretrained(self.directory, local_files_only=True, dtype=torch.float32)
        except Exception as error:
            # Damaged weights end in whatever the reader of that format raises.
            raise CheckpointError(str(self.directory), f"cannot be loaded: {error}"[:300], "get it again") from error
        self._device = torch.device(device)
        self._model = model.eval().to(self._device)
        self._mean, self._deviation = _normalisation(self.directory)
        self.image_size = int(self._model.config.vision_config.image_size)
        self.dimensions = int(self._model.config.projection_dim)
        self.name = f"clip:{_digest([self.directory / 'config.json', *weights])}"
        self._texts: dict[str, FloatArray] = {}

    @property
    def reads_text(self) -> bool:
        """Whether the tokenizer's files lie beside the weights."""
        return any((self.directory / name).is_file() for name in ("tokenizer.json", "vocab.json"))

    def of_mesh(self, mesh: Mesh) -> FloatArray:
        """(12, D) float32 unit rows, of `mesh_views`. Raises MeshError: all vertices lie in one point."""
        return self.of_pictures(mesh_views(mesh, self.image_size))

    def of_picture(self, image: ByteArray, mask: NDArray[np.bool_] | None, box: Box | None = None) -> FloatArray:
        """(D,) float32, unit length, of `picture_crop`."""
        return self.of_pictures(picture_crop(image, mask, box, self.image_size)[None])[0]

    def of_pictures(self, pictures: ByteArray) -> FloatArray:
        """(n, D) float32 unit rows of (n, S, S, 3) uint8 RGB pictures of the model's size."""
        import torch

        scaled = (pictures.astype(np.float32) / 255 - self._mean) / self._deviation
        pixels = torch.from_numpy(scaled).permute(0, 3, 1, 2).to(self._device)  # (n, 3, S, S)
        with torch.inference_mode():
            seen = self._model.vision_model(pixel_values=pixels).pooler_output
            return unit_rows(self._model.visual_projection(seen).float().cpu().numpy())

    def of_texts(self, texts: Sequence[str]) -> FloatArray:
        """(n, D) float32 unit rows. Raises CheckpointError: the directory has no tokenizer."""
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if len(self._texts) + len(new) > 20_000:
            self._texts.clear()
            new = list(dict.fromkeys(texts))
        for start in range(0, len(new), 256):
            part = new[start : start + 256]
            self._texts.update(zip(part, self._read(part), strict=True))
        return np.stack([self._texts[text] for text in texts])

    def _read(self, texts: list[str]) -> FloatArray:
        import torch

        limit = int(self._model.config.text_config.max_position_embeddings)
        tokens = self._tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
        with torch.inference_mode():
            read = self._model.text_model(
                input_ids=tokens["input_ids"].to(self._device), attention_mask=tokens["attention_mask"].to(self._device)
            ).pooler_output
            return unit_rows(self._model.text_projection(read).float().cpu().numpy())

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import CLIPTokenizer

        if not self.reads_text:
            raise CheckpointError(str(self.directory), "has no tokenizer", "copy its tokenizer.json beside the weights")
        try:
            return CLIPTokenizer.from_pretrained(self.directory, local_files_only=True)
        except Exception as error:
            raise CheckpointError(
                str(self.directory), f"has a tokenizer that cannot be read: {error}"[:300], "get it again"
            ) from error


def mesh_views(mesh: Mesh, size: int) -> ByteArray:
    """(12, size, size, 3) uint8 RGB: a grey mesh on white from `VIEWS`, each filling its square but for a margin.

    Raises
    ------
    MeshError : all vertices lie in one point, or no view sees anything.
    """
    from ivlm_core.render import ViewCamera, ViewSpec, rasterize, shade

    vertices = mesh.vertices.astype(np.float64)
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    diagonal = float(np.linalg.norm(high - low))
    if diagonal == 0.0:
        raise MeshError(f"mesh {shown(mesh.name)}", "has all its vertices in one point", "repair the mesh")
    placed = Mesh(((vertices - (low + high) / 2) / diagonal * 2).astype(np.float32), mesh.faces, mesh.name)
    grey = np.full((len(vertices), 3), GREY, dtype=np.float32)
    pictures = []
    for elevation, azimuth in VIEWS:
        # The light is on the viewer's side.
        light = DISTANCE if np.cos(np.deg2rad(azimuth)) >= -0.1 else -DISTANCE
        camera = ViewCamera.from_spec(ViewSpec(DISTANCE, elevation, azimuth, light_z=light))
        fragments = rasterize(placed.vertices, placed.faces, camera, OVERSAMPLING * size)
        covered = fragments.face_index >= 0
        if covered.any():
            pictures.append(picture_crop(shade(placed, grey, fragments, camera), covered, None, size))
    if not pictures:
        raise MeshError(f"mesh {shown(mesh.name)}", "covers nothing from any side", "give a surface with an area")
    return np.stack(pictures)


def picture_crop(image: ByteArray, mask: NDArray[np.bool_] | None, box: Box | None, size: int) -> ByteArray:
    """(size, size, 3) uint8 RGB: the object in a square with a margin; white where the mask is not, or the picture.

    Parameters
    ----------
    image : (H, W, 3) uint8 RGB. mask : (H, W) bool, the object's pixels, or None. box : pixels; used without a mask.

    Raises
    ------
    InputError : neither mask nor box, an empty mask, one of another size than the picture, or a box outside it.
    """
    import cv2

    height, width = image.shape[:2]
    if mask is not None:
        if mask.shape != (height, width):
            raise InputError("object.mask", f"has shape {mask.shape}", f"it must match the image, {(height, width)}")
        left, top, right, bottom = (float(side) for side in mask_box(mask))
        image = np.where(mask[..., None], image, np.uint8(255))
    elif box is not None:
        left, top, right, bottom = box
        if not (np.isfinite(box).all() and max(left, 0) < min(right, width) and max(top, 0) < min(bottom, height)):
            raise InputError("object.box", f"is {box}", f"give a box inside the {width}×{height} picture")
        left, top, right, bottom = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
    else:
        raise InputError("object", "has neither mask nor box", "give one: the crop is made from it")
    cut: NDArray[Any] = image[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))]
    zoom = size / (MARGIN * max(cut.shape[:2]))
    rows, columns = (max(1, min(size, round(side * zoom))) for side in cut.shape[:2])
    cut = cv2.resize(cut, (columns, rows), interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
    crop = np.full((size, size, 3), 255, dtype=np.uint8)
    y, x = (size - rows) // 2, (size - columns) // 2
    crop[y : y + rows, x : x + columns] = cut
    return crop


def _json(path: Path) -> dict[str, Any]:
    try:
        if file_size(path) > MAX_CONFIG_BYTES:
            raise CheckpointError(str(path), "is too large for a configuration", "give the directory of a CLIP model")
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(str(path), f"cannot be read: {error}", "give the directory of a CLIP model") from error
    if not isinstance(told, dict):
        raise CheckpointError(str(path), "is no configuration", "give the directory of a CLIP model")
    return told


def _normalisation(directory: Path) -> tuple[FloatArray, FloatArray]:
    path = directory / "preprocessor_config.json"
    told = _json(path) if path.exists() else {}
    values = np.asarray([told.get("image_mean", MEAN), told.get("image_std", DEVIATION)], dtype=np.float32)
    if values.shape != (2, 3) or not np.isfinite(values).all() or (values[1] <= 0).any():
        raise ConfigError(str(path), "has no mean and deviation of three colours", "get the model's file again")
    return values[0], values[1]


def _digest(paths: Sequence[Path]) -> str:
    # Vectors of other renders are others.
    digest = hashlib.sha256(repr((VIEWS, DISTANCE, MARGIN, GREY, OVERSAMPLING)).encode())
    for path in paths:
        digest.update(f"{path.name}:{path.stat().st_size}:".encode())
        with path.open("rb") as stream:
            while piece := stream.read(1 << 22):
                digest.update(piece)
    return digest.hexdigest()[:16]
