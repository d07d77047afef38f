"""Two-wheelers. Sizes in metres above the ground they stand on; they ride towards +z, the rider's left is +x."""

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
    ellipsoid,
    in_plane,
    joined,
    parametric,
    rod,
    tube,
)

UP, LEFT, FORWARD = (0, 1, 0), (1, 0, 0), (0, 0, 1)
SIDES = (("left", 1.0), ("right", -1.0))
STEP = 0.06


@parametric
def bicycle(
    *,
    wheel: float = 0.34,
    tyre: float = 0.036,
    wheelbase: float = 1.05,
    saddle_height: float = 0.95,
    grip_height: float = 1.02,
    reach: float = 0.55,
    grip_width: float = 0.56,
    crank: float = 0.17,
    crank_deg: float = 0.0,
    bracket_height: float = 0.28,
    top_tube_drop: float = 0.05,
    tube_radius: float = 0.017,
    mudguards: int = 0,
) -> Shape:
    """A bicycle.

    `wheel` is the radius; `saddle_height` and `grip_height` are above the ground; `reach` is from the middle of the
    saddle forwards to the grips, `grip_width` from grip to grip; the left pedal is forwards at `crank_deg` 0 and down
    at 90, the right one opposite; the top tube falls by `top_tube_drop` towards the saddle.
    """
    bracket = np.array([0, bracket_height, 0])
    rear, front = np.array([0, wheel, -0.43]), np.array([0, wheel, wheelbase - 0.43])
    seat_tube = _slanted(73)
    saddle = bracket + seat_tube * ((saddle_height - bracket_height) / seat_tube[1])
    seat_top = bracket + seat_tube * min(0.5, 0.68 * (saddle_height - bracket_height))
    steerer = _slanted(71)
    crown = front + _xyz(0, 0, -0.045) + steerer * ((wheel + tyre / 2 + 0.035) / steerer[1])
    head_low, head_high = crown + 0.01 * steerer, crown + 0.15 * steerer
    grips_z = saddle[2] + reach
    stem_z = (head_high + steerer * ((grip_height - head_high[1]) / steerer[1]))[2]
    clamp = np.array([0, grip_height - 0.01, max(stem_z, grips_z + 0.03)])
    top_back = seat_top - seat_tube * top_tube_drop
    thin, leg = 0.6 * tube_radius, 0.55 * tube_radius

    parts: dict[str, Solid] = {
        **_wheel("front", front, wheel, tyre, 12),
        **_wheel("rear", rear, wheel, tyre, 12),
        "seat tube": rod([bracket, seat_top], tube_radius, STEP),
        "seat post": rod([seat_top - 0.06 * seat_tube, saddle - 0.03 * seat_tube], 0.75 * tube_radius, STEP),
        "top tube": rod([top_back, head_high - 0.04 * steerer], tube_radius, STEP),
        "down tube": rod([bracket, head_low + 0.03 * steerer], 1.15 * tube_radius, STEP),
        "head tube": rod([head_low, head_high], 1.1 * tube_radius, STEP),
        "stem": rod([head_high - 0.03 * steerer, (0, clamp[1] - 0.035, stem_z + 0.012), clamp], 0.014, STEP / 2),
        "saddle": _bicycle_saddle().moved(saddle),
    }
    for side, x in SIDES:
        parts[f"{side} chain stay"] = rod([bracket + _xyz(0.02 * x, 0, 0), rear + _xyz(0.055 * x, 0, 0)], thin, STEP, 8)
        parts[f"{side} seat stay"] = rod(
            [seat_top - 0.05 * seat_tube + _xyz(0.014 * x, 0, 0), rear + _xyz(0.055 * x, 0, 0)], leg, STEP, 8
        )
        shoulder = crown + _xyz(0.04 * x, 0, 0)
        knee = front + _xyz(0.052 * x, 0, -0.045) + steerer * 0.1
        parts[f"{side} fork blade"] = rod([shoulder, knee, front + _xyz(0.052 * x, 0, 0)], thin, STEP, 8)
    parts["fork crown"] = rod([crown + _xyz(-0.05, 0, 0), crown + _xyz(0.05, 0, 0)], tube_radius, STEP, 8)

    anchors = {"saddle": anchor_at(saddle, UP)}
    bar, grip_parts, grip_anchors = _handlebar(clamp, grip_width, grip_height, grips_z, 0.011, 0.016)
    parts |= {"handlebar": bar, **grip_parts}
    anchors |= grip_anchors

    parts["bracket axle"] = cylinder(0.022, 0.12, STEP, 10).turned("z", 90).moved(bracket)
    for side, x in SIDES:
        angle = np.deg2rad(crank_deg + (0 if x > 0 else 180))
        end = bracket + crank * np.array([0, -np.sin(angle), np.cos(angle)]) + _xyz(0.075 * x, 0, 0)
        parts[f"{side} crank"] = rod([bracket + _xyz(0.068 * x, 0, 0), end], 0.011, STEP / 1.5, 8)
        pedal = end + _xyz(0.055 * x, 0, 0)
        parts[f"{side} pedal"] = box((0.1, 0.024, 0.085), 0.022, rounding=0.008).moved(pedal)
        anchors[f"pedal {side}"] = anchor_at(pedal + _xyz(0, 0.012, 0), UP)
    ring_x = -0.045
    parts["chainring"] = cylinder(0.085, 0.006, 0.04, 24).turned("z", 90).moved(bracket + _xyz(ring_x, 0, 0))
    parts["sprocket"] = cylinder(0.034, 0.012, 0.04, 14).turned("z", 90).moved(rear + _xyz(ring_x, 0, 0))
    parts["chain"] = _chain(bracket, 0.087, rear, 0.037, ring_x)
    if mudguards:
        for name, centre, start, stop in (("front", front, 40.0, 165.0), ("rear", rear, 20.0, 175.0)):
            path = in_plane(arc((centre[2], centre[1]), (wheel + 0.022,) * 2, start, stop, 31), "zy")
            parts[f"{name} mudguard"] = tube(path, LEFT, tyre + 0.022, 0.006, 0.05, sections=8)
            over, edge = path[20], _xyz(tyre / 2 + 0.008, 0, 0)
            stay = [centre + _xyz(0.055, 0, 0), over + edge, over - edge, centre - _xyz(0.055, 0, 0)]
            parts[f"{name} mudguard stay"] = rod(stay, 0.003, STEP, 6)
    return assemble("bicycle", parts, anchors)


