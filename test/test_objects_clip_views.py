"""CLIP behind the interface of embeddings, with a tiny model of random weights made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ivlm_core.errors import CheckpointError, ConfigError, InputError, MeshError
from ivlm_core.objects import clip_views, library_mesh
from ivlm_core.objects.clip_views import VIEWS, ClipEmbedder, mesh_views, picture_crop
from ivlm_core.types import Mesh

SIZE, WIDTH = 32, 16


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("clip"))


def tiny_clip(folder: Path, seed: int = 0, tokenizer: bool = True) -> Path:
    """A CLIP model directory in the layout of `transformers`."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(seed)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = ["<|startoftext|>", "<|endoftext|>", *"abcdefghijklmnopqrstuvwxyz"]
    words += [f"{letter}</w>" for letter in "abcdefghijklmnopqrstuvwxyz"]
    config = CLIPConfig(
        text_config={
            **tower,
            "vocab_size": len(words),
            "max_position_embeddings": 20,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
        },
        vision_config={**tower, "image_size": SIZE, "patch_size": 8},
        projection_dim=WIDTH,
    )
    CLIPModel(config).save_pretrained(folder)
    if tokenizer:
        (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    return folder


@pytest.fixture(scope="module")
def embedder(model: Path) -> ClipEmbedder:
    return ClipEmbedder(model)


def test_picture_embedding_is_the_models_own(model: Path, embedder: ClipEmbedder) -> None:
    """The same as the towers of `transformers` give for CLIP's own preparation of the crop."""
    import torch
    from transformers import CLIPImageProcessor, CLIPModel

    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    mask = np.zeros((60, 80), dtype=bool)
    mask[10:50, 20:60] = True
    crop = picture_crop(image, mask, None, SIZE)
    prepare = CLIPImageProcessor(do_resize=False, do_center_crop=False)
    pixels = prepare(images=[crop], return_tensors="pt")["pixel_values"]
    clip = CLIPModel.from_pretrained(model).eval()
    with torch.inference_mode():
        expected = clip.visual_projection(clip.vision_model(pixel_values=pixels).pooler_output)[0].numpy()
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(embedder.of_picture(image, mask), expected, atol=1e-4)


def test_mesh_has_a_vector_for_every_view(embedder: ClipEmbedder) -> None:
    views = embedder.of_mesh(library_mesh("chair"))
    assert views.shape == (len(VIEWS), WIDTH) == (12, embedder.dimensions)
    np.testing.assert_allclose(np.linalg.norm(views, axis=1), 1.0, atol=1e-5)


def test_a_mesh_is_embedded_by_its_renders(embedder: ClipEmbedder) -> None:
    """Row by row what a picture of that side gives; a crop of a larger render is that of its own side."""
    mesh = library_mesh("bicycle")
    renders = mesh_views(mesh, SIZE)
    np.testing.assert_allclose(embedder.of_mesh(mesh), embedder.of_pictures(renders), atol=1e-6)
    larger = mesh_views(mesh, 4 * SIZE)
    for view in range(len(VIEWS)):
        crop = picture_crop(larger[view], (larger[view] < 250).any(axis=2), None, SIZE).astype(float)
        apart = np.abs(renders - crop).mean(axis=(1, 2, 3))
        assert apart[view] < 12
        # Edge-on, a bicycle's front and back look alike.
        assert apart.argmin() in ((0, 3) if view in (0, 3) else (view,))


def test_thin_parts_are_whole_at_the_models_size() -> None:
    """A bicycle's spokes and tubes are thinner than a pixel; with one ray for each they fall to pieces."""
    side = mesh_views(library_mesh("bicycle"), 64)[1]
    exact = picture_crop(larger := mesh_views(library_mesh("bicycle"), 512)[1], (larger < 250).any(axis=2), None, 64)
    assert np.abs(side.astype(float) - exact).mean() < 8


def test_renders_are_grey_on_white_and_fill_their_square() -> None:
    pictures = mesh_views(library_mesh("bottle"), 64)
    assert pictures.shape == (12, 64, 64, 3)
    for picture in pictures:
        covered = (picture < 250).any(axis=2)
        rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
        assert 50 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 60
        assert (picture[~covered] >= 250).all()
        # Lit from the viewer's side: nothing is black.
        assert picture[covered].mean() > 80


def test_what_is_not_in_the_mask_does_not_matter(embedder: ClipEmbedder) -> None:
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 255, (2, 50, 50, 3), dtype=np.uint8)
    mask = np.zeros((50, 50), dtype=bool)
    mask[10:40, 10:30] = True
    second[mask] = first[mask]
    np.testing.assert_array_equal(embedder.of_picture(first, mask), embedder.of_picture(second, mask))


