"""The contact of the fitted scene as a PointCloud2, for whoever plans with points."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField

from ivlm_ros.messages import affordances_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from std_msgs.msg import Header

    from ivlm_core.types import FloatArray, FrameResult, IntArray

BODY, OBJECT = 0, 1
LAYOUT = np.dtype(
    [
        *((name, "<f4") for name in ("x", "y", "z", "contact", "normal_x", "normal_y", "normal_z")),
        ("surface", "<u4"),
        ("object", "<u4"),
    ]
)


def contact_cloud(result: FrameResult, header: Header, threshold: float) -> PointCloud2:
    """The vertices in contact, in the frame of `header`.

    Fields
    ------
    x, y, z : metres. contact : probability on the body, affordance on the object, at least `threshold`.
    normal_x, normal_y, normal_z : unit, outward. surface : 0 the person's skin, 1 the object.
    object : number of the object in the order of the ObjectAffordanceArray.
    """
    rows = [np.zeros(0, LAYOUT)]
    used = affordances_of(result)
    for number, fitted in enumerate(result.reconstructions):
        if fitted.body is not None and fitted.body_contact is not None:
            body = fitted.body
            rows.append(_rows(body.vertices, body.faces, fitted.body_contact, threshold, BODY, number))
        if fitted.pose_valid and number in used:
            values = used[number].probability
            rows.append(_rows(fitted.placed(), fitted.mesh.faces, values, threshold, OBJECT, number))
    points = np.concatenate(rows)
    kinds = {"<f4": PointField.FLOAT32, "<u4": PointField.UINT32}
    data = array("B")
    data.frombytes(points.tobytes())
    return PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=[
            PointField(name=name, offset=offset, datatype=kinds[kind.str], count=1)
            for name, (kind, offset) in ((name, LAYOUT.fields[name][:2]) for name in LAYOUT.names or ())  # type: ignore[index]
        ],
        is_bigendian=False,
        point_step=LAYOUT.itemsize,
        row_step=LAYOUT.itemsize * len(points),
        data=data,
        is_dense=True,
    )


def _rows(
    vertices: FloatArray, faces: IntArray, values: FloatArray, threshold: float, surface: int, number: int
) -> NDArray:
    chosen = np.flatnonzero(values >= np.float32(threshold))
    rows = np.zeros(len(chosen), LAYOUT)
    normals = _normals(vertices, faces, chosen)
    for axis, name in enumerate("xyz"):
        rows[name] = vertices[chosen, axis]
        rows[f"normal_{name}"] = normals[:, axis]
    rows["contact"], rows["surface"], rows["object"] = values[chosen], surface, number
    return rows


def _normals(vertices: FloatArray, faces: IntArray, chosen: NDArray[np.int64]) -> FloatArray:
    """(n, 3) area-weighted normals of some vertices, unit or zero."""
    wanted = np.zeros(len(vertices), dtype=bool)
    wanted[chosen] = True
    near = faces[wanted[faces].any(axis=1)]
    corners = vertices[near].astype(np.float64)
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros((len(vertices), 3))
    for corner in range(3):
        np.add.at(total, near[:, corner], across)
    total = total[chosen]
    length = np.linalg.norm(total, axis=1, keepdims=True)
    normals: FloatArray = np.divide(total, length, out=np.zeros_like(total), where=length > 0).astype(np.float32)
    return normals