@parametric
def motorcycle(
    *,
    wheel: float = 0.31,
    tyre: float = 0.12,
    wheelbase: float = 1.4,
    saddle_height: float = 0.79,
    grip_height: float = 1.04,
    reach: float = 0.58,
    grip_width: float = 0.7,
    peg_height: float = 0.33,
    peg_ahead: float = 0.12,
    tank_width: float = 0.28,
    screen: int = 0,
) -> Shape:
    """A motorcycle.

    `wheel` is the radius; `saddle_height`, `grip_height` and `peg_height` are above the ground; `reach` is from where
    the rider sits forwards to the grips, `peg_ahead` to the foot pegs; `screen` 1 adds a wind screen.
    """
    rear, front = np.array([0, wheel, -0.62]), np.array([0, wheel, wheelbase - 0.62])
    seat = np.array([0, saddle_height, -0.2])
    fork = _slanted(63)
    crown = front + fork * ((0.98 * grip_height - 0.1 - wheel) / fork[1])
    grips_z = seat[2] + reach
    clamp = np.array([0, grip_height - 0.03, max(crown[2] - 0.03, grips_z + 0.03)])
    tank_y = saddle_height + 0.06
    peg = np.array([0, peg_height, seat[2] + peg_ahead])

    tail = _xyz(0, saddle_height - 0.1, -0.42)
    over_wheel = rear + (wheel + 0.028) * _slanted(80) * (1, 1, -1)

    tank = ellipsoid((tank_width / 2, 0.115, 0.27)).bent(lambda points: _tank(points, 0.27))
    parts: dict[str, Solid] = {
        **_wheel("front", front, wheel, 0.9 * tyre, 5),
        **_wheel("rear", rear, wheel, tyre, 5),
        "seat": _motorcycle_seat().moved(seat),
        "tank": tank.moved((0, tank_y, 0.2)),
        "engine": box((0.26, 0.26, 0.36), STEP, rounding=0.05).moved((0, 0.40, 0.1)),
        "cylinder block": cylinder(0.095, 0.26, STEP, 16).turned("x", 14).moved((0, 0.6, 0.16)),
        "spine": rod([crown - 0.06 * fork, (0, saddle_height - 0.07, 0.05), tail, over_wheel], 0.03, STEP),
        "down tube": rod([crown - 0.1 * fork, (0, 0.36, 0.32), (0, 0.27, 0.18)], 0.022, STEP),
        "steering head": rod([crown - 0.14 * fork, crown + 0.03 * fork], 0.03, STEP),
        "headlight": ellipsoid((0.09, 0.09, 0.085), 2).moved(crown + _xyz(0, -0.06, 0.14)),
        "headlight stay": rod([crown - 0.02 * fork, crown + _xyz(0, -0.06, 0.1)], 0.02, STEP),
        "handlebar riser": rod([crown - 0.02 * fork, clamp], 0.02, STEP / 1.5),
        "rear light": box((0.12, 0.05, 0.05), 0.03).moved((0, saddle_height - 0.03, -0.66)),
        "exhaust": rod(
            [(-0.05, 0.5, 0.25), (-0.10, 0.42, 0.31), (-0.145, 0.27, 0.27), (-0.16, 0.23, 0.1)], 0.024, STEP
        ),
        "muffler": rod([(-0.16, 0.23, 0.12), (-0.165, 0.25, -0.2), (-0.17, 0.34, -0.72)], 0.034, STEP, 12, 0.05),
    }
    anchors = {"saddle": anchor_at(seat, UP)}
    for centre, name, start, end, width in (
        (front, "front", 45, 150, 0.9 * tyre),
        (rear, "rear", 35, 160, tyre),
    ):
        path = in_plane(arc((centre[2], centre[1]), (wheel + 0.03,) * 2, start, end, 19), "zy")
        parts[f"{name} mudguard"] = tube(path, LEFT, width + 0.03, 0.014, STEP, sections=8)
    for side, x in SIDES:
        parts[f"{side} fork tube"] = rod([front + _xyz(0.09 * x, 0, 0), crown + _xyz(0.09 * x, 0, 0)], 0.024, STEP, 10)
        parts[f"{side} swing arm"] = rod([_xyz(0.06 * x, 0.36, -0.05), rear + _xyz(0.1 * x, 0, 0)], 0.022, STEP, 8)
        shock_top = _xyz(0.1 * x, saddle_height - 0.08, -0.4)
        parts[f"{side} shock"] = rod([rear + _xyz(0.1 * x, 0.02, 0.03), shock_top], 0.026, STEP, 10)
        parts[f"{side} seat rail"] = rod([_xyz(0.03 * x, saddle_height - 0.09, -0.1), shock_top], 0.016, STEP, 8)
        parts[f"{side} peg bracket"] = rod(
            [_xyz(0.1 * x, 0.36, peg[2] + 0.03), peg + _xyz(0.17 * x, 0, 0)], 0.014, STEP, 8
        )
        parts[f"{side} peg"] = rod([peg + _xyz(0.15 * x, 0, 0), peg + _xyz(0.28 * x, 0, 0)], 0.016, 0.03, 10)
        anchors[f"pedal {side}"] = anchor_at(peg + _xyz(0.225 * x, 0.016, 0), UP)
    over = front + (wheel + 0.03) * fork
    parts["front mudguard stay"] = rod([over + _xyz(0.09, 0, 0), over - _xyz(0.09, 0, 0)], 0.012, STEP, 8)
    parts["fork clamp"] = box((0.24, 0.05, 0.07), STEP).moved(crown - 0.02 * fork)
    parts["front axle"] = cylinder(0.014, 0.24, STEP, 10).turned("z", 90).moved(front)
    parts["rear axle"] = cylinder(0.014, 0.26, STEP, 10).turned("z", 90).moved(rear)
    bar, grip_parts, grip_anchors = _handlebar(clamp, grip_width, grip_height, grips_z, 0.013, 0.018)
    parts |= {"handlebar": bar, **grip_parts}
    anchors |= grip_anchors
    for side, x in SIDES:
        root = np.array([x * (grip_width / 2 - 0.14), grip_height, grips_z + 0.03])
        head = root + _xyz(0.07 * x, 0.13, 0.01)
        parts[f"{side} mirror stem"] = rod([root, head], 0.006, STEP / 1.5, 6)
        parts[f"{side} mirror"] = ellipsoid((0.055, 0.035, 0.014), 1).moved(head + _xyz(0, 0.015, 0))
    if screen:
        parts["screen"] = (
            box((0.36, 0.34, 0.006), STEP).bent(_screen).turned("x", -28).moved(crown + _xyz(0, 0.2, 0.13))
        )
    return assemble("motorcycle", parts, anchors)


