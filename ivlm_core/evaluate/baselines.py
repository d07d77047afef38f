"""Rivals with the image encoder of `tiny`, trained on the same data.

*Semantic-DECO-style*: the image alone decides; a head gives contact per vertex for every category at once, and the
label only picks the category. Categories that are absent have no contact. *Label-conditioned*: the label is an input,
the head gives contact per vertex. *No language model*: picture and label give the contact embedding, which MV-Loc turns
into masks as it does for the whole model. Vertex heads have low rank and start at the prior.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ivlm_core.bodies import PART_NAMES, load_body
from ivlm_core.config import Profile, VisionConfig, parse_section
from ivlm_core.errors import InputError
from ivlm_core.evaluate.answers import Answer, Answerer, ModelAnswers, Picture
from ivlm_core.evaluate.priors import Priors
from ivlm_core.localize import Localizer
from ivlm_core.pipeline import Pipeline
from ivlm_core.reason import Question, Reasoning, mode_questions
from ivlm_core.reason.image import clip_pixels
from ivlm_core.reason.static_step import StaticSteps
from ivlm_core.reason.stem import ConvolutionStem
from ivlm_core.storage import UNREADABLE, ArrayCache, atomic_path
from ivlm_core.types import ByteArray

VertexKind = Literal["deco_style", "label_conditioned"]
Kind = Literal["deco_style", "label_conditioned", "no_language_model"]
VERTEX_KINDS: tuple[VertexKind, ...] = ("deco_style", "label_conditioned")
KINDS: tuple[Kind, ...] = (*VERTEX_KINDS, "no_language_model")
# What the multi-class head says when nobody tells it which category is asked about, and where its threshold is kept.
LABEL_FREE = "label_free"
FREE_THRESHOLD = "threshold_label_free"
SIDES = ("human", "object")
# Questions that ask for the region alone: there is nobody to name parts.
REASONING = "direct"
RANK = 64
# Log-odds that the priors are kept within: nothing is impossible.
PRIOR_LIMIT = 6.0


class PictureEncoder(nn.Module):
    """The vision tower of a profile, with an attention that picks from its patches."""

    def __init__(self, vision: VisionConfig) -> None:
        super().__init__()
        from transformers import CLIPVisionConfig, CLIPVisionModel

        self.tower = CLIPVisionModel(
            CLIPVisionConfig(
                image_size=vision.image_size,
                patch_size=vision.patch_size,
                hidden_size=vision.hidden_size,
                num_hidden_layers=vision.layers,
                num_attention_heads=vision.heads,
                intermediate_size=vision.intermediate_size,
            )
        )
        if vision.stem == "convolution":
            self.tower.embeddings.patch_embedding = ConvolutionStem(vision.hidden_size)  # type: ignore[assignment]
        self.attention = nn.MultiheadAttention(vision.hidden_size, vision.heads, batch_first=True)
        self.norm = nn.LayerNorm(vision.hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) normalised pixels → (B, P, D) patches."""
        states: Tensor = self.tower(pixel_values=pixels).last_hidden_state[:, 1:]
        return states

    def pick(self, patches: Tensor, queries: Tensor) -> Tensor:
        """(B, P, D) patches, (B, Q, D) questions → (B, Q, D)."""
        values = self.norm(patches)
        picked: Tensor = self.attention(queries, values, values, need_weights=False)[0]
        return picked


