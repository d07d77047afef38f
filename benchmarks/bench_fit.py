"""Fitting one object at 640×480: whole fits cold and warm, and one step against a soft rasteriser in torch.

`python benchmarks/bench_fit.py`; the budget is 2 s for a cold fit and 0.2 s from the last pose, on two cores.
"""

from __future__ import annotations

import numpy as np
import report
import torch
from torch import Tensor

from ivlm_core.bodies import load_body
from ivlm_core.datasets.synthetic import SAMPLE, SceneCamera, SynthHoi
from ivlm_core.objects import library_shape
from ivlm_core.reconstruct.energy import Energy, Weights
from ivlm_core.reconstruct.fit import fit_object
from ivlm_core.reconstruct.fit_mesh import FitMesh
from ivlm_core.reconstruct.levels import Observation, target
from ivlm_core.reconstruct.patches import contact_points
from ivlm_core.reconstruct.pose import Pose
from ivlm_core.reconstruct.silhouette import OutlineMesh, coverage
from ivlm_core.types import CameraIntrinsics, Mesh, PosedBody

# Scenes of the sample that ships, and which of their objects; pictures of 256×192 become 640×480.
SCENES = ((2, 0), (5, 0), (12, 0), (10, 1))
ENLARGED = 2.5


def main() -> None:
    options = report.parser(__doc__ or "").parse_args()
    torch.set_num_threads(1)
    rows = []
    for number, which in SCENES:
        label, mesh, seen, truth = observed(number, which)
        ready = FitMesh(mesh)
        _ = ready.volume
        found = fit_object(ready, seen)
        moved = Pose(found.pose.rotation, found.pose.translation + np.array([0.01, 0.0, 0.02]), found.pose.scale)
        rows.append(
            (
                label,
                len(mesh.faces),
                len(ready.proxy.faces),
                int(seen.mask.sum()),
                round(report.milliseconds(lambda m=mesh: FitMesh(m).volume, repeats=1, warm=0)),
                round(report.milliseconds(lambda r=ready, s=seen: fit_object(r, s), repeats=3, warm=0)),
                round(report.milliseconds(lambda r=ready, s=seen, p=moved: fit_object(r, s, None, p), repeats=5)),
                f"{found.residuals.get('mask_iou', float('nan')):.2f}",
                f"{100 * apart(mesh.vertices, found.pose, truth):.1f}",
            )
        )
    columns = ("object", "faces", "proxy", "mask px", "prepare ms", "cold ms", "warm ms", "IoU", "error cm")
    report.show("fit 640×480", columns, rows, options.json, steps=steps())


def steps() -> list[dict[str, object]]:
    """One step, forward and backward, by resolution and number of poses; the soft rasteriser where it is bearable."""
    label, mesh, seen, truth = observed(*SCENES[0])
    ready = FitMesh(mesh)
    table = []
    for long_side, poses, baseline in ((24, 1, True), (24, 24, False), (48, 1, True), (48, 3, False), (96, 1, False)):
        level = target(seen, long_side)
        energy = Energy(ready.proxy, level, Weights(centroid=0, contact=0, depth=0, penetration=0, scale=0))
        start = batch(truth, poses)
        rays = len(coverage(ready.proxy, *start, level.camera).values)

        def ours(energy: Energy = energy, start: tuple[Tensor, ...] = start) -> None:
            moving = [part.clone().requires_grad_() for part in start]
            energy(*moving).sum().backward()

        taken = report.milliseconds(ours)
        row: dict[str, object] = {
            "object": label,
            "faces": len(ready.proxy.faces),
            "long side px": long_side,
            "poses": poses,
            "rays": rays,
            "ours ms": round(taken, 2),
            "million rays/s": round(rays / taken / 1e3, 2),
        }
        if baseline:
            camera = level.camera

            def soft(
                mesh: OutlineMesh = ready.proxy, start: tuple[Tensor, ...] = start, camera: CameraIntrinsics = camera
            ) -> None:
                moving = [part.clone().requires_grad_() for part in start]
                soft_silhouette(mesh, *moving, camera).sum().backward()

            slow = report.milliseconds(soft, repeats=1, warm=0)
            row |= {"soft ms": round(slow), "ratio": round(slow / taken)}
        table.append(row)
    for row in table:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    return table


