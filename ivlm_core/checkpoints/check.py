"""Replay the reference cases of a released model through a converted one, stage by stage.

A reference file holds, for each case (`human`, `object`, `general`), the inputs and every intermediate tensor of the
authors' model as `CASE_STAGE` arrays. Each stage is computed from the stage before it as *we* computed it, so that an
error shows where it arises and stays visible behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ivlm_core.checkpoints.model import build_model
from ivlm_core.checkpoints.native import changed_files, load_weights
from ivlm_core.config import load_profile
from ivlm_core.errors import InputError
from ivlm_core.lift import Lifter
from ivlm_core.localize import Localizer, camera_code, fitted_size, raw_camera, resize_masks, sam_pixels
from ivlm_core.reason import Reasoner, clip_pixels
from ivlm_core.storage import file_size

CASES = ("human", "object", "general")
IMAGE_ID = -200
MAX_REFERENCE_BYTES = 4 << 30
TOLERANCE = {"low_res_masks": 2e-3, "pred_masks": 2e-3, "contact_3d": 1e-3, "written_ids": 0.5}
DEFAULT_TOLERANCE = 1e-4
VOTE_THRESHOLD = 0.3

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Stage:
    """What we computed for one stage, and what the reference holds."""

    name: str
    ours: Tensor
    reference: np.ndarray

    @property
    def difference(self) -> float:
        """Greatest absolute difference; infinite where shapes differ or a value is not finite."""
        expected = torch.from_numpy(np.asarray(self.reference, dtype=np.float64))
        ours = self.ours.detach().cpu().double()
        if ours.numel() != expected.numel():
            return float("inf")
        worst = (ours.reshape(expected.shape) - expected).abs().max() if ours.numel() else torch.zeros(())
        return float(worst) if torch.isfinite(worst) else float("inf")

    @property
    def passed(self) -> bool:
        return self.difference <= TOLERANCE.get(self.name.rpartition("/")[2], DEFAULT_TOLERANCE)


def check_reference(directory: Path, reference: Path) -> dict[str, Any]:
    """Compare a converted checkpoint with a reference file, in single precision on the CPU.

    Parameters
    ----------
    directory : a native checkpoint directory; it needs no tokenizer.
    reference : an `.npz` with the arrays described above.

    Returns
    -------
    `{"stages": {"human/seg_hidden": 1e-6, …}, "failed": [names], "passed": bool}`; a file that differs from the
    directory's manifest fails as `manifest/FILE`, so that weights no stage reads cannot change unnoticed.

    Raises
    ------
    CheckpointError : the checkpoint does not load.  InputError : the reference is damaged or holds no case.
    """
    arrays = _arrays(reference)
    changed = changed_files(directory)
    profile = load_profile(directory)
    model = build_model(profile, None)
    load_weights(directory, model, dtype=torch.float32)
    model.eval()
    reasoner: Any = model["reason"]
    localizer: Any = model["localize"]
    with torch.inference_mode():
        stages = [*_image_stages(reasoner, arrays)]
        for case in CASES:
            if f"{case}_full_ids" in arrays:
                stages += _case_stages(case, reasoner, localizer, arrays)
        stages += _shared_stages(arrays)
    if not any("/" in stage.name and stage.name.split("/")[0] in CASES for stage in stages):
        raise InputError(str(reference), "holds no case", f"it needs CASE_full_ids for one of {', '.join(CASES)}")
    failed = [stage.name for stage in stages if not stage.passed] + [f"manifest/{name}" for name in changed]
    return {
        "stages": {stage.name: stage.difference for stage in stages},
        "failed": failed,
        "passed": not failed,
    }


def _arrays(path: Path) -> Arrays:
    try:
        if file_size(path) > MAX_REFERENCE_BYTES:
            raise InputError(str(path), "is larger than 4 GB", "give a reference of a toy-size model")
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise InputError(str(path), f"is no reference file: {error}", "give the .npz of a reference") from error
    except Exception as error:
        if isinstance(error, InputError):
            raise
        raise InputError(str(path), f"is damaged: {error}", "copy it again") from error


def _image_stages(reasoner: Reasoner, arrays: Arrays) -> Iterator[Stage]:
    """From the photograph to the language model's image tokens."""
    if "rgb_image" not in arrays:
        return
    pixels = clip_pixels(arrays["rgb_image"], reasoner.profile.vision)
    features = reasoner.image_features(pixels)
    yield Stage("image/clip_pixel_values", pixels, arrays["clip_pixel_values"])
    yield Stage("image/image_features", features, arrays["image_features"])


