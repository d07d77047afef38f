"""What of an image is looked at for whom: the whole of it, or, where several people are told apart, each one alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ivlm_core.types import ByteArray, ObjectQuery

# A person is shown with this much of the surroundings, as a share of the longer side of what must be seen.
MARGIN = 0.15
# Below this many pixels a side nothing can be recognised, and more of the surroundings is shown.
SMALLEST_SIDE = 64


def pictures_of_people(image: ByteArray, queries: Sequence[ObjectQuery]) -> list[tuple[ByteArray, list[int]]]:
    """The pictures that the queries are asked about, each with the numbers of its queries.

    The method looks at one person in an image. Where the queries name several, by boxes, each person is cut out with
    their objects and a margin; queries without a person's box are asked about the whole image.

    Parameters
    ----------
    image : (H, W, 3) uint8 RGB.

    Returns
    -------
    (h, w, 3) views of `image` with h ≤ H, w ≤ W, and every number of `queries` with exactly one of them; numbers ascend
    within a picture. Without queries there is none.
    """
    boxes = {query.person_box_xyxy for query in queries if query.person_box_xyxy is not None}
    if len(boxes) < 2:
        return [(image, list(range(len(queries))))] if queries else []
    groups: dict[tuple[float, float, float, float] | None, list[int]] = {}
    for number, query in enumerate(queries):
        groups.setdefault(query.person_box_xyxy, []).append(number)
    return [
        (image if box is None else _cut_out(image, [box, *_boxes(queries, numbers)]), numbers)
        for box, numbers in groups.items()
    ]


def _boxes(queries: Sequence[ObjectQuery], numbers: Sequence[int]) -> list[tuple[float, float, float, float]]:
    return [box for box in (queries[number].box_xyxy for number in numbers) if box is not None]


def _cut_out(image: ByteArray, boxes: Sequence[tuple[float, float, float, float]]) -> ByteArray:
    """The part of the image that holds all boxes and a margin, at least `SMALLEST_SIDE` a side where there is room."""
    height, width = image.shape[:2]
    table = np.array(boxes)
    low, high = table[:, :2].min(axis=0), table[:, 2:].max(axis=0)
    margin = MARGIN * float((high - low).max())
    sides = []
    for first, last, length in zip(low - margin, high + margin, (width, height), strict=True):
        lacking = max(0.0, SMALLEST_SIDE - (last - first)) / 2
        # A box outside of the image still leaves one pixel of it.
        start = int(np.clip(np.floor(first - lacking), 0, length - 1))
        sides.append(slice(start, int(np.clip(np.ceil(last + lacking) + 1, start + 1, length))))
    return image[sides[1], sides[0]]
