"""Lifting onto a cloud of points: every pixel shows at most one point, so there is nothing to interpolate."""

from __future__ import annotations

import torch
from torch import Tensor

from ivlm_core.errors import InputError


def lift_points(values: Tensor, pixel_to_point: Tensor, point_count: int) -> Tensor:
    """Average what the views show of each point: over its pixels in a view, then over the views that see it.

    Parameters
    ----------
    values : (K, J, H, W) float probabilities or affordance values in [0, 1], *not* logits. Only pixels that show a
        point are read; the others may hold anything.
    pixel_to_point : (J, H, W) integer point numbers, negative where a pixel shows no point.
    point_count : N.

    Returns
    -------
    (K, N) float32 (float64 for float64 values) in [0, 1], differentiable in `values`; points that no view sees are 0.

    Raises
    ------
    InputError : shapes that do not fit, a point number of `point_count` or more, or a value outside [0, 1].
    """
    if values.ndim != 4 or pixel_to_point.ndim != 3 or values.shape[1:] != pixel_to_point.shape:
        raise InputError(
            "values",
            f"have shape {tuple(values.shape)} and the point map {tuple(pixel_to_point.shape)}",
            "give (K, J, H, W) values and a (J, H, W) map",
        )
    if pixel_to_point.is_floating_point():
        raise InputError("pixel_to_point", f"is {pixel_to_point.dtype}", "give whole point numbers")
    views, queries = len(pixel_to_point), len(values)
    numbers = pixel_to_point.to(values.device).long().flatten(1)  # (J, P)
    if point_count < 1 or (numbers.numel() and int(numbers.max()) >= point_count):
        raise InputError("pixel_to_point", f"names a point beyond the {point_count} there are", "give the cloud's size")
    shown = torch.nonzero((numbers >= 0).flatten()).squeeze(1)  # (S,) pixels of all views
    view = shown // max(1, numbers.shape[1])
    slots = view * point_count + numbers.flatten()[shown]  # (S,) place in (J, N)
    seen = values.flatten(1).index_select(1, shown)  # (K, S)
    seen = seen if seen.dtype == torch.float64 else seen.float()
    if not bool(((seen >= 0) & (seen <= 1)).all()):
        raise InputError("values", "lie outside [0, 1]", "apply the sigmoid to logits first")

    pixels = torch.zeros(views * point_count, dtype=seen.dtype, device=seen.device)
    pixels = pixels.index_add(0, slots, torch.ones_like(slots, dtype=seen.dtype))
    total = torch.zeros(views * point_count, queries, dtype=seen.dtype, device=seen.device)
    total = total.index_add(0, slots, seen.T)
    per_view = (total / pixels.clamp(min=1)[:, None]).view(views, point_count, queries)
    seeing = (pixels > 0).view(views, point_count).sum(0).clamp(min=1)  # (N,)
    return (per_view.sum(0) / seeing[:, None]).T.clamp(0.0, 1.0)