def _case_stages(case: str, reasoner: Reasoner, localizer: Localizer, arrays: Arrays) -> Iterator[Stage]:
    def stored(name: str) -> np.ndarray:
        if f"{case}_{name}" not in arrays:
            raise InputError("reference", f"has no {case}_{name}", "give a whole reference file")
        return arrays[f"{case}_{name}"]

    ids = [int(token) for token in stored("full_ids")]
    if ids.count(IMAGE_ID) != 1:
        raise InputError(
            f"{case}_full_ids",
            f"holds the image placeholder {IMAGE_ID} {ids.count(IMAGE_ID)} times",
            "give ids with exactly one image in them",
        )
    position = int(stored("seg_position_in_ids"))
    if not ids.index(IMAGE_ID) < position < len(ids):
        raise InputError(
            f"{case}_seg_position_in_ids", f"is {position}", "give the contact token's index, which is behind the image"
        )
    pixels = torch.from_numpy(arrays["clip_pixel_values"]).float()
    # The released model never reads the last token it wrote, and takes the state that predicts the contact token.
    states = _states(reasoner, ids[:-1], pixels)  # (T, D)
    state = states[position - 1 + len(states) - (len(ids) - 1)]
    yield Stage(f"{case}/last_hidden", states, stored("last_hidden"))
    yield Stage(f"{case}/seg_hidden", state, stored("seg_hidden"))
    yield Stage(f"{case}/logits_at_seg", reasoner.llava.lm_head(state), stored("logits_at_seg"))
    yield from _written(case, reasoner, arrays, ids, position, pixels, states)
    embedding = reasoner.projection(state[None])  # (1, D)
    yield Stage(f"{case}/seg_embedding", embedding, stored("seg_embedding"))

    views = localizer.image_encoder(_view_pixels(case, localizer, arrays))
    # A code of zeros is what the released model gives its encoder where there is no camera.
    code = torch.from_numpy(arrays.get(f"{case}_cam_params", np.zeros((len(views), 5)))).float().reshape(-1, 5)
    if f"{case}_cam_raw" in arrays and f"{case}_cam_params" in arrays:
        yield Stage(
            f"{case}/cam_params", camera_code(torch.from_numpy(stored("cam_raw")).float()), stored("cam_params")
        )
    cameras = raw_camera(code).numpy()
    branch = next((side for side, token in reasoner.contact_ids.items() if token == ids[position]), "general")
    prompts = localizer.prompts(embedding, cameras, [branch])  # (1, J, D)
    yield Stage(f"{case}/featlift_out", prompts, stored("featlift_out"))
    yield Stage(f"{case}/image_embeddings", views, stored("image_embeddings"))
    masks = localizer(embedding, cameras, views, case, [branch])  # (1, J, h, w)
    yield Stage(f"{case}/low_res_masks", masks, stored("low_res_masks"))
    expected = stored("pred_masks")
    size = (int(expected.shape[-2]), int(expected.shape[-1]))
    full = resize_masks(masks, localizer.image_size, fitted_size(size, localizer.image_size), size)
    yield Stage(f"{case}/pred_masks", full, expected)
    if f"{case}_contact_3d" in arrays and f"{case}_pixel_to_vertex" in arrays:
        contact = stored("contact_3d")
        threshold = None if case == "human" else VOTE_THRESHOLD
        lifter = Lifter.from_maps(stored("pixel_to_vertex"), stored("bary"), contact.size, threshold)
        yield Stage(f"{case}/contact_3d", lifter(full), contact)