def _xyz(x: float, y: float, z: float) -> Points:
    return np.array([x, y, z])


def _slanted(degrees: float) -> Points:
    """Unit vector upwards and, by 90° − `degrees`, backwards."""
    return np.array([0, np.sin(np.deg2rad(degrees)), -np.cos(np.deg2rad(degrees))])


def _wheel(name: str, centre: Points, radius: float, tyre: float, spokes: int) -> dict[str, Solid]:
    """Tyre, rim, hub and spokes of a wheel about the x axis."""
    depth = min(tyre, 0.11)

    def ring(middle: float) -> Points:
        return in_plane(arc((centre[2], centre[1]), (middle, middle), 0, 360, 41)[:-1], "zy")

    rim = radius - depth - 0.004
    thick = 0.0022 if spokes > 6 else 0.016
    hub = 0.018 if spokes > 6 else 0.06
    spoke = rod([(0, 0, hub - 0.004), (0, 0, rim)], thick, 0.11, 5)
    lines = [spoke.turned("x", 360 / spokes * index + 12).moved(centre) for index in range(spokes)]
    return {
        f"{name} tyre": tube(ring(radius - depth / 2), LEFT, tyre, depth, 0.05, closed=True, sections=8),
        f"{name} rim": tube(ring(rim), LEFT, 0.6 * tyre, 0.024, 0.06, closed=True, sections=6),
        f"{name} hub": cylinder(hub, max(0.09, 1.3 * tyre), 0.04, 12).turned("z", 90).moved(centre),
        f"{name} spokes": joined(lines),
    }


