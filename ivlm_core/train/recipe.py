"""Everything that a training run can be told, and the paper's ablations as changes of it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field, replace
from typing import Literal

from ivlm_core.config import Profile
from ivlm_core.errors import ConfigError, shown
from ivlm_core.train.conversation import ConversationStyle
from ivlm_core.train.losses import LossWeights
from ivlm_core.train.samples import Variation

# What learns: the image encoder alone, then everything but MV-Loc, then everything.
Stage = Literal["pictures", "answers", "masks"]
# Share of the run in which the rate rises again when something joins.
STAGE_WARMUP = 0.01
# Of the highest rate, at the beginning and at the end of each stage; the last one ends with the run's own last rate.
STAGE_RATES: dict[Stage, tuple[float, float]] = {"pictures": (1.0, 0.5), "answers": (1.0, 0.4), "masks": (0.75, 0.02)}


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; the defaults are those of the shipped weights.

    Attributes
    ----------
    steps : length of the run. minutes : its length in time; the one that ends first decides, 0 for no limit.
    batch : pictures in a step, of all processes together. questions : least number of questions about a picture.
    learning_rate, warmup, final_share : highest rate, steps until it is reached, and its last value's share of it;
        down a cosine in each stage (`STAGE_RATES`), rising anew when answers and masks join.
    weight_decay, clip : of AdamW, on matrices only; greatest norm of the gradient.
    average : decay of the running mean of the weights, which is what is validated and exported; 0 for none.
    answers_from : share of the run after which the questions join; until then the image encoder learns alone, from
        what the auxiliary heads ask of it.
    masks_from : share of the run after which the view masks join.
    objects_per_step : object masks learned in a step once masks have joined.
    early_objects : the same before, while answers are learned; MV-Loc then takes the embeddings as they are.
    encoder_steps : steps that SAM's encoder is taught the views before it is frozen; 0 to leave it as it is.
    loss : constants of the paper's losses. mesh_loss : whether the 3-D losses are used.
    whole_masks : masks are judged on all pixels instead of those that show the mesh.
    masks : False for no MV-Loc at all: the vertex branch alone.
    branch_dice, branch_entropy : of the vertex branch. classes, joints, pointer : of the auxiliary heads.
    object_passes, object_steps : how often every picture is read at the end, for the contact embeddings that the branch
        of objects learns from, and its steps of each category; no pass for no such branch.
    data_fraction : share of the scenes that is used.
    contact : False for a model that learns to see, and to find what a question names, and nothing about contact: the
        pointer asks where the object is, and answers, masks and the vertex branch teach nothing.
    frozen_sight : the image encoder stays as the run begins with it; only the pointer is left of the auxiliary heads.
    start : digest of the weights that the run begins with (`read_start`), empty for random numbers.
    start_rate : share of the rate with which these weights learn; the others have all of it.
    """

    steps: int = 10000
    minutes: float = 0.0
    batch: int = 12
    questions: int = 2
    learning_rate: float = 8e-4
    warmup: int = 200
    final_share: float = 0.02
    weight_decay: float = 0.03
    clip: float = 1.0
    average: float = 0.999
    answers_from: float = 0.38
    masks_from: float = 0.72
    objects_per_step: int = 8
    early_objects: int = 3
    encoder_steps: int = 120
    loss: LossWeights = field(default_factory=LossWeights)
    mesh_loss: bool = True
    whole_masks: bool = False
    masks: bool = True
    branch_dice: float = 1.0
    branch_entropy: float = 3.0
    classes: float = 0.5
    joints: float = 0.1
    pointer: float = 0.2
    object_passes: int = 2
    object_steps: int = 400
    data_fraction: float = 1.0
    contact: bool = True
    frozen_sight: bool = False
    start: str = ""
    start_rate: float = 1.0
    style: ConversationStyle = field(default_factory=ConversationStyle)
    variation: Variation = field(default_factory=Variation)
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "steps": self.steps >= 0,
            "minutes": self.minutes >= 0 and math.isfinite(self.minutes),
            "batch": 1 <= self.batch <= 4096,
            "questions": 1 <= self.questions <= 16,
            "learning_rate": 0 < self.learning_rate < 1,
            "average": 0 <= self.average < 1,
            "masks_from": 0 <= self.masks_from <= 1,
            "objects_per_step": self.objects_per_step >= 0,
            "early_objects": self.early_objects >= 0,
            "encoder_steps": self.encoder_steps >= 0,
            "object_passes": self.object_passes >= 0,
            "object_steps": self.object_steps >= 0,
            "data_fraction": 0 < self.data_fraction <= 1,
            "start_rate": 0 < self.start_rate <= 1,
            # From pictures alone an encoder that stays as it is learns nothing.
            "answers_from": 0 <= self.answers_from <= (0 if self.frozen_sight else 1),
        }
        for name, holds in rules.items():
            if not holds:
                raise ConfigError(f"train.{name}", f"is {getattr(self, name)}", "see `ivlm train --help`")
        if not self.steps and not self.minutes:
            raise ConfigError("train.steps", "and minutes are both 0", "give the length of the run")

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is done, 0…1."""
        shares = [step / self.steps] if self.steps else []
        shares += [seconds / (60 * self.minutes)] if self.minutes else []
        return min(1.0, max(shares))

    def stage(self, progress: float) -> Stage:
        """What learns at this share of the run."""
        if progress < self.answers_from:
            return "pictures"
        return "masks" if self.masks and progress >= self.masks_from else "answers"

    def rate(self, step: int, progress: float) -> float:
        """The learning rate of a step."""
        starts = [start for start in (0.0, self.answers_from, self.masks_from if self.masks else 1.0) if start < 1.0]
        begun = max(start for start in starts if start <= progress)
        ends = min((start for start in starts if start > progress), default=1.0)
        first, last = STAGE_RATES[self.stage(progress)]
        if ends == 1.0:
            last = self.final_share
        if max(starts) == 0.0:
            # A run of one part knows no rates of parts, so that runs with masks and without have the same.
            first = 1.0
        share = last + (first - last) * 0.5 * (1 + math.cos(math.pi * (progress - begun) / (ends - begun)))
        # What joins late starts slowly, too.
        joined = min(1.0, (progress - begun) / STAGE_WARMUP + 0.02) if begun else 1.0
        return self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup)) * joined * share


# Share of a run without contact that is the image encoder's alone.
SEEING = 0.65

# Name → what it changes. The paper's Table S.4 compares them without the vertex branch, which is not the paper's; so
# each of its rows is that name together with `no_vertex_branch`.
VARIANTS: dict[str, str] = {
    "base": "nothing",
    "no_vertex_branch": "MV-Loc alone",
    "no_object_branch": "MV-Loc alone on objects",
    "no_camera": "FeatLift knows no cameras",
    "concat_camera": "FeatLift adds the raw camera numbers",
    "featlift": "FeatLift multiplies by a gate from the camera, as the paper does",
    "no_mvloc": "two layers from the contact embedding to the vertices, and no masks",
    "whole_mask": "masks are judged on all pixels, without the 3-D loss",
    "valid_mask": "masks are judged where they show the mesh, without the 3-D loss",
    "valid_mask_3d": "masks are judged where they show the mesh, with the 3-D loss",
    "no_parts_text": "questions for the region alone, answers without body parts and affordance",
    "no_object_name": "every object is called object",
    "own_view_token": "each view is decoded with its own token only",
    "no_contact": "the model learns to see, and to find what is named, and nothing about contact",
}


def apply_variants(names: tuple[str, ...], profile: Profile, recipe: Recipe) -> tuple[Profile, Recipe]:
    """The profile and recipe of one or more variants together.

    Raises
    ------
    ConfigError : an unknown name.
    """
    for name in names:
        if name not in VARIANTS:
            raise ConfigError("--variant", f"{shown(name)} does not exist", f"choose {', '.join(VARIANTS)}")
        localize = profile.localize
        if name == "no_vertex_branch":
            localize = replace(localize, vertex_branch=0, object_branch=0)
        elif name == "no_object_branch":
            localize = replace(localize, object_branch=0)
        elif name == "no_camera":
            localize = replace(localize, featlift="none")
        elif name == "concat_camera":
            localize = replace(localize, featlift="simple")
        elif name == "featlift":
            localize = replace(localize, featlift="vi_v1")
        elif name == "own_view_token":
            localize = replace(localize, view_tokens="own")
        elif name == "no_mvloc":
            recipe = replace(recipe, masks=False)
        elif name in ("whole_mask", "valid_mask", "valid_mask_3d"):
            recipe = replace(recipe, whole_masks=name == "whole_mask", mesh_loss=name == "valid_mask_3d")
        elif name == "no_parts_text":
            recipe = replace(recipe, style=replace(recipe.style, name_parts=False))
        elif name == "no_object_name":
            recipe = replace(recipe, style=replace(recipe.style, name_object=False))
        elif name == "no_contact":
            # Without a word of the answers, which name what is touched.
            style = replace(recipe.style, name_parts=False)
            recipe = replace(recipe, contact=False, masks=False, style=style, answers_from=SEEING)
        profile = replace(profile, localize=localize)
    if not recipe.masks and not profile.localize.vertex_branch:
        raise ConfigError("--variant", "leaves neither masks nor the vertex branch", "leave one of the two names out")
    return profile, recipe


def recipe_from(plain: dict[str, object]) -> Recipe:
    """The recipe that `dataclasses.asdict` wrote."""
    from ivlm_core.config import parse_section

    return parse_section(Recipe, plain, "recipe")


def recipe_as_dict(recipe: Recipe) -> dict[str, object]:
    return dataclasses.asdict(recipe)
