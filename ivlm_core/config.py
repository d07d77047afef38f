"""Typed model profiles: sizes and choices of one model, read from YAML and checked before anything is built."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from ivlm_core.errors import ConfigError, shown
from ivlm_core.storage import file_size

PROFILE_DIRECTORY = Path(__file__).parent / "profiles"
MAX_PROFILE_BYTES = 1 << 20

Section = TypeVar("Section")


@dataclass(frozen=True)
class LanguageConfig:
    """The LLaMA language model."""

    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    max_positions: int = 2048
    # Rows of the embedding; 0 for as many as the tokenizer has.
    vocabulary: int = 0
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0


@dataclass(frozen=True)
class VisionConfig:
    """The CLIP vision tower; features are the patch tokens of `select_layer`."""

    image_size: int
    patch_size: int
    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    select_layer: int = -2
    # "pad" shows the whole picture on a square; "crop" is the centre crop of CLIP's own processor.
    image_fit: Literal["pad", "crop"] = "pad"
    # Between CLIP and the language model: LLaVA-1.5's two layers, or the single one of the released checkpoints.
    projector: Literal["mlp", "linear"] = "mlp"
    # How pixels become patches: CLIP's one linear layer, or overlapping convolutions, which learn from few pictures.
    stem: Literal["patch", "convolution"] = "patch"


@dataclass(frozen=True)
class TokenConfig:
    """How the tokenizer spells the tokens that carry contact; all may be one and the same.

    `general` ends answers that belong to neither side alone; where it is empty, the human token does. The ids are
    checked against the tokenizer where they are given.
    """

    human: str = "<HCON>"
    object: str = "<OCON>"
    general: str = ""
    human_id: int | None = None
    object_id: int | None = None
    general_id: int | None = None

    def ids(self) -> dict[str, int]:
        """Side → id, for the sides whose id is given."""
        given = {"human": self.human_id, "object": self.object_id, "general": self.general_id}
        return {side: number for side, number in given.items() if number is not None}


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters of the language model (peft); rank 0 means none."""

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "v_proj")


@dataclass(frozen=True)
class GenerationConfig:
    """How answers are decoded, greedily in every case."""

    max_new_tokens: int = 64
    # Guided decoding lets the model choose only among tokens that continue a well-formed answer.
    guided: bool = False
    # Guesses of the answer that the model verifies many tokens at a time; what is answered does not change.
    drafts: bool = True


@dataclass(frozen=True)
class SamConfig:
    """The SAM image encoder and mask decoders; masks are four times as fine as the grid of patches."""

    image_size: int
    patch_size: int
    embed_dim: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    window_size: int = 14
    mlp_ratio: float = 4.0
    prompt_dim: int = 256
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_mlp: int = 2048
    iou_hidden: int = 256

    @property
    def mask_size(self) -> int:
        """Side of the low-resolution masks in pixels: the decoder upsamples the embedding four times."""
        return self.image_size // self.patch_size * 4


@dataclass(frozen=True)
class LocalizeConfig:
    """How contact embeddings meet the views (paper §3.3)."""

    featlift: Literal["simple", "view_index", "vi_v1", "none"] = "vi_v1"
    # "all": every view is decoded with the tokens of all J views, as released; "own": with its own token only.
    view_tokens: Literal["all", "own"] = "all"
    # "covered": only the patches that show the mesh are decoded, which is a different and faster model than "all".
    patches: Literal["all", "covered"] = "all"
    # J, the most views one mesh has.
    views: int = 4
    # Which mask decoders there are; a side without its own uses "general", and "general" itself is the first.
    decoders: tuple[Literal["general", "human", "object"], ...] = ("human", "object")
    # Joint checkpoints split one embedding into a human and an object one by attention over the views.
    splitter: bool = False
    # Rank of the vertex branch, which corrects what is lifted onto the shipped body; 0 for none.
    vertex_branch: int = 0
    # Rank of the same for objects, 0 for none, and the meshes of the library that it has learned: labels and numbers of
    # vertices, which training fills in.
    object_branch: int = 0
    object_branch_labels: tuple[str, ...] = ()
    object_branch_vertices: tuple[int, ...] = ()


