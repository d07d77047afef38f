"""Things that people carry, ride and play with. Sizes in metres; worn and carried things face +z."""

from __future__ import annotations

import numpy as np

from ivlm_core.objects.shapes.primitives import (
    Points,
    Shape,
    Solid,
    arc,
    assemble,
    box,
    cylinder,
    ellipsoid,
    grid_step,
    in_plane,
    revolve,
    tube,
)


def ball(*, diameter: float = 0.22) -> Shape:
    """A football."""
    return assemble("ball", {"ball": ellipsoid((diameter / 2,) * 3, subdivisions=4)})


def backpack(*, width: float = 0.3, height: float = 0.44, depth: float = 0.17, strap_width: float = 0.055) -> Shape:
    """A school backpack, its wearer's back at −z: bag, front pocket, two shoulder straps, a top loop."""
    step = grid_step(width, height, depth)
    back = -depth / 2
    # The strap leaves the top of the back, bows out as far as a shoulder is thick, and returns near the bottom.
    bow = arc((back + 0.02, 0.02 * height), (0.11, 0.42 * height), 90, 270)
    strap = tube(in_plane(bow, "zy"), (1, 0, 0), strap_width, 0.012, step)
    handle = in_plane(arc((0, height * 0.48), (0.045, 0.045), 0, 180), "xy", -0.15 * depth)
    loop = tube(handle, (0, 0, 1), 0.02, 0.008, step)
    pocket = box((width * 0.78, height * 0.42, 0.08), step, rounding=0.03)

    def taper(points: Points) -> Points:
        # The bag is a little narrower and thinner at the top.
        share = np.clip(points[:, 1] / height + 0.5, 0, 1)[:, None]
        return points * np.concatenate([1 - 0.12 * share, np.ones_like(share), 1 - 0.2 * share], axis=1)

    return assemble(
        "backpack",
        {
            "bag": box((width, height, depth), step, rounding=0.06).bent(taper),
            "pocket": pocket.moved((0, -height * 0.2, depth / 2 - 0.005)),
            "left strap": strap.moved((width * 0.24, 0, 0)),
            "right strap": strap.moved((-width * 0.24, 0, 0)),
            "loop": loop,
        },
    )


def handbag(*, width: float = 0.32, height: float = 0.23, depth: float = 0.12, handle_height: float = 0.16) -> Shape:
    """A handbag with one bow handle: wider and deeper at the bottom."""
    step = grid_step(width, height + handle_height, depth)

    def taper(points: Points) -> Points:
        share = np.clip(points[:, 1] / height + 0.5, 0, 1)[:, None]
        return points * np.concatenate([1 - 0.18 * share, np.ones_like(share), 1 - 0.55 * share], axis=1)

    bow = arc((0, height * 0.48), (width * 0.27, handle_height), 0, 180)
    clasp = box((0.05, 0.035, 0.03), step).moved((0, height * 0.28, depth * 0.29))
    return assemble(
        "handbag",
        {
            "bag": box((width, height, depth), step, rounding=0.03).bent(taper),
            "handle": tube(in_plane(bow, "xy"), (0, 0, 1), 0.016, 0.012, step),
            "clasp": clasp,
        },
    )


def suitcase(
    *, width: float = 0.42, height: float = 0.58, depth: float = 0.24, handle_height: float = 0.32, wheel: float = 0.05
) -> Shape:
    """A wheeled suitcase standing upright with its handle pulled out."""
    step = grid_step(width, height + handle_height, depth)
    rod = box((0.016, handle_height + 0.06, 0.016), step)
    side, top, behind = 0.22 * width, height / 2, -depth * 0.32
    roller = cylinder(wheel / 2, 0.025, step, 16).turned("z", 90)
    parts = {
        "case": box((width, height, depth), step, rounding=0.04),
        "left rod": rod.moved((side, top + handle_height / 2 - 0.03, behind)),
        "right rod": rod.moved((-side, top + handle_height / 2 - 0.03, behind)),
        "grip": box((2 * side + 0.03, 0.028, 0.028), step, rounding=0.012).moved((0, top + handle_height, behind)),
    }
    for name, x, z in (("front left", 1, 1), ("front right", -1, 1), ("back left", 1, -1), ("back right", -1, -1)):
        at = (x * (width / 2 - 0.05), -height / 2 - wheel * 0.3, z * (depth / 2 - 0.05))
        parts[f"{name} wheel"] = roller.moved(at)
    return assemble("suitcase", parts)


