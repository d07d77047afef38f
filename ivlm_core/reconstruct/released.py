"""The released version's fit with its own constants, to compare with: one start, one energy, 250 steps of Adam.

    5 · (1 − Σ a·m / Σ (a + m)) + 1e-4 · |centroid of a − middle of the mask's box|² + 10 · Σ p_o p_h d / Σ p_o p_h

with a the silhouette, m the mask, d the distances between all contact points of both sides (pixels of the image,
metres). The first term is half a Dice loss, whose best value is 0.5. The object's scale stays; hidden pixels count as
empty. The start: y and z turned round, the object's contact moved onto the body's, then one assignment of nearest
neighbours, in positions and normals, and one rigid alignment.

Two things are ours: the silhouette is `coverage`, not a soft rasteriser's, and contacts are the weighted points that
the rest of this room uses, not every vertex.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ivlm_core.reconstruct.descent import Journal
from ivlm_core.reconstruct.fit_mesh import FitMesh
from ivlm_core.reconstruct.levels import Observation, Target, mask_box
from ivlm_core.reconstruct.patches import ContactPoints
from ivlm_core.reconstruct.pose import Floats, Pose, rotations
from ivlm_core.reconstruct.silhouette import Coverage, coverage

MASK_WEIGHT, CENTROID_WEIGHT, CONTACT_WEIGHT = 5.0, 1e-4, 10.0
STEPS, ROTATION_RATE, TRANSLATION_RATE = 250, 5e-2, 1e-2


def released_fit(
    mesh: FitMesh, seen: Observation, finest: Target, scale: float, journal: Journal
) -> tuple[Pose, float]:
    """The pose after the last step, and the energy there.

    Parameters
    ----------
    seen : with contact on both sides. finest : its target. scale : the object's, which stays.
    """
    assert seen.human is not None
    assert seen.thing is not None
    centre = torch.from_numpy(mesh.centre)
    turn, shift = released_start(seen.human, seen.thing, mesh.centre, scale)
    # The rows of a rotation that is applied to columns are the columns of one that is applied to rows, as theirs is.
    six = torch.from_numpy(turn[:2].reshape(1, 6).copy()).requires_grad_()
    move = torch.from_numpy((shift + scale * turn @ mesh.centre)[None]).requires_grad_()
    size = torch.tensor([scale], dtype=torch.float64)
    box = mask_box(seen.mask)
    adam = torch.optim.Adam([{"params": [six], "lr": ROTATION_RATE}, {"params": [move], "lr": TRANSLATION_RATE}])
    for step in range(STEPS + 1):
        rotation = rotations(six).transpose(1, 2)
        translation = move - size[:, None] * (rotation @ centre)
        covered = coverage(mesh.fine, rotation, translation, size, finest.camera)
        energy = released_energy(covered, finest, box, seen, rotation, translation, size)
        pose = Pose(rotation[0].detach().numpy(), translation[0].detach().numpy(), scale)
        if step == STEPS or not torch.isfinite(energy):
            break
        journal.note(pose)
        adam.zero_grad()
        energy.backward()
        adam.step()
    return pose, float(energy.detach())


def released_energy(
    covered: Coverage,
    finest: Target,
    box: tuple[int, int, int, int],
    seen: Observation,
    rotation: Tensor,
    translation: Tensor,
    scale: Tensor,
) -> Tensor:
    """() the energy of one pose; `box` is the mask's, in pixels of the image."""
    assert seen.human is not None
    assert seen.thing is not None
    values = covered.values.double()
    area = values.sum()
    mask = 1.0 - (values * finest.mask[covered.pixel]).sum() / (area + finest.area)
    # From the window's pixels back to the image's.
    window, image = finest.camera, seen.intrinsics
    x = (values * (covered.pixel % window.width)).sum() / area.clamp_min(1e-6)
    y = (values * (covered.pixel // window.width)).sum() / area.clamp_min(1e-6)
    middle = torch.stack(
        [(x - window.cx) / window.fx * image.fx + image.cx, (y - window.cy) / window.fy * image.fy + image.cy]
    )
    wanted = torch.tensor([(box[0] + box[2] - 1) / 2, (box[1] + box[3] - 1) / 2], dtype=torch.float64)
    centroid = ((middle - wanted) ** 2).sum() if float(area.detach()) > 0 else torch.zeros((), dtype=torch.float64)
    placed = scale * (torch.from_numpy(seen.thing.points) @ rotation[0].T) + translation
    apart = torch.cdist(placed, torch.from_numpy(seen.human.points))
    contact = torch.from_numpy(seen.thing.weights) @ apart @ torch.from_numpy(seen.human.weights)
    return MASK_WEIGHT * mask + CENTROID_WEIGHT * centroid + CONTACT_WEIGHT * contact


def released_start(human: ContactPoints, thing: ContactPoints, centre: Floats, scale: float) -> tuple[Floats, Floats]:
    """(3, 3) rotation and (3,) translation of the released version's start."""
    from scipy.spatial import cKDTree
    from scipy.spatial.transform import Rotation

    rotation = np.diag([1.0, -1.0, -1.0])
    placed = scale * thing.points @ rotation.T
    translation = human.points.mean(axis=0) - placed.mean(axis=0)
    placed = placed + translation
    normals = thing.normals @ rotation.T
    tree = cKDTree(np.concatenate([human.points, -human.normals], axis=1))
    _, partner = tree.query(np.concatenate([placed, normals], axis=1))
    matched = human.points[partner]
    if np.linalg.matrix_rank(placed - placed.mean(axis=0), tol=1e-9) < 2:
        return rotation, translation
    turn, _ = Rotation.align_vectors(matched - matched.mean(axis=0), placed - placed.mean(axis=0))
    more: Floats = turn.as_matrix()
    return more @ rotation, matched.mean(axis=0) + more @ (translation - placed.mean(axis=0))
