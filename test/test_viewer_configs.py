"""The RViz and Foxglove configurations name what the node publishes, in the QoS that it publishes with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

CONFIG = Path(__file__).resolve().parent.parent / "config"
RVIZ, FOXGLOVE = CONFIG / "ivlm.rviz", CONFIG / "foxglove_layout.json"
NODE = "ivlm_contact"

# The classes that RViz 2 ships with (packages rviz_common and rviz_default_plugins of Humble).
RVIZ_CLASSES = {
    "rviz_common/Displays",
    "rviz_common/Help",
    "rviz_common/Selection",
    "rviz_common/Time",
    "rviz_common/Tool Properties",
    "rviz_common/Transformation",
    "rviz_common/Views",
    *(
        f"rviz_default_plugins/{name}"
        for name in (
            "AccelStamped Axes Camera DepthCloud Effort FluidPressure Grid GridCells Illuminance Image "
            "InteractiveMarkers LaserScan Map Marker MarkerArray Odometry Path PointCloud PointCloud2 PointStamped "
            "Polygon Pose PoseArray PoseWithCovariance Range RelativeHumidity RobotModel TF Temperature TwistStamped "
            "Wrench FocusCamera Interact Measure MoveCamera PublishPoint Select SetGoal SetInitialPose FPS "
            "FrameAligned Orbit ThirdPersonFollower TopDownOrtho XYOrbit"
        ).split()
    ),
}
# What each display is for, by the type it subscribes to.
DISPLAYED = {"MarkerArray": "MarkerArray", "Image": "Image", "PointCloud2": "PointCloud2"}


@pytest.fixture(scope="module")
def published() -> dict[str, tuple[str, Any]]:
    """Topic below the node's name → type and QoS profile, as the node's own outputs ask for them."""
    pytest.importorskip("rclpy")
    pytest.importorskip("ivlm_ros.msg")
    from ivlm_ros.outputs import Outputs

    topics: dict[str, tuple[str, Any]] = {}

    class Recorder:
        def resolve_topic_name(self, name: str) -> str:
            return name.replace("~", f"/{NODE}")

        def create_lifecycle_publisher(self, kind: type, name: str, profile: Any, **_: Any) -> Any:
            topics[name.removeprefix("/")] = kind.__name__, profile
            return SimpleNamespace()

    # Both kinds of markers and the points: everything that there can be.
    Outputs(Recorder(), SimpleNamespace(), "ivlm_body", 100, ("canonical", "scene"), True)  # type: ignore[arg-type]
    return {name.replace("~", NODE): told for name, told in topics.items()}


@pytest.fixture(scope="module")
def rviz() -> Any:
    return yaml.safe_load(RVIZ.read_text())


@pytest.fixture(scope="module")
def foxglove() -> Any:
    return json.loads(FOXGLOVE.read_text())


def entries(tree: Any) -> Iterator[dict[str, Any]]:
    """Every mapping of a tree."""
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from entries(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from entries(value)


def test_rviz_knows_every_class(rviz: Any) -> None:
    named = {entry["Class"] for entry in entries(rviz) if entry.get("Class")}
    assert named <= RVIZ_CLASSES
    assert {f"rviz_default_plugins/{name}" for name in ("Grid", "Image", "MarkerArray", "PointCloud2")} <= named


def test_rviz_topics_are_the_node_s_in_its_own_qos(rviz: Any, published: dict[str, tuple[str, Any]]) -> None:
    displays = [entry for entry in rviz["Visualization Manager"]["Displays"] if "Topic" in entry]
    shown = {}
    for display in displays:
        topic = display["Topic"]
        # Relative, so that a namespace of RViz's own node holds for them.
        kind, profile = published[topic["Value"]]
        shown[topic["Value"]] = display["Enabled"]
        assert kind == DISPLAYED[display["Class"].partition("/")[2]]
        assert topic["Durability Policy"].replace(" ", "_").upper() == profile.durability.name
        assert topic["Reliability Policy"].upper() == profile.reliability.name
        assert topic["History Policy"].replace(" ", "_").upper() == profile.history.name
        assert topic["Depth"] >= profile.depth
    assert {name for name, enabled in shown.items() if enabled} == {
        f"{NODE}/{name}" for name in ("markers", "overlay", "contact_points")
    }


def test_rviz_stands_in_the_markers_frame(rviz: Any) -> None:
    defaults = yaml.safe_load((CONFIG / "contact_node.yaml").read_text())["/**"]["ros__parameters"]
    assert rviz["Visualization Manager"]["Global Options"]["Fixed Frame"] == defaults["body_frame"]


def test_rviz_colours_points_by_contact(rviz: Any) -> None:
    pytest.importorskip("rclpy")
    from ivlm_ros.point_cloud import LAYOUT

    cloud = next(entry for entry in entries(rviz) if entry.get("Class") == "rviz_default_plugins/PointCloud2")
    assert cloud["Channel Name"] in (LAYOUT.names or ())
    assert (cloud["Min Intensity"], cloud["Max Intensity"], cloud["Autocompute Intensity Bounds"]) == (0, 1, False)


def test_foxglove_names_only_the_node_s_topics(foxglove: Any, published: dict[str, tuple[str, Any]]) -> None:
    known = {f"/{name}" for name in published} | {"/diagnostics"}
    configurations = foxglove["configById"]
    named = {
        configurations["Image!overlay"]["imageMode"]["imageTopic"],
        configurations["RawMessages!contacts"]["topicPath"].partition(".")[0],
        configurations["DiagnosticSummary!node"]["topicToRender"],
        configurations["DiagnosticStatusPanel!node"]["topicToRender"],
        *configurations["3D!contact"]["topics"],
        *(path["value"].partition(".")[0] for path in configurations["Plot!latency"]["paths"]),
    }
    assert named <= known
    assert named >= {f"/{NODE}/{name}" for name in ("overlay", "markers", "contact_points", "human_contacts")}
    # And nothing else in the file looks like one of the node's topics.
    assert set(re.findall(rf"/{NODE}/\w+", FOXGLOVE.read_text())) <= known


def test_foxglove_layout_holds_each_panel_once(foxglove: Any) -> None:
    configurations = foxglove["configById"]

    def panels(layout: Any) -> list[str]:
        if isinstance(layout, str):
            below = [tab["layout"] for tab in configurations[layout].get("tabs", [])]
            return [layout, *(panel for inner in below for panel in panels(inner))]
        return [*panels(layout["first"]), *panels(layout["second"])]

    assert sorted(panels(foxglove["layout"])) == sorted(configurations)
    kinds = {panel.partition("!")[0] for panel in configurations}
    assert kinds == {"Image", "3D", "DiagnosticSummary", "DiagnosticStatusPanel", "Plot", "RawMessages", "Tab"}


def test_foxglove_plots_latencies_that_the_node_reports(foxglove: Any) -> None:
    pytest.importorskip("rclpy")
    from ivlm_ros.diagnostics import Counters

    counters = Counters()
    for stage in ("total", "model"):
        counters.latency(stage, 0.1)
    keys = [
        match[1]
        for path in foxglove["configById"]["Plot!latency"]["paths"]
        if (match := re.search(r'key=="(\w+)"', path["value"]))
    ]
    assert keys
    assert set(keys) <= set(counters.report())
    source = (CONFIG.parent / "ivlm_ros/contact_node.py").read_text()
    for key in keys:
        assert f'counters.latency("{key.split("_")[1]}"' in source
