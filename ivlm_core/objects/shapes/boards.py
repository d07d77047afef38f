"""Boards that people stand and lie on, and the flying disc. Sizes in metres; noses at +z, decks up."""

from __future__ import annotations

import numpy as np

from ivlm_core.objects.shapes.primitives import (
    Anchor,
    Points,
    Shape,
    Solid,
    anchor_at,
    arc,
    assemble,
    box,
    cylinder,
    grid_step,
    in_plane,
    parametric,
    revolve,
    tube,
)

UP, DOWN, LEFT, FORWARD = (0, 1, 0), (0, -1, 0), (1, 0, 0), (0, 0, 1)


@parametric
def skateboard(
    *, length: float = 0.8, width: float = 0.2, thickness: float = 0.012, kick: float = 0.045, wheel: float = 0.054
) -> Shape:
    """A skateboard, nose at +z: a deck with rounded, bent-up ends on two trucks with four wheels."""
    step = grid_step(length, width) * 0.8
    end = 0.19 * length

    def shaped(points: Points) -> Points:
        past = np.clip((np.abs(points[:, 2]) - (length / 2 - end)) / end, 0, 1)
        narrow = np.sqrt(1 - (0.9 * past**2) ** 2)
        moved = points.copy()
        moved[:, 0] *= narrow
        moved[:, 1] += kick * past**1.6
        return moved

    parts: dict[str, Solid] = {"deck": box((width, thickness, length), step).bent(shaped)}
    reach, low = length / 2 - end - 0.05, -0.055
    for name, z in (("front", reach), ("back", -reach)):
        parts[f"{name} truck"] = box((0.05, 0.05, 0.06), step).moved((0, -thickness / 2 - 0.022, z))
        parts[f"{name} axle"] = cylinder(0.008, width * 0.85, step).turned("z", 90).moved((0, low, z))
        for side, x in (("left", 1), ("right", -1)):
            roller = cylinder(wheel / 2, 0.034, step / 2, 20).turned("z", 90)
            parts[f"{name} {side} wheel"] = roller.moved((x * width * 0.4, low, z))
    anchors = _board_anchors(thickness / 2, -thickness / 2, width, thickness / 2)
    for name, z in (("front foot", reach - 0.02), ("back foot", 0.02 - reach)):
        anchors[name] = anchor_at((0, thickness / 2, z), UP)
    return assemble("skateboard", parts, anchors)


@parametric
def surfboard(
    *,
    length: float = 2.1,
    width: float = 0.52,
    thickness: float = 0.065,
    rocker: float = 0.09,
    nose: float = 0.62,
    tail: float = 0.5,
    fins: int = 3,
) -> Shape:
    """A surfboard, nose at +z: a foil with rounded rails, bent up towards both ends, on one or three fins.

    `nose` and `tail` are how full the outline is half-way to the tips: 0.5 is pointed, 0.9 as wide as a longboard.
    `rocker` is how far the nose is above the middle.
    """
    step = grid_step(length)

    def shaped(points: Points) -> Points:
        # Grid lines lie closer together towards the rails and the tips, where the outline turns.
        across = np.sin(points[:, 0] / width * np.pi)
        along = 2 * points[:, 2] / length
        along = 0.55 * along + 0.45 * np.sin(along * np.pi / 2)
        outline = _outline(np.abs(along), np.where(along > 0, nose, tail))
        # Thickest in the middle, thinner at the rails and the tips.
        foil = (0.28 + 0.72 * np.sqrt(1 - across**2)) * (0.18 + 0.82 * (1 - along**2) ** 0.7)
        bend = rocker * np.where(along > 0, along**2, 0.35 * along**2)
        return np.stack(
            [across * outline * width / 2, points[:, 1] * foil + bend, along * length / 2],
            axis=1,
        )

    parts = {"board": box((width, thickness, length), 0.55 * step).bent(shaped)}
    spots = {"middle fin": (0.0, -0.43)} if fins else {}
    if fins == 3:
        spots |= {"left fin": (0.22, -0.36), "right fin": (-0.22, -0.36)}
    for name, (x, z) in spots.items():
        under = shaped(np.array([[x * width, -thickness / 2, z * length]]))[0]
        parts[name] = _fin(step / 2).moved(under)
    anchors = _board_anchors(thickness / 2, -thickness / 2, width, 0.14 * thickness)
    for name, z in (("front foot", 0.15), ("back foot", -0.15)):
        anchors[name] = anchor_at(shaped(np.array([[0, thickness / 2, z * length]]))[0], UP)
    return assemble("surfboard", parts, anchors)


def _outline(distance: Points, full: Points) -> Points:
    """Half width, as a share of the widest, at `distance` 0…1 from the middle to a tip; `full` is it at 0.75."""
    power = np.maximum(np.log(1 - full**2) / np.log(0.75), 1.2)
    # The tips end in a small edge, so that the board stays solid there.
    return np.maximum(np.sqrt(np.clip(1 - distance**power, 0, 1)), 0.06)


