"""A serialised MarkerArray in which only stamps and colours are replaced from frame to frame.

Nothing about the serialisation is assumed but what can be seen: the message is serialised once with marks that occur
nowhere else, and the places where they turn up are the places to write to. Where they do not turn up as expected, there
is no template, and the caller sends ordinary messages.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rclpy.serialization import serialize_message
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

if TYPE_CHECKING:
    from ivlm_core.types import FloatArray
    from ivlm_ros.markers import Item

STAMP_MARK = (0x1B5A7C3D, 0x2E6F4D1B)
COLOR_MARK = (0.123456789, 0.987654321, 0.555444333, 0.111222333)


def _layout(items: Sequence[Item]) -> tuple[Any, ...]:
    """Everything of the items that the template holds fixed."""
    return tuple((item.ns, item.index, item.place, item.text, id(item.mesh)) for item in items)


@dataclass(frozen=True)
class MarkerTemplate:
    """See the module's text.

    Attributes
    ----------
    meshes : kept alive, so that no other mesh gets the identity that `layout` names.
    stamps : where the stamps of all markers are.
    colors : for each item with a mesh, in order, where its colours begin.
    """

    layout: tuple[Any, ...]
    meshes: tuple[Any, ...]
    data: bytes
    stamps: tuple[int, ...]
    colors: tuple[int, ...]

    @classmethod
    def build(
        cls, items: Sequence[Item], marker_of: Callable[[Item, Header], Marker], header: Header
    ) -> MarkerTemplate | None:
        """The template of these items, or None where this middleware serialises in a way that cannot be followed."""
        marked = Header(frame_id=header.frame_id)
        marked.stamp.sec, marked.stamp.nanosec = STAMP_MARK
        markers = [marker_of(item, marked) for item in items]
        mark = ColorRGBA(**dict(zip("rgba", COLOR_MARK, strict=True)))
        for marker in markers:
            marker.colors = [mark] * len(marker.colors)
        data = serialize_message(MarkerArray(markers=markers))
        stamps = _find_all(data, struct.pack("<iI", *STAMP_MARK))
        color = struct.pack("<4f", *COLOR_MARK)
        colors, position = [], 0
        for marker in markers:
            if marker.colors:
                # The colours stand together, behind their number.
                block = struct.pack("<I", len(marker.colors)) + color * len(marker.colors)
                position = data.find(block, position)
                if position < 0:
                    return None
                colors.append(position + 4)
                position += len(block)
        if len(stamps) != len(markers):
            return None
        return cls(_layout(items), tuple(item.mesh for item in items), data, tuple(stamps), tuple(colors))

    def fits(self, items: Sequence[Item]) -> bool:
        """True where the items differ from the template's in their values alone."""
        return self.layout == _layout(items)

    def fill(self, items: Sequence[Item], header: Header, palette: FloatArray) -> bytes:
        """The serialised message with this header's stamp and the colours of the items' values.

        Parameters
        ----------
        palette : (S, 4) float32 red, green, blue, alpha in [0, 1] of each shade.
        """
        data = bytearray(self.data)
        stamp = struct.pack("<iI", header.stamp.sec, header.stamp.nanosec)
        for position in self.stamps:
            data[position : position + len(stamp)] = stamp
        drawn = [(item.mesh, item.values) for item in items if item.mesh is not None and item.values is not None]
        for position, (mesh, values) in zip(self.colors, drawn, strict=True):
            block = palette[mesh.shades(values)].astype("<f4").tobytes()
            data[position : position + len(block)] = block
        return bytes(data)


def _find_all(data: bytes, pattern: bytes) -> list[int]:
    found, position = [], data.find(pattern)
    while position >= 0:
        found.append(position)
        position = data.find(pattern, position + len(pattern))
    return found