def _handlebar(
    clamp: Points, width: float, height: float, grips_z: float, bar_radius: float, grip_radius: float
) -> tuple[Solid, dict[str, Solid], dict[str, Anchor]]:
    """A bar from grip to grip that sweeps back from its clamp, both grips, and their anchors."""
    grip_length, half = 0.125, width / 2
    inner = half - grip_length / 2 - 0.01
    # The bar rises and sweeps back beside the clamp and is nearly straight where the hands are.
    bend = np.linspace(0, 1, 9)[1:]
    ease = bend**2 * (3 - 2 * bend)
    start, end = np.array([0.03, clamp[1], clamp[2]]), np.array([inner, height, grips_z + 0.012])
    path = [start]
    path += [
        np.array([start[0] + (end[0] - start[0]) * share, *(start[1:] + (end[1:] - start[1:]) * smooth)])
        for share, smooth in zip(bend, ease, strict=True)
    ]
    path.append(np.array([half + grip_length / 2 - 0.01, height, grips_z - 0.012]))
    left = np.array(path)
    bar = rod(np.concatenate([(left * (-1, 1, 1))[::-1], left]), bar_radius, 0.05, 8)
    grips, anchors = {}, {}
    for side, x in SIDES:
        middle, along = np.array([x * half, height, grips_z]), np.array([x, 0, -0.18])
        along /= np.linalg.norm(along)
        grips[f"{side} grip"] = rod(
            [middle - along * grip_length / 2, middle + along * grip_length / 2], grip_radius, 0.016, 12
        )
        anchors[f"grip {side}"] = anchor_at(middle, along, grip_radius)
    return bar, grips, anchors


