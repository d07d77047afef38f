"""Where one camera stands beside another, as `tf2` knows it, where `tf2_ros` is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ivlm_core.errors import InputError, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rclpy.node import Node


class Transforms:
    """Listens to `/tf` and `/tf_static` on construction, until `close`; without `tf2_ros` it only refuses.

    Parameters
    ----------
    node : the node that owns the subscriptions.
    """

    def __init__(self, node: Node) -> None:
        self._listener: Any = None
        self._buffer: Any = None
        try:
            import tf2_ros
        # A distribution without the package, or one that is built for another Python.
        except ImportError:
            return
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def close(self) -> None:
        """Unsubscribe."""
        if self._listener is not None:
            self._listener.unregister()
            self._listener = self._buffer = None

    def between(self, target: str, source: str) -> NDArray[np.float64]:
        """(4, 4) from coordinates in the frame `source` to those in `target`, metres; the newest that is known.

        Raises
        ------
        InputError : naming the depth's frame: nobody has said where it is, or `tf2_ros` is not installed.
        """
        from rclpy.time import Time

        problem = f"is {shown(source)}, the image's is {shown(target)}"
        if self._buffer is None:
            raise InputError(
                "depth.header.frame_id",
                f"{problem}, and tf2_ros is not installed to tell where they are",
                "publish depth that is registered to the colour image, or install ros-$ROS_DISTRO-tf2-ros-py",
            )
        try:
            found = self._buffer.lookup_transform(target, source, Time()).transform
        # tf2's own exceptions share no public base.
        except Exception as error:
            raise InputError(
                "depth.header.frame_id",
                f"{problem}, and tf has no way between them ({error})",
                "publish it on /tf_static",
            ) from error
        return matrix_of(found)


def matrix_of(transform: Any) -> NDArray[np.float64]:
    """A `geometry_msgs/Transform` as (4, 4).

    Raises
    ------
    InputError : its rotation has no length, or something is not finite.
    """
    from scipy.spatial.transform import Rotation

    turn, move = transform.rotation, transform.translation
    numbers = np.array([turn.x, turn.y, turn.z, turn.w, move.x, move.y, move.z], np.float64)
    if not np.isfinite(numbers).all() or not numbers[:4].any():
        raise InputError("transform", "has no rotation or is not finite", "mend what publishes it on /tf")
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(numbers[:4]).as_matrix()
    matrix[:3, 3] = numbers[4:]
    return matrix