def soft_silhouette(
    mesh: OutlineMesh,
    rotation: Tensor,
    translation: Tensor,
    scale: Tensor,
    camera: CameraIntrinsics,
    sigma: float = 0.5,
) -> Tensor:
    """(height, width) 1 − Π (1 − sigmoid(±d²/σ²)), d the distance to each face in pixels (Liu et al. 2019)."""
    vertices = torch.from_numpy(mesh.vertices).double()
    placed = scale[0] * vertices @ rotation[0].T + translation[0]
    pixel = placed[:, :2] / placed[:, 2:] * torch.tensor([camera.fx, camera.fy]) + torch.tensor([camera.cx, camera.cy])
    corners = pixel[torch.from_numpy(mesh.faces.astype(np.int64))]  # (F, 3, 2)
    row, column = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing="ij")
    place = torch.stack([column, row], dim=-1).reshape(-1, 1, 2).double()
    left_out = torch.ones(len(place), dtype=torch.float64)
    for some in corners.split(64):
        areas, nearest = [], torch.tensor(torch.inf, dtype=torch.float64)
        for k in range(3):
            a, b = some[:, k], some[:, (k + 1) % 3]
            along, offset = b - a, place - a
            share = ((offset * along).sum(-1) / (along * along).sum(-1).clamp_min(1e-12)).clamp(0, 1)
            nearest = torch.minimum(nearest, ((offset - share[..., None] * along) ** 2).sum(-1))
            areas.append(offset[..., 0] * along[:, 1] - offset[..., 1] * along[:, 0])
        inside = torch.stack([area >= 0 for area in areas]).all(0) | torch.stack([area <= 0 for area in areas]).all(0)
        signed = torch.where(inside, nearest, -nearest)
        left_out = left_out * (1 - torch.sigmoid(signed / sigma**2)).clamp_min(1e-6).prod(1)
    return (1 - left_out).reshape(camera.height, camera.width)


def observed(scene: int, which: int) -> tuple[str, Mesh, Observation, Pose]:
    """Label, mesh, observation and true pose of one object, seen at 640×480."""
    record = SynthHoi(SAMPLE, "test")[scene]
    thing = record.objects[which]
    small = record.intrinsics
    # Integer coordinates at pixel centres: half a pixel is added before enlarging and taken away after.
    centre = [(c + 0.5) * ENLARGED - 0.5 for c in (small.cx, small.cy)]
    camera = CameraIntrinsics(small.fx * ENLARGED, small.fy * ENLARGED, *centre, 640, 480)
    placed = SceneCamera(
        record.intrinsics, record.camera_rotation.astype(np.float64), record.camera_position.astype(np.float64)
    )
    mesh = library_shape(thing.label, **thing.sizes).mesh
    body = PosedBody(placed.to_optical(record.body_vertices()), load_body("anny").mesh.faces, "anny")
    truth = Pose(
        placed.rotation @ thing.rotation.astype(np.float64), placed.to_optical(thing.translation[None])[0], 1.0
    )
    person = depths(OutlineMesh(body.vertices, body.faces), Pose(np.eye(3), np.zeros(3), 1.0), camera)
    own = depths(OutlineMesh(mesh.vertices, mesh.faces), truth, camera)
    mask = np.isfinite(own) & (own < person)
    seen = Observation(
        camera,
        mask,
        mask | ~np.isfinite(person),
        None,
        body,
        contact_points(body.vertices, body.faces, thing.body_contact.astype(np.float32)),
        contact_points(mesh.vertices, mesh.faces, thing.object_contact.astype(np.float32)),
    )
    return thing.label, mesh, seen, truth


def depths(mesh: OutlineMesh, pose: Pose, camera: CameraIntrinsics) -> np.ndarray:
    """(H, W) metres, infinite where the mesh is not seen."""
    covered = coverage(mesh, *batch(pose, 1), camera, depth=True)
    result = np.full(camera.height * camera.width, np.inf)
    assert covered.hit_points is not None
    result[covered.pixel[covered.hit_pixels].numpy()] = pose.placed(covered.hit_points.numpy())[:, 2]
    return result.reshape(camera.height, camera.width)


def batch(pose: Pose, count: int) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.from_numpy(pose.rotation).repeat(count, 1, 1),
        torch.from_numpy(pose.translation).repeat(count, 1),
        torch.full((count,), pose.scale, dtype=torch.float64),
    )


def apart(points: np.ndarray, first: Pose, second: Pose) -> float:
    """Chamfer distance of the mesh in two poses, metres."""
    from scipy.spatial import cKDTree

    one, other = first.placed(points), second.placed(points)
    return 0.5 * float(cKDTree(one).query(other)[0].mean() + cKDTree(other).query(one)[0].mean())


if __name__ == "__main__":
    main()
