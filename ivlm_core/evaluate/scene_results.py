"""The part of the results page about objects and bodies in the scene.

reconstruct.json        `ivlm evaluate --task reconstruct`: predicted contacts, masks cut out of boxes
reconstruct_masks.json  … with the true masks, as a detector that gives masks sends them
reconstruct_truth.json  … with true contacts and masks
bodies.json             `ivlm evaluate --task bodies`
retrieval.json          `ivlm evaluate --task retrieve`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Report = Mapping[str, Any]


@dataclass(frozen=True)
class SceneRun:
    """One evaluation that the page shows.

    Attributes
    ----------
    name : of its file, without `.json`. title : its heading. task, contacts, masks : as for `ivlm evaluate`.
    """

    name: str
    title: str
    task: str
    contacts: str = "predicted"
    masks: str | None = None

    def command(self, file: str) -> str:
        """What makes the file."""
        masks = f" --masks {self.masks}" if self.masks else ""
        contacts = f" --contacts {self.contacts}{masks}" if self.task == "reconstruct" else ""
        return f"ivlm evaluate --task {self.task} --scenes {FITTED_SCENES}{contacts} --json {file}"


# Each object of a scene is fitted in four ways, some seconds on two cores: the tables take so many scenes.
FITTED_SCENES = 100

SCENE_RUNS = (
    SceneRun("reconstruct", "Predicted contacts, masks cut out of the objects' boxes", "reconstruct"),
    SceneRun("reconstruct_masks", "Predicted contacts, true masks", "reconstruct", masks="ground-truth"),
    SceneRun("reconstruct_truth", "True contacts and masks", "reconstruct", contacts="ground-truth"),
    SceneRun("bodies", "Bodies fitted to keypoints", "bodies"),
    SceneRun("retrieval", "Finding the mesh", "retrieve"),
)
VARIANTS = {
    "main": "**this package**",
    "no_contact": "no contact term (distance from apparent size)",
    "part_priors": "handcrafted part contacts of the category",
    "released_energy": "released energy with its constants",
}
WAYS = {
    "keypoints": "keypoints",
    "keypoints_and_up": "keypoints, and which way is up",
    "keypoints_and_depth": "keypoints and depth image",
    "tracked": "from the last frame's fit",
}


def scene_section(reports: Mapping[str, Report | None], folder: str) -> str:
    """Markdown of all evaluations; those without a report say how they are made.

    Parameters
    ----------
    reports : name of the file → its report. folder : of the files, for the commands.
    """
    parts = []
    for run in SCENE_RUNS:
        report = reports.get(run.name)
        parts.append(f"### {run.title}\n")
        if report is None:
            parts.append(f"Not measured yet: `{run.command(f'{folder}/{run.name}.json')}`.\n")
        elif run.task == "reconstruct":
            parts.append(_reconstruction(report))
        else:
            parts.append(_bodies(report) if run.task == "bodies" else _retrieval(report))
    return "\n".join(parts)


def _reconstruction(report: Report) -> str:
    header = (
        "",
        "Chamfer cm",
        "median",
        "rotation °",
        "transl. cm",
        "scale error",
        "penetration cm",
        "mask IoU",
        "success at 5 cm",
        "with a pose",
        "s per object",
    )
    keys = (
        ("chamfer_cm", 1),
        ("chamfer_median_cm", 1),
        ("rotation_deg", 0),
        ("translation_cm", 1),
        ("scale_error", 3),
        ("penetration_cm", 2),
        ("mask_iou", 2),
        ("success_5cm", 2),
        ("valid", 2),
        ("seconds_per_object", 2),
    )
    blocks = {"main": report, **report["variants"]}
    lines = [_line(header), f"|---|{'---:|' * (len(header) - 1)}"]
    for name, title in VARIANTS.items():
        if name in blocks:
            lines.append(_line((title, *(_number(blocks[name].get(key), digits) for key, digits in keys))))
    resting = report["resting"]
    if resting["objects"]:
        cells = (_number(resting.get(key), digits) for key, digits in keys)
        lines.append(_line((f"… objects sat or lain on ({resting['objects']})", *cells)))
    told = f"{report['objects']} objects of {report['scenes']} scenes of {report['split']}."
    ratio = report["variants"].get("no_contact", {}).get("chamfer_of_main")
    if ratio is not None:
        told += f" On the objects that both have a pose of, the Chamfer distance is {ratio:.2f} times that without the"
        told += " contact term."
    return "\n".join([*lines, "", told, ""])


def _bodies(report: Report) -> str:
    header = ("Anny fitted to", "root-aligned cm", "Procrustes cm", "absolute cm", "median", "fitted", "CPU s")
    keys = (
        ("root_aligned_cm", 1),
        ("procrustes_cm", 1),
        ("absolute_cm", 1),
        ("absolute_cm_median", 1),
        ("fitted", 2),
        ("cpu_seconds", 2),
    )
    lines = [_line(header), f"|---|{'---:|' * (len(header) - 1)}"]
    for name, title in WAYS.items():
        lines.append(_line((title, *(_number(report[name].get(key), digits) for key, digits in keys))))
    told = f"{report['scenes']} scenes of {report['split']}; mean joint error. One picture does not tell how tall"
    return "\n".join([*lines, "", f"{told} somebody is, so the absolute error is mostly along the line of sight.", ""])


def _retrieval(report: Report) -> str:
    lines = ["| asked for | top 1 | top 5 | by chance, top 1 | top 5 |", "|---|---:|---:|---:|---:|"]
    titles = {
        "category": "the category, among all meshes",
        "instance": "the very instance, added to its category",
        "shape": "the nearest shape of its category, itself held out",
    }
    for name, title in titles.items():
        block = report[name]
        shares = (block["top1"], block["top5"], block["chance"]["top1"], block["chance"]["top5"])
        lines.append(_line((title, *(_number(share, 2) for share in shares))))
    told = f"{report['objects']} objects of {report['scenes']} scenes of {report['split']}, {report['instances']}"
    return "\n".join([*lines, "", f"{told} instances per category; see `docs/objects.md`.", ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