def test_a_box_does_where_there_is_no_mask(embedder: ClipEmbedder) -> None:
    assert not embedder.needs_mask
    image = np.full((50, 80, 3), 200, dtype=np.uint8)
    image[10:30, 20:60] = [255, 0, 0]
    crop = picture_crop(image, None, (20, 10, 60, 30), SIZE)
    red = (crop == [255, 0, 0]).all(axis=2)
    assert (~red == (crop == 255).all(axis=2)).all()
    assert red.sum() == pytest.approx(SIZE**2 / 1.1**2 / 2, rel=0.1)
    # A box may reach out of the picture.
    assert np.isfinite(embedder.of_picture(image, None, (-30, -30, 20, 20))).all()


@pytest.mark.parametrize("box", [(90, 0, 99, 9), (-9, -9, 0, 0), (float("nan"), 0, 9, 9), (5, 5, 5, 9)])
def test_box_outside_the_picture(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(InputError, match=r"object\.box"):
        picture_crop(np.zeros((50, 80, 3), np.uint8), None, box, SIZE)


def test_neither_mask_nor_box_and_a_mask_of_another_size() -> None:
    image = np.zeros((50, 80, 3), np.uint8)
    with pytest.raises(InputError, match="neither mask nor box"):
        picture_crop(image, None, None, SIZE)
    with pytest.raises(InputError, match="must match the image"):
        picture_crop(image, np.ones((80, 50), dtype=bool), None, SIZE)


def test_texts_are_read(embedder: ClipEmbedder) -> None:
    assert embedder.reads_text
    vectors = embedder.of_texts(["a chair", "a table", "a chair", "ζ" * 300])
    assert vectors.shape == (4, WIDTH)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert not np.allclose(vectors[0], vectors[1])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_without_tokenizer_there_are_pictures_only(tmp_path: Path) -> None:
    embedder = ClipEmbedder(tiny_clip(tmp_path, tokenizer=False))
    assert not embedder.reads_text
    assert embedder.of_picture(np.zeros((9, 9, 3), np.uint8), None, (0, 0, 9, 9)).shape == (WIDTH,)
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        embedder.of_texts(["a chair"])


def test_name_changes_with_the_weights(model: Path, embedder: ClipEmbedder, tmp_path: Path) -> None:
    assert embedder.name.startswith("clip:")
    assert ClipEmbedder(model).name == embedder.name
    assert ClipEmbedder(tiny_clip(tmp_path, seed=1)).name != embedder.name


def test_name_changes_with_the_renders(model: Path, embedder: ClipEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_views, "GREY", 0.5)
    assert ClipEmbedder(model).name != embedder.name


def test_normalisation_comes_from_the_directory(tmp_path: Path, embedder: ClipEmbedder) -> None:
    folder = tiny_clip(tmp_path)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}))
    image = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    box = (0.0, 0.0, 40.0, 40.0)
    assert not np.allclose(ClipEmbedder(folder).of_picture(image, None, box), embedder.of_picture(image, None, box))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0, 0, 0], "image_std": [1, 1, 0]}))
    with pytest.raises(ConfigError, match="mean and deviation"):
        ClipEmbedder(folder)


@pytest.mark.parametrize("text", [None, "{", "[]", '{"model_type": "bert"}', '{"model_type": "clip"}'])
def test_directory_without_a_clip_model(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError):
        ClipEmbedder(tmp_path)


def test_damaged_weights(tmp_path: Path) -> None:
    folder = tiny_clip(tmp_path)
    (folder / "model.safetensors").write_bytes(b"no weights at all")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        ClipEmbedder(folder)


def test_mesh_in_one_point(embedder: ClipEmbedder) -> None:
    with pytest.raises(MeshError, match="in one point"):
        embedder.of_mesh(Mesh(np.ones((3, 3), np.float32), np.array([[0, 1, 2]])))
