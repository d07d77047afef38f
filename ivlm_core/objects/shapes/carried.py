"""Things that people carry and swing. Sizes in metres; worn and carried things face +z."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ivlm_core.objects.shapes.primitives import (
    Points,
    Shape,
    Solid,
    anchor_at,
    arc,
    assemble,
    box,
    cylinder,
    ellipsoid,
    elliptic,
    grid_step,
    in_plane,
    parametric,
    revolve,
    smooth,
    tube,
)

UP, DOWN, LEFT, FORWARD, BACKWARD = (0, 1, 0), (0, -1, 0), (1, 0, 0), (0, 0, 1), (0, 0, -1)


@parametric
def ball(*, diameter: float = 0.22) -> Shape:
    """A football."""
    parts = {"ball": ellipsoid((diameter / 2,) * 3, subdivisions=4)}
    return assemble("ball", parts, {"centre": anchor_at((0, 0, 0), UP, diameter / 2)})


@parametric
def backpack(
    *,
    width: float = 0.3,
    height: float = 0.44,
    depth: float = 0.17,
    strap_width: float = 0.055,
    strap_reach: float = 0.13,
    strap_rise: float = 0.0,
    strap_spread: float = 0.09,
    strap_flare: float = 0.065,
    **corners: float,
) -> Shape:
    """A school backpack, its wearer's back at −z: bag, front pocket, two shoulder straps, a top loop.

    The wearer looks towards −z, so the left strap is at −x. Each strap runs over the shoulder, `strap_spread` off the
    middle and `strap_rise` above the bag's top, down the chest, `strap_reach` in front of the bag's back, and under the
    arm, `strap_flare` further out. Around an adult, about 0.24 and a rise of 0.02.

    A strap that is worn follows its wearer instead: `left_0_x`, `left_0_y`, `left_0_z`, `left_1_x`, … are the corners
    of a smooth curve from the bag's top to its bottom, metres from the middle of the bag.
    """
    step = grid_step(width, height, depth)
    back = -depth / 2
    shoulder, fall = height / 2 + strap_rise, height + strap_rise
    along = np.array(
        [
            (strap_spread, 0.40 * height, back + 0.03),
            (strap_spread, shoulder, back - 0.38 * strap_reach),
            (strap_spread + 0.1 * strap_flare, shoulder - 0.36 * fall, back - strap_reach),
            (strap_spread + 0.9 * strap_flare, shoulder - 0.74 * fall, back - 0.55 * strap_reach),
            (strap_spread + 0.9 * strap_flare, -0.42 * height, back + 0.03),
        ]
    )
    _, share = smooth(along, 45)
    # The padding ends below the arm; from there on it is a narrow band.
    band = strap_width * (1 - 0.55 * np.clip((share - 0.6) / 0.12, 0, 1))
    handle = in_plane(arc((0, height * 0.48), (0.045, 0.045), 0, 180), "xy", -0.15 * depth)
    loop = tube(handle, FORWARD, 0.02, 0.008, step)
    pocket = box((width * 0.78, height * 0.42, 0.08), step, rounding=0.03)

    def taper(points: Points) -> Points:
        # The bag is a little narrower and thinner at the top.
        share = np.clip(points[:, 1] / height + 0.5, 0, 1)[:, None]
        return points * np.concatenate([1 - 0.12 * share, np.ones_like(share), 1 - 0.2 * share], axis=1)

    parts = {
        "bag": box((width, height, depth), step, rounding=0.06).bent(taper),
        "pocket": pocket.moved((0, -height * 0.2, depth / 2 - 0.005)),
    }
    anchors = {
        "back panel": anchor_at((0, 0, back * 0.9), BACKWARD),
        "handle": anchor_at((0, height * 0.48 + 0.045, -0.15 * depth), LEFT, 0.006),
        "bottom": anchor_at((0, -height / 2, 0), DOWN),
    }
    for side, sign in (("left", -1), ("right", 1)):
        worn = _strap_corners(corners, side)
        mine = along * (sign, 1, 1) if worn is None else worn
        parts[f"{side} strap"] = _strap(mine, band, worn is not None)
        anchors[f"strap {side}"] = anchor_at(mine[np.argmax(mine[:, 1])], BACKWARD, 0.006)
    return assemble("backpack", {**parts, "loop": loop}, anchors)


def _strap_corners(corners: Mapping[str, float], side: str) -> Points | None:
    """(C, 3) the corners `left_0_x` … of one strap; None where there are none."""
    count = sum(name.startswith(f"{side}_") for name in corners) // 3
    if not count:
        return None
    return np.array([[corners[f"{side}_{index}_{axis}"] for axis in "xyz"] for index in range(count)])


def _strap(corners: Points, band: Points, worn: bool) -> Solid:
    """A band through its corners, as wide as `band` says at every point; a worn one lies flat on its wearer."""
    path, _ = smooth(corners, len(band))
    if not worn:
        return tube(path, LEFT, band, 0.012, 1.0)
    ahead = np.gradient(path, axis=0)
    outward = path - path.mean(axis=0) * (0, 1, 1)
    across = np.cross(outward, ahead)
    across = across * np.sign(across[:, :1].sum())
    return tube(path, across / np.linalg.norm(across, axis=1, keepdims=True), band, 0.012, 1.0)


@parametric
def handbag(
    *,
    width: float = 0.32,
    height: float = 0.23,
    depth: float = 0.12,
    handle_height: float = 0.16,
    handle_thickness: float = 0.014,
    taper: float = 0.18,
) -> Shape:
    """A handbag with one bow handle: wider and deeper at the bottom; `taper` is how much narrower its top is."""
    step = grid_step(width, height + handle_height, depth)

    def narrowed(points: Points) -> Points:
        share = np.clip(points[:, 1] / height + 0.5, 0, 1)[:, None]
        return points * np.concatenate([1 - taper * share, np.ones_like(share), 1 - 0.55 * share], axis=1)

    bow = arc((0, height * 0.48), (width * 0.27, handle_height), 0, 180)
    clasp = box((0.05, 0.035, 0.03), step).moved((0, height * 0.28, depth * 0.29))
    top = height * 0.48 + handle_height
    return assemble(
        "handbag",
        {
            "bag": box((width, height, depth), step, rounding=0.03).bent(narrowed),
            "handle": tube(in_plane(bow, "xy"), FORWARD, 1.15 * handle_thickness, 0.85 * handle_thickness, step / 1.5),
            "clasp": clasp,
        },
        {
            "handle": anchor_at((0, top, 0), LEFT, handle_thickness / 2),
            "bottom": anchor_at((0, -height / 2, 0), DOWN),
            "back panel": anchor_at((0, 0, -0.36 * depth), BACKWARD),
        },
    )


@parametric
def suitcase(
    *, width: float = 0.42, height: float = 0.58, depth: float = 0.24, handle_height: float = 0.32, wheel: float = 0.05
) -> Shape:
    """A wheeled suitcase standing upright with its handle pulled out; carrying handles on top and at +x."""
    step = grid_step(width, height + handle_height, depth)
    rod = box((0.016, handle_height + 0.06, 0.016), step)
    side, top, behind = 0.22 * width, height / 2, -depth * 0.32
    roller = cylinder(wheel / 2, 0.025, step, 16).turned("z", 90)
    carrying = in_plane(arc((0, 0), (0.065, 0.038), 0, 180, 17), "xy")
    bow = tube(carrying, FORWARD, 0.024, 0.012, step / 1.5)
    parts = {
        "case": box((width, height, depth), step, rounding=0.04),
        "left rod": rod.moved((side, top + handle_height / 2 - 0.03, behind)),
        "right rod": rod.moved((-side, top + handle_height / 2 - 0.03, behind)),
        "grip": box((2 * side + 0.03, 0.028, 0.028), step / 1.5, rounding=0.012).moved(
            (0, top + handle_height, behind)
        ),
        "top handle": bow.moved((0, top - 0.008, 0.15 * depth)),
        "side handle": bow.turned("z", -90).moved((width / 2 - 0.008, 0, 0)),
    }
    for name, x, z in (("front left", 1, 1), ("front right", -1, 1), ("back left", 1, -1), ("back right", -1, -1)):
        at = (x * (width / 2 - 0.05), -height / 2 - wheel * 0.3, z * (depth / 2 - 0.05))
        parts[f"{name} wheel"] = roller.moved(at)
    return assemble(
        "suitcase",
        parts,
        {
            "pull handle": anchor_at((0, top + handle_height, behind), LEFT, 0.014),
            "side handle": anchor_at((width / 2 + 0.03, 0, 0), UP, 0.009),
            "top handle": anchor_at((0, top + 0.03, 0.15 * depth), LEFT, 0.009),
            "top": anchor_at((0, top, 0), UP),
            "left": anchor_at((width / 2, -0.22 * height, 0), LEFT),
            "right": anchor_at((-width / 2, -0.22 * height, 0), (-1, 0, 0)),
        },
    )


@parametric
def umbrella(
    *,
    radius: float = 0.5,
    length: float = 0.88,
    dome: float = 0.2,
    shaft: float = 0.012,
    handle: float = 0.026,
    hook: int = 1,
) -> Shape:
    """An open umbrella held upright: canopy, shaft, and a handle that hooks towards +z, or is straight (`hook` 0)."""
    step = grid_step(2 * radius, length)
    cloth = 0.004
    outer = arc((0, length - 0.04 - dome), (radius, dome), 90, 0, 17)
    inner = arc((0, length - 0.04 - dome), (radius - 1.5 * cloth, dome - cloth), 0, 90, 17)
    # The profile runs from the axis under the cloth outwards and back over the top.
    profile = [(abs(r), h) for r, h in [*inner[::-1], *outer[::-1]]]
    profile[0], profile[-1] = (0.0, inner[-1][1]), (0.0, outer[0][1])
    bend = 0.035
    below = in_plane(arc((bend, bend), (bend, bend), 180, 370), "zy") if hook else np.zeros((1, 3))
    grip = np.concatenate([[[0, 0.14, 0]], below])
    stick = cylinder(shaft / 2, length - 0.1, step / 1.5, 10)
    return assemble(
        "umbrella",
        {
            "canopy": revolve(profile, step, 32),
            "shaft": stick.moved((0, 0.1 + (length - 0.1) / 2, 0)),
            "handle": tube(grip, LEFT, handle, handle, step / 3),
        },
        {
            "handle": anchor_at((0, 0.09, 0), UP, handle / 2),
            "grip": anchor_at((0, 0.09, 0), UP, handle / 2),
            "grip second": anchor_at((0, 0.2, 0), UP, shaft / 2),
        },
    )


@parametric
def baseball_bat(*, length: float = 0.84, barrel: float = 0.066, handle: float = 0.026) -> Shape:
    """A baseball bat held upright, knob down."""
    step = grid_step(length) * 0.6
    wide, thin = barrel / 2, handle / 2
    blend = np.linspace(0, 1, 10)
    taper = thin + (wide - thin) * (1 - np.cos(np.pi * blend)) / 2
    profile = [(0, 0), (thin * 1.7, 0), (thin * 1.8, 0.008), (thin * 1.6, 0.018), (thin, 0.03), (thin, 0.3 * length)]
    profile += list(zip(taper[1:], length * (0.3 + 0.35 * blend[1:]), strict=True))
    profile += [(wide, length * 0.96), (wide * 0.85, length * 0.99), (0, length)]
    return assemble(
        "baseball bat",
        {"bat": revolve(profile, step, 16)},
        {
            "grip": anchor_at((0, 0.08, 0), UP, thin),
            "grip second": anchor_at((0, 0.175, 0), UP, thin),
            "barrel": anchor_at((0, 0.8 * length, 0), UP, wide),
        },
    )


@parametric
def tennis_racket(
    *,
    length: float = 0.68,
    head_width: float = 0.26,
    head_length: float = 0.34,
    grip_length: float = 0.18,
    grip_radius: float = 0.016,
) -> Shape:
    """A tennis racket held upright, strings facing ±z: frame, string bed, throat, grip."""
    step = grid_step(length)
    rim = 0.022
    half = ((head_width - rim) / 2, (head_length - rim) / 2)
    centre = length - head_length / 2
    ring = in_plane(arc((0, centre), half, 0, 360, 61)[:-1], "xy")
    strings = box((2, 2, 0.004), 0.14).bent(lambda points: elliptic(points, "xy", half)).moved((0, centre, 0))
    foot = grip_length * 0.95
    throat_top = centre - half[1] * np.cos(np.deg2rad(38))
    throat_side = half[0] * np.sin(np.deg2rad(38))
    throat = {
        f"{name} throat": tube(
            [(0.004 * side, foot, 0), (throat_side * side, throat_top, 0)], FORWARD, rim, rim * 0.6, step
        )
        for name, side in (("left", 1), ("right", -1))
    }
    return assemble(
        "tennis racket",
        {
            "frame": tube(ring, FORWARD, rim, rim * 0.6, step * 0.7, closed=True),
            "strings": strings,
            **throat,
            "grip": cylinder(grip_radius, grip_length, step * 0.6, 12).moved((0, grip_length / 2, 0)),
        },
        {
            "grip": anchor_at((0, 0.055, 0), UP, grip_radius),
            "grip second": anchor_at((0, 0.14, 0), UP, grip_radius),
            "strings": anchor_at((0, centre, 0.002), FORWARD),
        },
    )
