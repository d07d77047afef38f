"""Two people in one picture: looked at one by one, together, and each in a picture of their own.

`python benchmarks/bench_people.py`. Pictures are pairs of fresh test scenes side by side; F1 is that of the contact on
the body with each person's touched object, cut at 0.5. `ms` is the pipeline's own time for one picture with both
objects (for two pictures of one object each, that of both).
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import report
from tqdm import tqdm

from ivlm_core import Frame, ObjectQuery, Pipeline
from ivlm_core.datasets.synthetic import fresh
from ivlm_core.datasets.synthetic.store import SceneRecord
from ivlm_core.evaluate.metrics import contact_scores

SEED = 5151


def query_of(scene: SceneRecord, name: str, shift: float) -> ObjectQuery:
    """The first object of a scene, asked about for its person, `shift` pixels to the right of where it is."""
    thing = scene.objects[0]
    moved = np.array([shift, 0.0, shift, 0.0])
    boxes = [tuple((np.asarray(box, dtype=float) + moved).tolist()) for box in (thing.box, scene.person_box)]
    return ObjectQuery(thing.label, name, box_xyxy=boxes[0], person_id=name, person_box_xyxy=boxes[1])


def main() -> None:
    parser = report.parser(__doc__ or "")
    parser.add_argument("--pairs", type=int, default=60, help="pictures of two people (default: %(default)s)")
    options = parser.parse_args()
    pipeline = Pipeline.load("tiny", mode="human")
    scenes = (
        scene
        for scene in fresh("test", SEED, 4 * options.pairs)
        if scene.objects
        and scene.objects[0].touched
        and scene.objects[0].box is not None
        and scene.person_box is not None
    )
    scores: dict[str, list[float]] = {"one by one": [], "together": [], "a picture each": []}
    times: dict[str, list[float]] = {name: [] for name in scores}

    def ask(name: str, pictures: list[tuple[np.ndarray, list[ObjectQuery]]], true: dict[str, np.ndarray]) -> None:
        start = time.perf_counter()
        contacts = [
            contact for image, queries in pictures for contact in pipeline.run(Frame(image), queries).human_contacts
        ]
        times[name].append(time.perf_counter() - start)
        found = {contact.object_id: contact.probability for contact in contacts}
        for key, wanted in true.items():
            said = found.get(key, np.zeros(len(wanted), np.float32))
            scores[name].append(float(contact_scores(said, wanted > 0).f1))

    pairs = [pair for place, pair in enumerate(pairwise(scenes)) if place % 2 == 0][: options.pairs]
    for left, right in tqdm(pairs, unit=" pairs"):
        true = {"0": left.objects[0].body_contact, "1": right.objects[0].body_contact}
        both = np.concatenate([left.image, right.image], axis=1)
        queries = [query_of(left, "0", 0.0), query_of(right, "1", float(left.image.shape[1]))]
        alone = [(left.image, [query_of(left, "0", 0.0)]), (right.image, [query_of(right, "1", 0.0)])]
        ask("one by one", [(both, queries)], true)
        ask("together", [(both, [replace(query, person_box_xyxy=None) for query in queries])], true)
        ask("a picture each", alone, true)
    report.show(
        f"two people in one picture ({len(pairs)} pictures)",
        ("looked at", "F1", "ms"),
        [(name, f"{np.mean(scores[name]):.3f}", f"{np.median(times[name]) * 1e3:.0f}") for name in scores],
        options.json,
        seed=SEED,
    )


if __name__ == "__main__":
    main()