@dataclass(frozen=True)
class LiftConfig:
    """How masks become contact on vertices."""

    method: Literal["sample", "scatter"] = "sample"
    # With "scatter", pixels of object masks vote only above this probability; null lets all vote.
    object_vote_threshold: float | None = None


@dataclass(frozen=True)
class ViewsConfig:
    """How far the object cameras stand, in units of the object's longest side."""

    object_distance: float = 2.0


# Where the released code does something that changes results and that was probably not meant. None is on by default.
Quirk = Literal[
    # The object question carries a stray quotation mark at its start and `",` at its end.
    "object_prompt_quotes",
    # Objects are rendered from 1.5 but FeatLift is told 2.
    "object_camera_distance",
    # After a reload, general and human decoder hold the object decoder's weights (`-DifDe`).
    "shared_decoders",
    # SAM's positional encoding is computed from frequencies rounded to the weights' precision.
    "rounded_positions",
]


# What can be asked: human contact per object, of all objects together, or with the scene; affordance or contact of the
# object; contact on the picture itself; human contact and affordance in one go.
Mode = Literal["joint", "human", "binary", "scene", "affordance", "object_contact", "image"]
MODES: tuple[Mode, ...] = typing.get_args(Mode)


@dataclass(frozen=True)
class Profile:
    """One model: its name, sizes and choices. `tiny` ships; a checkpoint directory carries its own `profile.yaml`."""

    name: str
    language: LanguageConfig
    vision: VisionConfig
    sam: SamConfig
    tokens: TokenConfig = field(default_factory=TokenConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    localize: LocalizeConfig = field(default_factory=LocalizeConfig)
    lift: LiftConfig = field(default_factory=LiftConfig)
    # The modes that the model was trained for; others are refused.
    modes: tuple[Mode, ...] = MODES
    views: ViewsConfig = field(default_factory=ViewsConfig)
    released_quirks: tuple[Quirk, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        _check_profile(self)


def load_profile(source: str | Path) -> Profile:
    """Read a profile by the name of a shipped one, from a YAML file, or from a checkpoint directory.

    Raises
    ------
    ConfigError : unknown name, unreadable file, unknown or missing key, wrong type, value out of range.
    """
    path = _profile_path(source)
    try:
        if file_size(path) > MAX_PROFILE_BYTES:
            raise ConfigError(str(path), "is larger than 1 MB", "a profile is a short YAML file")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    # The parser gives up on deep nesting, and on numbers and dates that are none, with errors that are not its own.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(str(path), f"cannot be read: {error}", "give a YAML profile") from error
    return parse_section(Profile, content, path.name)


def save_profile(profile: Profile, path: Path) -> None:
    """Write `profile` as YAML that `load_profile` reads back equal."""
    plain = dataclasses.asdict(profile)
    path.write_text(yaml.safe_dump(_listed(plain), sort_keys=False), encoding="utf-8")


def profile_names() -> tuple[str, ...]:
    """The shipped profiles."""
    return tuple(sorted(path.stem for path in PROFILE_DIRECTORY.glob("*.yaml")))


def parse_section(section: type[Section], content: Any, where: str) -> Section:
    """Fill a frozen dataclass from a mapping; every wrong key or value is named with what is allowed.

    Parameters
    ----------
    section : the dataclass, its fields scalars, tuples, literals or other such dataclasses.
    content : what YAML gave.
    where : how messages call the mapping.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(where, f"is {shown(content)}", "give a mapping of keys to values")
    hints = _hints(typing.cast(Hashable, section))
    fields = {item.name: item for item in dataclasses.fields(section)}  # type: ignore[arg-type]
    for key in content:
        if key not in fields:
            raise ConfigError(f"{where}.{key}", "is not a known key", f"allowed: {', '.join(fields)}")
    values: dict[str, Any] = {}
    for name, item in fields.items():
        if name in content:
            values[name] = _parse_value(hints[name], content[name], f"{where}.{name}")
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where}.{name}", "is missing", f"needed keys: {', '.join(fields)}")
    return section(**values)


@functools.cache
def _hints(section: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(section)


def _parse_value(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return parse_section(typing.cast(type, hint), value, where)
    if origin is Literal:
        allowed = typing.get_args(hint)
        if value not in allowed:
            raise ConfigError(where, f"is {shown(value)}", f"choose {' or '.join(map(repr, allowed))}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(where, f"is {shown(value)}", "give a list")
        inner = typing.get_args(hint)[0]
        return tuple(_parse_value(inner, item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _parse_value(next(arg for arg in typing.get_args(hint) if arg is not type(None)), value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint in (int, float) and isinstance(value, bool)):
        raise ConfigError(where, f"is {shown(value)}", f"give a value of type {hint.__name__}")
    return value


def _profile_path(source: str | Path) -> Path:
    if isinstance(source, str) and source in profile_names():
        return PROFILE_DIRECTORY / f"{source}.yaml"
    path = Path(source).expanduser()
    if path.is_dir():
        path = path / "profile.yaml"
    if not path.is_file():
        raise ConfigError(
            "model",
            f"{shown(str(source))} is neither a shipped profile nor a file",
            f"choose {', '.join(profile_names())}, a profile YAML, or a checkpoint directory with profile.yaml",
        )
    return path


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _check_profile(profile: Profile) -> None:
    """Refuse sizes that no model can be built with, naming the key."""
    rules = [
        ("language.hidden_size", profile.language.hidden_size % profile.language.heads == 0, "a multiple of heads"),
        ("vision.hidden_size", profile.vision.hidden_size % profile.vision.heads == 0, "a multiple of heads"),
        ("vision.image_size", profile.vision.image_size % profile.vision.patch_size == 0, "a multiple of patch_size"),
        (
            "vision.select_layer",
            -profile.vision.layers - 1 <= profile.vision.select_layer <= -1,
            "between −layers − 1 and −1",
        ),
        ("sam.image_size", profile.sam.image_size % profile.sam.patch_size == 0, "a multiple of patch_size"),
        ("sam.embed_dim", profile.sam.embed_dim % profile.sam.heads == 0, "a multiple of heads"),
        ("sam.prompt_dim", profile.sam.prompt_dim % (2 * profile.sam.decoder_heads) == 0, "a multiple of 2 × heads"),
        ("sam.prompt_dim", profile.sam.prompt_dim % 8 == 0, "a multiple of 8"),
        (
            "sam.global_blocks",
            all(0 <= block < profile.sam.depth for block in profile.sam.global_blocks),
            "block numbers below depth",
        ),
        ("generation.max_new_tokens", 1 <= profile.generation.max_new_tokens <= 1024, "1…1024"),
        ("lora.rank", 0 <= profile.lora.rank <= 256, "0…256"),
        ("localize.decoders", len(set(profile.localize.decoders)) == len(profile.localize.decoders) > 0, "one or more"),
        ("views.object_distance", 0.5 < profile.views.object_distance <= 10.0, "above 0.5 and at most 10"),
        ("localize.vertex_branch", 0 <= profile.localize.vertex_branch <= 1024, "0…1024"),
        ("localize.object_branch", 0 <= profile.localize.object_branch <= 256, "0…256"),
        (
            "localize.object_branch_vertices",
            len(profile.localize.object_branch_vertices) == len(set(profile.localize.object_branch_labels))
            and all(0 < count <= 1_000_000 for count in profile.localize.object_branch_vertices),
            "a number for each of object_branch_labels",
        ),
        (
            "vision.patch_size",
            profile.vision.stem == "patch" or profile.vision.patch_size == 16,
            "16 with stem 'convolution'",
        ),
        ("lora.dropout", 0.0 <= profile.lora.dropout < 1.0, "in [0, 1)"),
    ]
    for section in (profile.language, profile.vision, profile.sam):
        for item in dataclasses.fields(section):
            value = getattr(section, item.name)
            if isinstance(value, int) and item.name not in ("select_layer", "window_size", "vocabulary"):
                where = f"{type(section).__name__.removesuffix('Config').lower()}.{item.name}"
                rules.append((where, 1 <= value <= 1 << 20, "1 or more"))
    for where, holds, expected in rules:
        if not holds:
            value = functools.reduce(getattr, where.split("."), profile)
            raise ConfigError(f"profile.{where}", f"is {value}", f"it must be {expected}")