def umbrella(*, radius: float = 0.5, length: float = 0.88, dome: float = 0.2, shaft: float = 0.012) -> Shape:
    """An open umbrella held upright: canopy, shaft, hooked handle bending towards +z."""
    step = grid_step(2 * radius, length)
    cloth = 0.004
    outer = arc((0, length - 0.04 - dome), (radius, dome), 90, 0, 17)
    inner = arc((0, length - 0.04 - dome), (radius - 1.5 * cloth, dome - cloth), 0, 90, 17)
    # The profile runs from the axis under the cloth outwards and back over the top.
    profile = [(abs(r), h) for r, h in [*inner[::-1], *outer[::-1]]]
    profile[0], profile[-1] = (0.0, inner[-1][1]), (0.0, outer[0][1])
    hook_radius = 0.035
    hook = in_plane(arc((hook_radius, hook_radius), (hook_radius, hook_radius), 180, 370), "zy")
    grip = np.concatenate([[[0, 0.14, 0]], hook])
    rod = cylinder(shaft / 2, length - 0.1, step / 1.5, 10)
    return assemble(
        "umbrella",
        {
            "canopy": revolve(profile, step, 32),
            "shaft": rod.moved((0, 0.1 + (length - 0.1) / 2, 0)),
            "handle": tube(grip, (1, 0, 0), 0.026, 0.026, step / 3),
        },
    )


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
    return assemble("skateboard", parts)


def baseball_bat(*, length: float = 0.84, barrel: float = 0.066, handle: float = 0.026) -> Shape:
    """A baseball bat held upright, knob down."""
    step = grid_step(length) * 0.6
    wide, thin = barrel / 2, handle / 2
    blend = np.linspace(0, 1, 10)
    taper = thin + (wide - thin) * (1 - np.cos(np.pi * blend)) / 2
    profile = [(0, 0), (thin * 1.7, 0), (thin * 1.8, 0.008), (thin * 1.6, 0.018), (thin, 0.03), (thin, 0.3 * length)]
    profile += list(zip(taper[1:], length * (0.3 + 0.35 * blend[1:]), strict=True))
    profile += [(wide, length * 0.96), (wide * 0.85, length * 0.99), (0, length)]
    return assemble("baseball bat", {"bat": revolve(profile, step, 16)})


def tennis_racket(
    *, length: float = 0.68, head_width: float = 0.26, head_length: float = 0.34, grip_length: float = 0.18
) -> Shape:
    """A tennis racket held upright, strings facing ±z: frame, string bed, throat, grip."""
    step = grid_step(length)
    rim = 0.022
    half = ((head_width - rim) / 2, (head_length - rim) / 2)
    centre = length - head_length / 2
    ring = in_plane(arc((0, centre), half, 0, 360, 61)[:-1], "xy")
    strings = box((2, 2, 0.004), 0.14).bent(lambda points: _disc(points, half, centre))
    foot = grip_length * 0.95
    throat_top = centre - half[1] * np.cos(np.deg2rad(38))
    throat_side = half[0] * np.sin(np.deg2rad(38))
    throat = {
        f"{name} throat": tube(
            [(0.004 * side, foot, 0), (throat_side * side, throat_top, 0)], (0, 0, 1), rim, rim * 0.6, step
        )
        for name, side in (("left", 1), ("right", -1))
    }
    return assemble(
        "tennis racket",
        {
            "frame": tube(ring, (0, 0, 1), rim, rim * 0.6, step * 0.7, closed=True),
            "strings": strings,
            **throat,
            "grip": cylinder(0.016, grip_length, step * 0.6, 12).moved((0, grip_length / 2, 0)),
        },
    )


def _disc(points: Points, half: tuple[float, float], centre: float) -> Points:
    """The square −1…1 in x and y mapped to an ellipse, z kept; the map is smooth and its grid stays even."""
    x, y = points[:, 0], points[:, 1]
    return np.stack(
        [half[0] * x * np.sqrt(1 - y**2 / 2), centre + half[1] * y * np.sqrt(1 - x**2 / 2), points[:, 2]], axis=1
    )