class VertexHead(nn.Module):
    """Features to contact per vertex through a basis of `RANK` patterns on the body, in log-odds."""

    def __init__(self, width: int, vertices: int, outputs: int = 1) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.randn(RANK, vertices) / RANK**0.5)
        self.mix = nn.Linear(width, outputs * (RANK + 1))
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)
        self.outputs = outputs

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) → (B, outputs, V)."""
        mixed = self.mix(features).unflatten(-1, (self.outputs, RANK + 1))
        return mixed[..., :RANK] @ self.basis + mixed[..., RANK:]


class VertexModel(nn.Module):
    """Either vertex baseline.

    Parameters
    ----------
    kind : which. vision : of the encoder. bias : (C + 1, V) log-odds of the priors, the last row of all together.
    """

    QUERIES = 4

    def __init__(self, kind: VertexKind, vision: VisionConfig, bias: Tensor) -> None:
        super().__init__()
        self.kind = kind
        width, self.categories = vision.hidden_size, len(bias) - 1
        self.bias: Tensor
        self.register_buffer("bias", bias, persistent=False)
        self.encoder = PictureEncoder(vision)
        if kind == "deco_style":
            self.queries = nn.Parameter(torch.randn(self.QUERIES, width) * 0.02)
            self.mlp = _mlp(self.QUERIES * width, width, width)
            self.head = VertexHead(width, bias.shape[1], self.categories)
        else:
            self.labels = nn.Embedding(self.categories + 1, width)
            self.mlp = _mlp(2 * width, width, width)
            self.head = VertexHead(width, bias.shape[1])

    def forward(self, patches: Tensor, owner: Tensor, labels: Tensor) -> Tensor:
        """Log-odds of contact.

        Parameters
        ----------
        patches : (B, P, D) from the encoder. owner : (K,) picture of each object. labels : (K,) category of each, C for
            one that is not known.

        Returns
        -------
        (K, V); with `deco_style` the category's own, and the likeliest of all where it is not known.
        """
        if self.kind == "deco_style":
            every = self.every(patches)[owner]
            known = every[torch.arange(len(labels)), labels.clamp(max=self.categories - 1)]
            return torch.where((labels < self.categories)[:, None], known, every.amax(dim=1))
        asked = self.labels(labels)
        picked = self.encoder.pick(patches[owner], asked[:, None])[:, 0]
        return self.head(self.mlp(torch.cat([picked, asked], dim=-1)))[:, 0] + self.bias[labels]

    def every(self, patches: Tensor) -> Tensor:
        """(B, P, D) patches → (B, C, V) log-odds of all categories at once."""
        picked = self.encoder.pick(patches, self.queries.expand(len(patches), -1, -1))
        return self.head(self.mlp(picked.flatten(1))) + self.bias[:-1]


class EmbeddingModel(nn.Module):
    """Picture and label to the contact embedding that the localizer of a profile takes.

    Parameters
    ----------
    profile : of tower and localizer. categories : C.
    """

    def __init__(self, profile: Profile, categories: int) -> None:
        super().__init__()
        width = profile.vision.hidden_size
        self.categories = categories
        self.encoder = PictureEncoder(profile.vision)
        self.labels = nn.Embedding(categories + 1, width)
        self.sides = nn.Embedding(len(SIDES), width)
        self.mlp = _mlp(2 * width, 2 * width, profile.sam.prompt_dim)
        self.localizer = Localizer(profile)

    def forward(self, patches: Tensor, owner: Tensor, labels: Tensor, sides: Tensor) -> Tensor:
        """(B, P, D) patches and K questions: picture, category (C for unknown), index into `SIDES` → (K, D)."""
        asked = self.labels(labels) + self.sides(sides)
        picked = self.encoder.pick(patches[owner], asked[:, None])[:, 0]
        embedding: Tensor = self.mlp(torch.cat([picked, asked], dim=-1))
        return embedding


class EmbeddingReasoner(nn.Module):
    """An `EmbeddingModel` in the place of a pipeline's language model: it knows each question by its words.

    Parameters
    ----------
    vision : of the model's tower. categories : C names, in the order of its label embedding.
    """

    def __init__(self, model: EmbeddingModel, vision: VisionConfig, categories: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.vision = vision
        self.steps = StaticSteps()
        self._asked = {
            question.text: number
            for number, name in enumerate(categories)
            for question in mode_questions(name, PART_NAMES, "joint", REASONING)
        }

    def forget(self) -> None:
        """Nothing is remembered."""

    @torch.inference_mode()
    def encode_image(self, image: ByteArray) -> Tensor:
        """(H, W, 3) uint8 RGB → (1, P, D) patches."""
        patches: Tensor = self.model.encoder(clip_pixels(image, self.vision))
        return patches

    @torch.inference_mode()
    def answer(self, prefix: Tensor, questions: Sequence[Question]) -> list[Reasoning]:
        """One contact embedding per question, without words."""
        labels = torch.tensor([self._asked.get(question.text, self.model.categories) for question in questions])
        sides = torch.tensor([SIDES.index(question.side) for question in questions])
        embeddings = self.model(prefix, torch.zeros_like(labels), labels, sides)
        return [
            Reasoning("", embedding, 1.0, question.side)
            for question, embedding in zip(questions, embeddings, strict=True)
        ]


class VertexAnswers:
    """A vertex baseline as an answerer; it takes labels that are none of `categories` as unknown."""

    def __init__(self, model: VertexModel, vision: VisionConfig, categories: Sequence[str], threshold: float) -> None:
        self.model = model.eval()
        self.vision = vision
        self.threshold = threshold
        self._number = {name: number for number, name in enumerate(categories)}

    @torch.inference_mode()
    def __call__(self, picture: Picture) -> list[Answer]:
        patches = self.model.encoder(clip_pixels(picture.image, self.vision))
        unknown = self.model.categories
        labels = torch.tensor([self._number.get(item.label, unknown) for item in picture.objects])
        owner = torch.zeros(len(labels), dtype=torch.long)
        contact = torch.sigmoid(self.model(patches, owner, labels)).numpy()
        return [Answer(row) for row in contact]


def save_baseline(path: Path, profile: Profile, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write a baseline's file: matrices as int8 with a float32 scale per row, everything else as float16.

    Parameters
    ----------
    about : goes into the header; `threshold` and `categories` must be there.
    """
    arrays: dict[str, NDArray] = {}
    for name, value in weights.items():
        if value.ndim < 2 or not value.is_floating_point():
            arrays[f"plain/{name}"] = value.numpy().astype(np.float16 if value.is_floating_point() else np.int64)
            continue
        rows = value.flatten(1).numpy()
        scale = np.maximum(np.abs(rows).max(axis=1), 1e-12) / 127
        arrays[f"scale/{name}"] = scale.astype(np.float32)
        arrays[f"steps/{name}"] = np.round(rows / scale[:, None]).astype(np.int8).reshape(value.shape)
    header = {"profile": dataclasses.asdict(profile), **about}
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]