def _bicycle_saddle() -> Solid:
    """A saddle whose top is at the origin: broad behind, a narrow nose in front."""
    length, width, thickness = 0.27, 0.16, 0.055

    def shaped(points: Points) -> Points:
        ahead = np.clip(points[:, 2] / length + 0.5, 0, 1)
        narrow = 1 - 0.72 / (1 + np.exp(-11 * (ahead - 0.5)))
        moved = points.copy()
        moved[:, 0] *= narrow
        # The flanks hang lower than the middle.
        moved[:, 1] -= 0.16 * (points[:, 0] / (width / 2)) ** 2 * width * narrow
        return moved

    block = box((width, thickness, length), 0.02, rounding=0.02).bent(shaped)
    return block.moved((0, -thickness / 2, -0.01))


def _motorcycle_seat() -> Solid:
    """A bench seat whose rider's place is at the origin, the pillion's behind it a little higher."""
    length, width, thickness = 0.66, 0.27, 0.09

    def shaped(points: Points) -> Points:
        behind = np.clip(0.5 - points[:, 2] / length, 0, 1)
        moved = points.copy()
        moved[:, 0] *= 0.62 + 0.38 * np.sin(np.pi * np.clip(0.12 + 0.8 * behind, 0, 1))
        moved[:, 1] += 0.05 / (1 + np.exp(-22 * (behind - 0.62))) + 0.05 * np.clip(0.2 - behind, 0, 1)
        return moved

    return box((width, thickness, length), 0.035, rounding=0.03).bent(shaped).moved((0, -thickness / 2, -0.13))


def _tank(points: Points, half: float) -> Points:
    """An ellipsoid made narrower behind, where the knees are."""
    ahead = points[:, 2] / half
    moved = points.copy()
    moved[:, 0] *= 1 + 0.22 * ahead
    moved[:, 1] *= 1 + 0.15 * ahead
    return moved


def _screen(points: Points) -> Points:
    """A flat pane bent around its vertical axis and rounded at the top."""
    moved = points.copy()
    up = np.clip(points[:, 1] / 0.34 + 0.5, 0, 1)
    moved[:, 0] *= 1 - 0.45 * up**2
    moved[:, 2] -= 2.2 * moved[:, 0] ** 2
    return moved


def _chain(front: Points, front_radius: float, rear: Points, rear_radius: float, x: float) -> Solid:
    """A closed band around two discs at `x`."""
    gap = rear - front
    slope = np.rad2deg(np.arctan2(gap[1], -gap[2]))
    ahead = arc((front[2], front[1]), (front_radius,) * 2, -90 - slope, 90 - slope, 17)
    behind = arc((rear[2], rear[1]), (rear_radius,) * 2, 90 - slope, 270 - slope, 9)
    return tube(in_plane(np.concatenate([ahead, behind]), "zy", x), LEFT, 0.009, 0.009, 0.06, closed=True, sections=6)
