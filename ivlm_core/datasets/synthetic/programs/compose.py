"""Whole scenes: who does what with which things, drawn from one table, and drawn again until the scene is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

import numpy as np

from ivlm_core.bodies import AnnyRig, Phenotype, varied_rig
from ivlm_core.datasets.synthetic.contact import problems
from ivlm_core.datasets.synthetic.pose import turn
from ivlm_core.datasets.synthetic.programs.registry import ACTIONS, SUPPORTS, Program
from ivlm_core.datasets.synthetic.programs.stage import SIDE_NAMES, SIDES, UP, Stage, Unreachable, points_of
from ivlm_core.datasets.synthetic.scene import Scene
from ivlm_core.datasets.synthetic.split import UNSEEN, check_split
from ivlm_core.errors import DatasetError, InputError, shown

Key = TypeVar("Key")

MAX_DRAWS = 40
# Draws with the same person, whose body takes a while to make.
DRAWS_PER_PERSON = 4

HANDS = {"left hand": 1.0, "right hand": 1.0, "both hands": 1.0}
CARRIED = {"under left arm": 0.5, "under right arm": 0.5}
ON_BOARD = {"both feet": 1.6, "left foot": 1.0, "right foot": 1.0}
RIDDEN = {
    "ride, both hands": 1.4,
    "ride, left hand": 0.7,
    "ride, right hand": 0.7,
    "beside, left hand on the grip": 0.6,
    "beside, right hand on the grip": 0.6,
}


def _sat_on(*places: str, idle: float = 1.2) -> dict[str, float]:
    hands = {
        f"sit, {hand} on the {place}": share / len(places)
        for place in places
        for hand, share in (("left hand", 0.8), ("right hand", 0.8), ("both hands", 0.6))
    }
    return {"sit": idle, **hands}


def _lain_on(weight: float) -> dict[str, float]:
    shares = {"lie on the back": 0.5, "lie on the left side": 0.25, "lie on the right side": 0.25}
    return {mode: weight * share for mode, share in shares.items()}


# A bench's arm rests are too far apart for both hands.
BESIDE_ARM = {"sit, left hand on the arm rest": 0.5, "sit, right hand on the arm rest": 0.5}

# The mix of the scenes: category → mode → weight within the category. Left and right weigh the same everywhere.
MIX: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "chair": {
            # Scenes about other things seat people on chairs, too.
            **_sat_on("seat", "arm rest", idle=0.4),
            "behind, left hand on the backrest": 0.6,
            "behind, right hand on the backrest": 0.6,
            "behind, both hands on the backrest": 0.6,
        },
        "bench": {**_sat_on("seat"), **BESIDE_ARM, **_lain_on(1.0)},
        "couch": {**_sat_on("seat", "arm rest"), **_lain_on(1.0)},
        "bed": {**_sat_on("seat"), **_lain_on(2.2)},
        "dining table": HANDS,
        "skateboard": {**ON_BOARD, **CARRIED},
        "surfboard": {**ON_BOARD, "lie prone": 1.2, **CARRIED},
        "snowboard": {**ON_BOARD, **CARRIED},
        "bicycle": RIDDEN,
        "motorcycle": RIDDEN,
        "tennis racket": HANDS,
        "baseball bat": HANDS,
        "sports ball": {**HANDS, "left foot": 0.7, "right foot": 0.7},
        "frisbee": HANDS,
        "bottle": HANDS,
        "cup": HANDS,
        "book": HANDS,
        "laptop": {
            "lap, both hands": 1.0,
            "table, left hand": 0.7,
            "table, right hand": 0.7,
            "table, both hands": 0.7,
        },
        "cell phone": {"left ear": 0.8, "right ear": 0.8, "left hand": 0.8, "right hand": 0.8, "both hands": 0.8},
        "keyboard": HANDS,
        "backpack": {
            "both straps": 1.2,
            "left shoulder": 0.7,
            "right shoulder": 0.7,
            "left hand": 0.7,
            "right hand": 0.7,
        },
        "handbag": {
            "left hand": 0.8,
            "right hand": 0.8,
            "left forearm": 0.5,
            "right forearm": 0.5,
            "left shoulder": 0.5,
            "right shoulder": 0.5,
        },
        "suitcase": {"left hand, pulling": 1.0, "right hand, pulling": 1.0, "both hands, lifting": 0.7, "sit": 0.8},
        "umbrella": HANDS,
    }
)
CATEGORIES = tuple(MIX)
# How often scenes are about a category, 1 unless given: less for what other scenes show besides.
SHARES = {"chair": 0.55, "backpack": 0.6, "handbag": 0.8, "bottle": 0.75, "cell phone": 0.8, "couch": 0.9}

# Where people do things: category (or category and mode) → support → weight. `sit at table` also seats them on a chair.
SEATS = {"chair": 0.3, "couch": 0.25, "bench": 0.2, "bed": 0.2, "suitcase": 0.05}
AT_TABLE = {"sit at table": 0.55, "stand at table": 0.45}
SMALL = {"stand": 0.67, **{seat: 0.28 * share for seat, share in SEATS.items()}, "sit at table": 0.05}
GROUNDS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "bottle": SMALL,
        "cup": SMALL,
        "book": SMALL,
        "cell phone": SMALL,
        "frisbee": {"stand": 0.9, **{seat: 0.1 * share for seat, share in SEATS.items()}},
        "sports ball": {"stand": 0.85, **{seat: 0.15 * share for seat, share in SEATS.items()}},
        "dining table": AT_TABLE,
        "keyboard": AT_TABLE,
        "laptop: table": AT_TABLE,
        "laptop: lap": SEATS,
    }
)
# What people do besides, by posture, in the share of scenes that has a second thing in use.
SECOND_SHARE = 0.22
SECONDS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "stand": {
            "backpack": 0.6,
            "handbag": 1,
            "cell phone": 1,
            "bottle": 0.7,
            "cup": 0.7,
            "umbrella": 0.6,
            "book": 0.4,
        },
        "sit": {"cell phone": 1, "bottle": 1, "cup": 1, "book": 1, "laptop": 0.6},
        "board": {"backpack": 0.7, "bottle": 0.5, "cell phone": 0.5},
        "ride": {"backpack": 1},
        "lie": {},
        "prone": {},
    }
)
UNTOUCHED_SHARE = 0.08
ON_FLOOR = ("suitcase", "sports ball", "backpack", "handbag", "chair", "skateboard", "bottle", "frisbee")
ON_TABLE = ("cup", "bottle", "book", "cell phone")


@dataclass(frozen=True)
class Choice:
    """What is settled about a scene before anything is drawn; the rest is left to chance.

    Attributes
    ----------
    category, mode : what the scene is about, from `MIX`.
    ground : the support on which it is done ("stand", "sit at table", "couch", …); None to draw one from `GROUNDS`.
    second : another category and mode; None to leave it to chance.
    """

    category: str
    mode: str
    ground: str | None = None
    second: tuple[str, str] | None = None


def compose(
    rng: np.random.Generator,
    split: str = "train",
    category: str | None = None,
    mode: str | None = None,
    ground: str | None = None,
    second: tuple[str, str] | None = None,
) -> Scene:
    """A scene of one person and one to three things, of which the first is the one it is about.

    Parameters
    ----------
    split : "unseen" for scenes about the categories of `UNSEEN`, any other for scenes that show none of them.
    category, mode : what the scene is about, drawn from `MIX` where they are not given.
    ground, second : see `Choice`.

    Raises
    ------
    ConfigError : an unknown split.
    InputError : an unknown category or mode, or a category that the split does not have.
    DatasetError : no draw out of `MAX_DRAWS` made a scene that passes `check_scene`.
    """
    check_split(split)
    choice = Choice(*_subject(rng, split, category, mode), ground, second)
    seed = int(rng.integers(2**63))
    problem = ""
    for draw in range(MAX_DRAWS):
        try:
            scene = draw_scene(seed, draw, split, choice)
        except Unreachable as error:
            problem = str(error)
            continue
        found = next(problems(scene), None)
        if found is None:
            return scene
        problem = found
    what = f"{choice.category}, {choice.mode}"
    raise DatasetError(what, f"no scene in {MAX_DRAWS} draws; last: {problem}", "take another seed")


def draw_scene(seed: int, draw: int, split: str, choice: Choice) -> Scene:
    """One draw of a scene, not checked yet; the same arguments give the same scene.

    Raises
    ------
    Unreachable : the person that was drawn cannot do what was drawn.
    """
    person = Phenotype.draw(np.random.default_rng([seed, draw // DRAWS_PER_PERSON]))
    rng = np.random.default_rng([seed, draw, 1])
    stage = Stage(rng, _rig(person), person.values)
    name = _set_scene(stage, split, choice)
    for side in SIDES:
        if side in stage.free:
            stage.idle(side)
    if rng.random() < UNTOUCHED_SHARE:
        _put_beside(stage, split)
    # The thing that the scene is about comes first.
    stage.objects.sort(key=lambda placed: placed.label != choice.category)
    return stage.scene(name)


def _subject(rng: np.random.Generator, split: str, category: str | None, mode: str | None) -> tuple[str, str]:
    allowed = [name for name in CATEGORIES if (name in UNSEEN) == (split == "unseen")]
    if category is None:
        category = _drawn(rng, {name: SHARES.get(name, 1.0) for name in allowed})
    elif category not in allowed:
        raise InputError("category", f"{shown(category)} is not in split {split}", f"one of: {', '.join(allowed)}")
    modes = MIX[category]
    if mode is None:
        mode = _drawn(rng, modes)
    elif mode not in modes:
        raise InputError("mode", f"{shown(mode)} is none of {category}", f"one of: {'; '.join(modes)}")
    return category, mode


def _set_scene(stage: Stage, split: str, choice: Choice) -> str:
    """Support, the category's own action and perhaps a second one; the scene's name."""
    rng, category, mode = stage.rng, choice.category, choice.mode
    support = _support_of(category, mode)
    if support is not None:
        support(stage, category, mode)
        name = f"{category}, {mode}"
    else:
        grounds = _grounds(category, mode)
        drawn = _drawn(rng, {key: share for key, share in grounds.items() if split == "unseen" or key not in UNSEEN})
        ground = drawn if choice.ground is None else choice.ground
        SUPPORTS[ground](stage, ground, "sit")
        ACTIONS[category](stage, category, mode)
        name = f"{category}, {mode}" if ground == "stand" else f"{category}, {mode}; {ground}"
    second = choice.second
    touched = sum(bool(placed.parts) for placed in stage.objects)
    if second is None and touched < 2 and rng.random() < SECOND_SHARE:
        second = _second(stage, split, category)
    if second is not None:
        ACTIONS[second[0]](stage, *second)
        name += f"; {second[0]}, {second[1]}"
    return name


def _grounds(category: str, mode: str) -> Mapping[str, float]:
    return GROUNDS.get(f"{category}: {mode.split(',')[0]}", GROUNDS.get(category, {"stand": 1.0}))


def _support_of(category: str, mode: str) -> Program | None:
    """The support that a mode is about; None where it is something that hands do, whatever carries the person."""
    if mode in HANDS or mode in CARRIED or mode.endswith(("pulling", "lifting")):
        return None
    return SUPPORTS.get(f"{category}: {mode.split(',')[0].split(' ')[0]}", SUPPORTS.get(category))


def _second(stage: Stage, split: str, category: str) -> tuple[str, str] | None:
    """A category and mode that suit the posture and the limbs that are still free."""
    options = {
        (name, mode): weight * share
        for name, weight in SECONDS[stage.posture].items()
        if name != category and name in ACTIONS and (split == "unseen" or name not in UNSEEN)
        for mode, share in MIX[name].items()
        if _needs(name, mode) <= stage.free and (stage.posture == "stand" or not _hangs(name, mode))
    }
    return _drawn(stage.rng, options) if options else None


def _needs(category: str, mode: str) -> set[str]:
    """The limbs that a mode takes; a table cannot be had as a second thing."""
    if mode == "sit" or _grounds(category, mode) == AT_TABLE:
        return {"table"}
    needs: set[str] = {side for side in SIDES if SIDE_NAMES[side] in mode or "both hands" in mode}
    if "lap" in mode:
        needs.add("lap")
    if category == "backpack" and ("strap" in mode or "shoulder" in mode):
        needs.add("back")
    return needs


def _hangs(category: str, mode: str) -> bool:
    """Whether something hangs down from an arm, which only people who stand have room for."""
    return category == "handbag" or (category == "backpack" and "hand" in mode)


def _put_beside(stage: Stage, split: str) -> None:
    """Put a thing that nobody touches on the floor beside the person, or on the table."""
    rng = stage.rng
    present = {placed.label for placed in stage.objects}
    on_table = stage.table is not None and rng.random() < 0.6
    names = [
        name
        for name in (ON_TABLE if on_table else ON_FLOOR)
        if name not in present and (split == "unseen" or name not in UNSEEN)
    ]
    name = str(rng.choice(names))
    shape = stage.shape(name)
    rotation = turn(UP, rng.uniform(-180, 180))
    vertices = shape.mesh.vertices @ rotation.T
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    taken = points_of(stage)
    for _ in range(8):
        if on_table:
            top = stage.table_top
            assert top is not None
            at = np.array([rng.uniform(top.right - low[0], top.left - high[0]), top.height - low[1], 0.0])
            at[2] = rng.uniform(top.near - low[2] + 0.02, top.far - high[2] - 0.02)
            room = 0.10
        else:
            angle = np.radians(rng.uniform(45, 120)) * rng.choice([-1.0, 1.0])
            distance = rng.uniform(0.65, 1.25) + 0.3 * float(max(high[0], high[2]))
            floor = stage.floor if stage.floor is not None else float(taken[:, 1].min())
            at = np.array([distance * np.sin(angle), floor - low[1], distance * np.cos(angle)])
            room = 0.06
        near = (taken > low + at - room) & (taken < high + at + room)
        if on_table:
            near[:, 1] |= True
            near &= (taken[:, 1] > at[1] + low[1] + 0.004)[:, None]
        if not near.all(axis=1).any():
            stage.place(shape, rotation, at, name=name)
            return


def _drawn(rng: np.random.Generator, weights: Mapping[Key, float]) -> Key:
    keys = list(weights)
    shares = np.array([weights[key] for key in keys])
    return keys[int(rng.choice(len(keys), p=shares / shares.sum()))]


_RIGS: dict[tuple[float, ...], AnnyRig] = {}


def _rig(person: Phenotype) -> AnnyRig:
    """The person's body; the last one is kept, because several draws share it."""
    if person.values not in _RIGS:
        _RIGS.clear()
        _RIGS[person.values] = varied_rig(person)
    return _RIGS[person.values]