@parametric
def snowboard(
    *,
    length: float = 1.52,
    width: float = 0.29,
    thickness: float = 0.014,
    waist: float = 0.25,
    kick: float = 0.05,
    stance: float = 0.52,
    foot_turn_deg: float = 9.0,
) -> Shape:
    """A snowboard with two bindings, nose at +z, for a rider who looks towards −x with the left foot in front.

    `width` is that of nose and tail, `waist` that of the middle; `stance` is the distance between the bindings.
    """
    step = grid_step(length) * 0.8
    end = 0.15 * length

    def shaped(points: Points) -> Points:
        along = np.abs(points[:, 2])
        past = np.clip((along - (length / 2 - end)) / end, 0, 1)
        sidecut = 1 - (1 - waist / width) * (1 - np.clip(along / (length / 2 - end), 0, 1) ** 2)
        narrow = np.sqrt(1 - (0.96 * past**1.5) ** 2)
        moved = points.copy()
        moved[:, 0] *= sidecut * narrow
        moved[:, 1] += kick * past**1.8
        return moved

    parts = {"board": box((width, thickness, length), step).bent(shaped)}
    anchors = _board_anchors(thickness / 2, -thickness / 2, waist, thickness / 2)
    for name, z, turn in (("front", stance / 2, foot_turn_deg), ("back", -stance / 2, -foot_turn_deg)):
        for part, solid in _binding(waist, step / 2).items():
            parts[f"{name} {part}"] = solid.turned("y", -turn).moved((0, thickness / 2, z))
        anchors[f"{name} foot"] = anchor_at((0, thickness / 2 + 0.014, z), UP)
    return assemble("snowboard", parts, anchors)


def _binding(waist: float, step: float) -> dict[str, Solid]:
    """A binding on the plane y = 0, toes towards −x: plate, heel cup with highback, two straps over the foot."""
    length, half = waist * 0.98, 0.066
    plate = box((length, 0.016, 2 * half), step, rounding=0.006).moved((0, 0.006, 0))
    back = in_plane(arc((0, 0), (0.055, half), -100, 100, 21), "xz")
    cup = tube(back, UP, 0.05, 0.012, step).moved((length / 2 - 0.06, 0.03, 0))

    def leaning(points: Points) -> Points:
        # The highback is curved around the calf and leans towards the toes.
        moved = points.copy()
        moved[:, 0] += -6.0 * points[:, 2] ** 2 - 0.22 * points[:, 1]
        moved[:, 2] *= 1 - 1.2 * np.clip(points[:, 1], 0, 1)
        return moved

    high = box((0.012, 0.22, 0.11), step).moved((0, 0.11, 0)).bent(leaning).moved((length / 2, 0.02, 0))
    strap = tube(in_plane(arc((0, 0.0), (half, 0.095), 0, 180, 25), "zy"), LEFT, 0.045, 0.008, step)
    return {
        "plate": plate,
        "heel cup": cup,
        "highback": high,
        "ankle strap": strap.moved((0.025, 0, 0)),
        "toe strap": strap.bent(lambda points: points * (1, 0.72, 1)).moved((-0.075, 0, 0)),
    }


@parametric
def frisbee(*, diameter: float = 0.27, height: float = 0.03, rim: float = 0.006, plate: float = 0.0025) -> Shape:
    """A flying disc lying flat, its domed side up: a thin plate with a rim that reaches down."""
    radius = diameter / 2
    under = height - plate
    profile = [
        (0, under),
        (radius - 1.4 * height, under),
        (radius - rim - 0.5 * height, under - 0.1 * height),
        (radius - rim, 0.5 * height),
        (radius - rim, 0),
        (radius - 0.3 * rim, 0),
        (radius, 0.2 * height),
        (radius - 0.05 * height, 0.6 * height),
        (radius - 0.45 * height, 0.92 * height),
        (radius - 1.2 * height, height),
        (0, height),
    ]
    step = grid_step(diameter) * 1.2
    middle = 0.35 * height
    return assemble(
        "frisbee",
        {"disc": revolve(profile, step, 48)},
        {
            "rim left": anchor_at((radius - rim / 2, middle, 0), FORWARD, rim),
            "rim right": anchor_at((rim / 2 - radius, middle, 0), FORWARD, rim),
            "rim front": anchor_at((0, middle, radius - rim / 2), LEFT, rim),
            "rim back": anchor_at((0, middle, rim / 2 - radius), LEFT, rim),
            "top": anchor_at((0, height, 0), UP),
        },
    )


def _fin(step: float) -> Solid:
    """A swept-back fin that hangs down from the origin."""

    def swept(points: Points) -> Points:
        down = np.clip(-points[:, 1] / 0.11, 0, 1)
        moved = points.copy()
        moved[:, 2] = points[:, 2] * (1 - 0.72 * down**1.3) - 0.05 * down**1.2
        moved[:, 0] *= 1 - 0.5 * down
        return moved

    return box((0.008, 0.12, 0.11), step).moved((0, -0.05, 0)).bent(swept)


def _board_anchors(top: float, under: float, width: float, rail: float) -> dict[str, Anchor]:
    middle = (top + under) / 2
    return {
        "deck": anchor_at((0, top, 0), UP),
        "base": anchor_at((0, under, 0), DOWN),
        "rail left": anchor_at((width / 2, middle, 0), FORWARD, rail),
        "rail right": anchor_at((-width / 2, middle, 0), FORWARD, rail),
    }