def read_baseline(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and weights that `save_baseline` wrote.

    Raises
    ------
    InputError : the file is missing or damaged.
    """
    weights: dict[str, Tensor] = {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            header = json.loads(str(stored["header"]))
            for key in stored.files:
                form, _, name = key.partition("/")
                if form == "plain":
                    value = stored[key]
                    weights[name] = torch.from_numpy(value.astype(np.float32) if value.dtype.kind == "f" else value)
                elif form == "steps":
                    steps, scale = stored[key].astype(np.float32), stored[f"scale/{name}"]
                    weights[name] = torch.from_numpy(steps * scale.reshape(-1, *(1,) * (steps.ndim - 1)))
            missing = {"profile", "threshold", "categories"} - set(header)
            if missing:
                raise ValueError(f"its header lacks {', '.join(sorted(missing))}")
    except (*UNREADABLE, KeyError) as error:
        raise InputError("baseline", f"{path} cannot be read: {error}", "fit the baselines again") from error
    return header, weights


def load_baselines(folder: Path, priors: Priors) -> dict[str, Answerer]:
    """The baselines whose files are in a folder, by name; with `deco_style` comes `label_free`.

    Raises
    ------
    InputError : a file is damaged, or does not fit the priors beside it.
    """
    files = {kind: folder / f"{kind}.npz" for kind in KINDS}
    found: dict[str, Answerer] = {
        kind: load_baseline(path, kind, priors) for kind, path in files.items() if path.is_file()
    }
    published = found.get("deco_style")
    if isinstance(published, VertexAnswers):
        threshold = read_baseline(files["deco_style"])[0].get(FREE_THRESHOLD, published.threshold)
        found[LABEL_FREE] = VertexAnswers(published.model, published.vision, (), threshold)
    return found


def load_baseline(path: Path, kind: Kind, priors: Priors) -> Answerer:
    """One baseline from its file; see `load_baselines`."""
    header, weights = read_baseline(path)
    profile = parse_section(Profile, header["profile"], path.name)
    categories = header["categories"]
    if list(priors.categories) != categories:
        raise InputError("baseline", f"{path} knows other categories than the priors beside it", "fit both together")
    model = make_baseline(kind, profile, priors)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError("baseline", f"{path} does not fit its own profile: {error}", "fit it again") from error
    if isinstance(model, EmbeddingModel):
        model.eval()
        modules = nn.ModuleDict(
            {"reason": EmbeddingReasoner(model, profile.vision, categories), "localize": model.localizer}
        )
        answers = ModelAnswers(Pipeline(profile, modules, load_body(), ArrayCache(), REASONING))
        answers.threshold = header["threshold"]
        return answers
    return VertexAnswers(model, profile.vision, categories, header["threshold"])


def make_baseline(kind: Kind, profile: Profile, priors: Priors) -> VertexModel | EmbeddingModel:
    """A baseline before its training."""
    if kind == "no_language_model":
        return EmbeddingModel(profile, len(priors.categories))
    return VertexModel(kind, profile.vision, prior_bias(priors))


def prior_bias(priors: Priors) -> Tensor:
    """(C + 1, V) log-odds of the mean contact of every category, and of all."""
    means = np.stack([priors.category(name) for name in (*priors.categories, "")])
    return torch.logit(torch.from_numpy(means), eps=1e-9).clamp(-PRIOR_LIMIT, PRIOR_LIMIT).float()


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, outputs))
