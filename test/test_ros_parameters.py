"""The parameter table: every value is checked, every refusal says why, the file and the launch file agree with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy")

import rclpy
from rcl_interfaces.msg import ParameterType
from rclpy.parameter import Parameter

from ivlm_core.errors import IvlmError
from ivlm_ros.parameters import TABLE, Changes, NodeParameters, ParameterStore, check_value, parameter_table

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def context() -> Iterator[rclpy.Context]:
    made = rclpy.Context()
    rclpy.init(context=made)
    yield made
    made.try_shutdown()


def make_node(context: rclpy.Context, **start_values: Any) -> Any:
    overrides = [Parameter(name, value=value) for name, value in start_values.items()]
    return rclpy.create_node("parameters_test", context=context, parameter_overrides=overrides)


def test_table_and_dataclass_have_the_same_names() -> None:
    assert list(TABLE) == [entry.name for entry in dataclasses.fields(NodeParameters)]


def test_names_that_launch_files_rely_on() -> None:
    assert {
        "model",
        "device",
        "dtype",
        "image_reliability",
        "image_transport",
        "contact_threshold",
        "max_rate",
        "detections_type",
        "reasoning",
        "labels",
    } <= set(TABLE)


def test_every_default_passes_its_own_check() -> None:
    for entry in dataclasses.fields(NodeParameters):
        default = getattr(NodeParameters(), entry.name)
        assert check_value(entry.name, default) == default


def test_shipped_file_holds_every_parameter_with_its_default() -> None:
    text = (ROOT / "config" / "contact_node.yaml").read_text()
    values = yaml.safe_load(text)["/**"]["ros__parameters"]
    assert list(values) == list(TABLE)
    assert {name: check_value(name, value) for name, value in values.items()} == dataclasses.asdict(NodeParameters())
    for name, entry in TABLE.items():
        # ROS tells whole numbers from others by the decimal point alone.
        assert type(values[name]) is type(getattr(NodeParameters(), name)) or isinstance(values[name], list), name
        comment = text[: text.index(f"    {name}:")].rsplit("#", 1)[1]
        mark = {Changes.ANY_TIME: "[any time]", Changes.UNCONFIGURED: "[unconfigured]", Changes.NEVER: "[start]"}
        assert mark[entry.changes] in comment, name


BAD_VALUES = [
    ("model", ""),
    ("device", "tpu"),
    ("device", "cuda:x"),
    ("dtype", "float16"),
    ("reasoning", "guess"),
    ("body_model", "star"),
    ("image_transport", "theora"),
    ("image_reliability", "sometimes"),
    ("detections_type", "yolo"),
    ("bodies_type", "vision_msgs"),
    ("rectify", True),
    ("class_names", ["<HCON>"]),
    ("person_labels", ["x" * 1_000_000]),
    ("reconstruct", "yes"),
    ("use_bodies", 1),
    ("markers", "all"),
    ("objects_path", 7),
    ("sync_queue", 0),
    ("sync_queue", 101),
    ("sync_slop", -0.1),
    ("sync_slop", float("nan")),
    ("labels", ["chair", "<HCON>"]),
    ("labels", ["x" * 1_000_000]),
    ("contact_threshold", 1.01),
    ("contact_threshold", float("nan")),
    ("max_rate", -1.0),
    ("max_rate", float("inf")),
    ("max_objects", 0),
    ("max_objects", 33),
    ("silence_timeout", 0.0),
    ("marker_triangles", 99),
    ("body_frame", " "),
    ("contact_threshold", "half"),
    ("use_depth", 1),
    ("sync_queue", 2.5),
    ("model", 7),
    ("no_such_parameter", 1),
]


@pytest.mark.parametrize(("name", "value"), BAD_VALUES)
def test_bad_value_names_the_parameter(name: str, value: Any) -> None:
    with pytest.raises(IvlmError) as caught:
        check_value(name, value)
    assert caught.value.field == name
    assert len(str(caught.value)) < 1000


def test_whole_number_is_taken_for_a_decimal_one() -> None:
    value = check_value("max_rate", 5)
    assert (value, type(value)) == (5.0, float)


def test_start_values_reach_the_store(context: rclpy.Context) -> None:
    node = make_node(context, model="/weights", max_rate=4.0, labels=["chair", "", "cup"], sync_queue=3)
    values = ParameterStore(node, lambda: False).values
    assert (values.model, values.max_rate, values.labels, values.sync_queue) == ("/weights", 4.0, ("chair", "cup"), 3)
    assert values.contact_threshold == NodeParameters().contact_threshold


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_rate", -1.0),
        ("max_rate", "fast"),
        ("labels", "chair"),
        ("model", 7),
        ("labels", ["a<b"]),
        ("use_depth", "sometimes"),
    ],
)
def test_bad_start_value_names_the_parameter(context: rclpy.Context, name: str, value: Any) -> None:
    with pytest.raises(IvlmError) as caught:
        ParameterStore(make_node(context, **{name: value}), lambda: False)
    assert caught.value.field == name


def test_every_parameter_is_described(context: rclpy.Context) -> None:
    node = make_node(context)
    ParameterStore(node, lambda: False)
    for name, entry in TABLE.items():
        descriptor = node.describe_parameter(name)
        assert entry.description in descriptor.description
        assert descriptor.read_only == (entry.changes is Changes.NEVER)
        assert descriptor.type not in (ParameterType.PARAMETER_NOT_SET, ParameterType.PARAMETER_BYTE_ARRAY)
        ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
        assert [(found.from_value, found.to_value) for found in ranges] == ([entry.bounds] if entry.bounds else [])


def test_change_at_run_time(context: rclpy.Context) -> None:
    node = make_node(context)
    configured = [True]
    store = ParameterStore(node, lambda: configured[0])
    assert node.set_parameters([Parameter("contact_threshold", value=0.25)])[0].successful
    assert node.set_parameters([Parameter("labels", value=["chair"])])[0].successful
    assert (store.values.contact_threshold, store.values.labels) == (0.25, ("chair",))

    refused = node.set_parameters([Parameter("model", value="/weights")])[0]
    assert not refused.successful
    assert "clean the node up" in refused.reason
    assert store.values.model == "tiny"
    configured[0] = False
    assert node.set_parameters([Parameter("model", value="/weights")])[0].successful
    assert store.values.model == "/weights"


def test_refused_change_leaves_everything_as_it_was(context: rclpy.Context) -> None:
    node = make_node(context)
    store = ParameterStore(node, lambda: False)
    before = store.values
    for name, value in [
        ("contact_threshold", 2.0),
        ("labels", ["<image>"]),
        ("dtype", "int8"),
        ("use_depth", 2),
        ("cache_dir", "/elsewhere"),
    ]:
        result = node.set_parameters([Parameter(name, value=value)])[0]
        assert not result.successful, name
        assert result.reason
    both = [Parameter("contact_threshold", value=0.1), Parameter("dtype", value="int8")]
    assert not node.set_parameters_atomically(both).successful
    assert store.values == before
    assert node.get_parameter("contact_threshold").value == before.contact_threshold


def test_companions_are_the_topics_that_serve_the_scene() -> None:
    both = NodeParameters(use_bodies=True, use_depth=True)
    assert both.companions == ()
    assert dataclasses.replace(both, reconstruct=True).companions == ("bodies", "depth")
    assert NodeParameters(reconstruct=True, use_depth=True).companions == ("depth",)


def test_markers_follow_what_is_estimated() -> None:
    shown = {
        (choice, fitted): NodeParameters(markers=choice, reconstruct=fitted).shown
        for choice in TABLE["markers"].choices
        for fitted in (False, True)
    }
    assert shown["auto", False] == ("canonical",)
    assert shown["auto", True] == ("scene",)
    for fitted in (False, True):
        assert shown["canonical", fitted] == ("canonical",)
        assert shown["scene", fitted] == ("scene",)
        assert shown["both", fitted] == ("canonical", "scene")
        assert shown["off", fitted] == ()


def test_what_has_no_effect_without_the_scene_is_named() -> None:
    useless = NodeParameters(use_depth=True, contact_points=True, sam_path="/sam.pth", markers="both")
    assert useless.without_effect == ("use_depth", "sam_path", "contact_points", "markers (scene)")
    assert dataclasses.replace(useless, reconstruct=True).without_effect == ()
    assert NodeParameters().without_effect == ()


def test_every_body_model_has_its_own_file() -> None:
    values = NodeParameters(
        body_model="smplh", body_model_path="/h.npz", output_body_model="smplx", output_body_model_path="/x.npz"
    )
    assert values.body_paths == {"smplh": Path("/h.npz"), "smplx": Path("/x.npz")}
    assert NodeParameters().body_paths == {}


def test_parameters_of_rclpy_itself_are_left_alone(context: rclpy.Context) -> None:
    node = make_node(context)
    ParameterStore(node, lambda: True)
    assert node.set_parameters([Parameter("use_sim_time", value=True)])[0].successful


def test_the_readme_has_the_table_of_all_parameters() -> None:
    assert parameter_table() in (ROOT / "README.md").read_text(), "put in what python -m ivlm_ros.parameters prints"