def _view_pixels(case: str, localizer: Localizer, arrays: Arrays) -> Tensor:
    """(J, 3, S, S) what SAM's encoder is given: from the renders where they fill its square, else as stored."""
    images = arrays.get(f"{case}_view_images")
    if images is not None and images.shape[1:3] == (localizer.image_size, localizer.image_size):
        return sam_pixels(images)
    if f"{case}_sam_pixel_values" not in arrays:
        raise InputError("reference", f"has no {case}_sam_pixel_values", "give a whole reference file")
    return torch.from_numpy(arrays[f"{case}_sam_pixel_values"]).float()


def _states(reasoner: Reasoner, ids: list[int], pixels: Tensor) -> Tensor:
    """(T, D) post-norm states of ids with one image placeholder, in one plain pass."""
    split = ids.index(IMAGE_ID)
    embed = reasoner.llava.get_input_embeddings()
    before, behind = (embed(torch.tensor([part], dtype=torch.long)) for part in (ids[:split], ids[split + 1 :]))
    whole = torch.cat([before, reasoner.image_features(pixels), behind], dim=1)
    return reasoner.llava.model.language_model(inputs_embeds=whole, use_cache=False).last_hidden_state[0]


def _written(
    case: str,
    reasoner: Reasoner,
    arrays: Arrays,
    ids: list[int],
    position: int,
    pixels: Tensor,
    states: Tensor,
) -> Iterator[Stage]:
    """What our own decoder writes behind the prompt, where the reference itself was written greedily."""
    prompt = [int(token) for token in arrays.get(f"{case}_prompt_ids", [])]
    if not prompt or ids[: len(prompt)] != prompt or position < len(prompt):
        return
    count = position - len(prompt) + 1
    first = len(prompt) - 1 + len(states) - (len(ids) - 1)
    greedy = reasoner.llava.lm_head(states[first : first + count]).argmax(-1).tolist()
    if greedy != ids[len(prompt) : position + 1]:
        return
    split = prompt.index(IMAGE_ID)
    # At least one token must be left for the prompt itself.
    prefix = reasoner.encode_ids(prompt[:split], pixels, prompt[split + 1 : -1])
    written = reasoner.continue_ids(prefix, [prompt[-1:]])[0]
    expected = np.array(ids[len(prompt) : position + 1])
    yield Stage(f"{case}/written_ids", torch.tensor(written.ids), expected)
    if written.state is not None:
        yield Stage(f"{case}/written_state", written.state, arrays[f"{case}_seg_hidden"])


def _shared_stages(arrays: Arrays) -> Iterator[Stage]:
    """Stages that no weight enters: mask post-processing with padding, and lifting of stored logits."""
    if "post_low_res" in arrays:
        size, original = (tuple(map(int, arrays[f"post_{name}_size"])) for name in ("input", "original"))
        masks = torch.from_numpy(arrays["post_low_res"]).float()
        yield Stage(
            "post/pred_masks",
            resize_masks(masks, max(size), (size[0], size[1]), (original[0], original[1])),
            arrays["post_out"],
        )
    if "lift_logits" in arrays:
        logits = torch.from_numpy(arrays["lift_logits"].astype(np.float32))[None]
        for case, threshold in (("human", None), ("object", VOTE_THRESHOLD)):
            if f"{case}_bary" in arrays and f"lift_{case}_contact" in arrays:
                expected = arrays[f"lift_{case}_contact"]
                maps = arrays[f"{case}_pixel_to_vertex"], arrays[f"{case}_bary"]
                lifter = Lifter.from_maps(*maps, expected.size, threshold)
                yield Stage(f"lift/{case}/contact_3d", lifter(logits), expected)
