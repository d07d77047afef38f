"""The launch file, run against stand-ins that know the signatures of `launch` and `launch_ros` (Humble to Kilted)."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy")

ROOT = Path(__file__).resolve().parents[1]
LAUNCH_FILE = ROOT / "launch" / "contact.launch.py"


class DeclareLaunchArgument:
    def __init__(self, name: str, *, default_value: str | None = None, description: str | None = None) -> None:
        self.name, self.default_value, self.description = name, default_value, description


class EmitEvent:
    def __init__(self, *, event: Any) -> None:
        self.event = event


class LogInfo:
    def __init__(self, *, msg: str) -> None:
        self.msg = msg


class OpaqueFunction:
    def __init__(self, *, function: Callable[..., Any], args: Any = None, kwargs: Any = None) -> None:
        self.function = function


class RegisterEventHandler:
    def __init__(self, event_handler: Any) -> None:
        self.event_handler = event_handler


class SetEnvironmentVariable:
    def __init__(self, name: str, value: str) -> None:
        self.name, self.value = name, value


class LaunchDescription:
    def __init__(self, initial_entities: Any = None) -> None:
        self.entities = list(initial_entities or [])


class LaunchConfiguration:
    def __init__(self, variable_name: str, *, default: Any = None) -> None:
        self.variable_name = variable_name

    def perform(self, context: Any) -> str:
        return context.launch_configurations[self.variable_name]


class LifecycleNode:
    def __init__(
        self,
        *,
        name: str,
        namespace: str,
        package: str,
        executable: str,
        parameters: Any = None,
        remappings: Any = None,
        output: str = "log",
    ) -> None:
        self.name, self.namespace, self.package, self.executable = name, namespace, package, executable
        self.parameters, self.remappings, self.output = parameters, remappings, output


class Node:
    def __init__(
        self, *, executable: str, package: str, name: str, namespace: str | None = None, arguments: Any = None
    ) -> None:
        self.executable, self.package, self.name, self.namespace = executable, package, name, namespace
        self.arguments = arguments


class OnStateTransition:
    def __init__(
        self, *, entities: Any, target_lifecycle_node: Any = None, start_state: Any = None, goal_state: Any = None
    ) -> None:
        self.entities, self.target_lifecycle_node = entities, target_lifecycle_node
        self.start_state, self.goal_state = start_state, goal_state


class ChangeState:
    def __init__(self, *, lifecycle_node_matcher: Any, transition_id: int) -> None:
        self.lifecycle_node_matcher, self.transition_id = lifecycle_node_matcher, transition_id


class ParameterValue:
    def __init__(self, value: Any, *, value_type: Any = None) -> None:
        self.value, self.value_type = value, value_type


def matches_action(action: Any) -> Callable[[Any], bool]:
    return lambda other: other is action


STAND_INS = {
    "launch": (LaunchDescription,),
    "launch.actions": (
        DeclareLaunchArgument,
        EmitEvent,
        LogInfo,
        OpaqueFunction,
        RegisterEventHandler,
        SetEnvironmentVariable,
    ),
    "launch.events": (matches_action,),
    "launch.substitutions": (LaunchConfiguration,),
    "launch_ros": (),
    "launch_ros.actions": (LifecycleNode, Node),
    "launch_ros.event_handlers": (OnStateTransition,),
    "launch_ros.events": (),
    "launch_ros.events.lifecycle": (ChangeState,),
    "launch_ros.parameter_descriptions": (ParameterValue,),
}


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """A share folder as the installation makes it."""
    found = tmp_path / "share" / "ivlm_ros"
    found.mkdir(parents=True)
    (found / "config").symlink_to(ROOT / "config")
    return found


@pytest.fixture
def launch_file(monkeypatch: pytest.MonkeyPatch, share: Path) -> ModuleType:
    """The launch file's module, imported with the stand-ins."""
    for name, members in STAND_INS.items():
        module = ModuleType(name)
        for member in members:
            setattr(module, member.__name__, member)
        monkeypatch.setitem(sys.modules, name, module)
    packages = ModuleType("ament_index_python.packages")
    packages.get_package_share_directory = lambda name: {"ivlm_ros": str(share)}[name]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ament_index_python", ModuleType("ament_index_python"))
    monkeypatch.setitem(sys.modules, "ament_index_python.packages", packages)
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name, raising=False)
    return load()


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("contact_launch", LAUNCH_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arguments(module: ModuleType) -> dict[str, DeclareLaunchArgument]:
    entities = module.generate_launch_description().entities
    return {entity.name: entity for entity in entities if isinstance(entity, DeclareLaunchArgument)}


def launch(module: ModuleType, **given: str) -> list[Any]:
    """What is started with the given arguments."""
    entities = module.generate_launch_description().entities
    values = {name: argument.default_value for name, argument in arguments(module).items()}
    assert set(given) <= set(values)
    context = SimpleNamespace(launch_configurations={**values, **given})
    (function,) = [entity.function for entity in entities if isinstance(entity, OpaqueFunction)]
    return function(context)


def the_node(actions: list[Any]) -> LifecycleNode:
    (node,) = [action for action in actions if isinstance(action, LifecycleNode)]
    return node


def test_arguments_that_others_rely_on(launch_file: ModuleType) -> None:
    declared = arguments(launch_file)
    assert {
        "params_file",
        "image_topic",
        "camera_info_topic",
        "detections_topic",
        "namespace",
        "model",
        "autostart",
    } <= set(declared)
    for argument in declared.values():
        assert argument.default_value is not None, argument.name
        assert len(argument.description or "") > 15, argument.name


def test_defaults_start_the_installed_node_with_the_shipped_parameters(launch_file: ModuleType, share: Path) -> None:
    node = the_node(launch(launch_file))
    assert (node.package, node.executable, node.name, node.namespace) == (
        "ivlm_ros",
        "contact_node",
        "ivlm_contact",
        "",
    )
    assert node.parameters == [str(share / "config" / "contact_node.yaml")]
    assert Path(node.parameters[0]).is_file()
    assert f"foreach(executable {node.executable} " in (ROOT / "CMakeLists.txt").read_text()


def test_node_name_is_the_one_that_the_node_gives_itself(launch_file: ModuleType) -> None:
    pytest.importorskip("ivlm_ros.msg")
    from ivlm_ros.contact_node import NODE_NAME

    assert the_node(launch(launch_file)).name == NODE_NAME


def test_topic_arguments_remap_the_nodes_own_topics(launch_file: ModuleType) -> None:
    given = {
        "image_topic": "/cam/image",
        "camera_info_topic": "/cam/info",
        "detections_topic": "/yolo",
        "bodies_topic": "/pose",
        "depth_topic": "/cam/depth",
        "depth_camera_info_topic": "/cam/depth/info",
        "labels_topic": "/asked",
    }
    remapped = dict(the_node(launch(launch_file, namespace="left", **given)).remappings)
    assert remapped == {name.removesuffix("_topic"): topic for name, topic in given.items()}
    source = (ROOT / "ivlm_ros" / "inputs.py").read_text()
    for name in remapped:
        assert f'"{name}"' in source


def test_overriding_arguments_are_parameters_of_the_node(launch_file: ModuleType) -> None:
    from ivlm_ros.parameters import TABLE

    node = the_node(
        launch(
            launch_file, model="7", image_transport="compressed", use_sim_time="True", reconstruct="on", use_depth="0"
        )
    )
    overrides = node.parameters[1]
    assert (overrides["reconstruct"], overrides["use_depth"]) == (True, False)
    typed = the_node(launch(launch_file, detections_type="vision_msgs", bodies_type="yolo_msgs")).parameters[1]
    assert {name: value.value for name, value in typed.items()} == {
        "detections_type": "vision_msgs",
        "bodies_type": "yolo_msgs",
    }
    assert "use_bodies" not in overrides, "what is not given is left to the file"
    assert set(overrides) - {"use_sim_time"} <= set(TABLE)
    # As text even where YAML would read a number.
    assert (overrides["model"].value, overrides["model"].value_type) == ("7", str)
    assert overrides["image_transport"].value == "compressed"
    assert overrides["use_sim_time"] is True


def test_empty_model_leaves_the_file_in_charge(launch_file: ModuleType, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump({"/**": {"ros__parameters": {"model": "/weights"}}}))
    assert the_node(launch(launch_file, params_file=str(mine))).parameters == [str(mine)]


def test_autostart_configures_and_then_activates(launch_file: ModuleType) -> None:
    from lifecycle_msgs.msg import Transition

    actions = launch(launch_file)
    node = the_node(actions)
    (configure,) = [action.event for action in actions if isinstance(action, EmitEvent)]
    assert configure.transition_id == Transition.TRANSITION_CONFIGURE
    assert configure.lifecycle_node_matcher(node)
    handlers = [action.event_handler for action in actions if isinstance(action, RegisterEventHandler)]
    handler, failed = sorted(handlers, key=lambda handler: handler.goal_state)
    assert handler.target_lifecycle_node is failed.target_lifecycle_node is node
    assert (failed.start_state, failed.goal_state) == ("configuring", "unconfigured")
    assert not any(isinstance(action, EmitEvent) for action in failed.entities), "a failure is said, not repeated"
    # Coming back from active must not activate the node again.
    assert (handler.start_state, handler.goal_state) == ("configuring", "inactive")
    (activate,) = [action.event for action in handler.entities if isinstance(action, EmitEvent)]
    assert activate.transition_id == Transition.TRANSITION_ACTIVATE
    assert activate.lifecycle_node_matcher(node)
    # The handler is there before the node can change its state, the node before it is asked to.
    order = [type(action) for action in actions]
    assert order.index(RegisterEventHandler) < order.index(LifecycleNode) < order.index(EmitEvent)


@pytest.mark.parametrize("text", ["false", "False", "0", "no"])
def test_without_autostart_only_the_node_is_started(launch_file: ModuleType, text: str) -> None:
    assert [type(action) for action in launch(launch_file, autostart=text)] == [LifecycleNode]


def test_rviz_comes_with_its_configuration_when_asked_for(launch_file: ModuleType, share: Path) -> None:
    assert not any(isinstance(action, Node) for action in launch(launch_file))
    for autostart in ("true", "false"):
        actions = launch(launch_file, rviz="true", autostart=autostart, namespace="left")
        (viewer,) = [action for action in actions if isinstance(action, Node)]
        assert (viewer.package, viewer.executable, viewer.namespace) == ("rviz2", "rviz2", "left")
        assert viewer.arguments == ["-d", str(share / "config" / "ivlm.rviz")]
    (viewer,) = [action for action in launch(launch_file, rviz="1", fixed_frame="cam") if isinstance(action, Node)]
    assert viewer.arguments[2:] == ["-f", "cam"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rviz", "perhaps"),
        ("autostart", "maybe"),
        ("use_sim_time", "7"),
        ("reconstruct", "maybe"),
        ("params_file", "/no/such.yaml"),
    ],
)
def test_wrong_argument_is_named(launch_file: ModuleType, name: str, value: str) -> None:
    with pytest.raises(RuntimeError, match=name):
        launch(launch_file, **{name: value})


def test_large_image_profile_is_set_before_anything_starts(launch_file: ModuleType) -> None:
    entities = launch_file.generate_launch_description().entities
    settings = [entity for entity in entities if isinstance(entity, SetEnvironmentVariable)]
    assert settings == entities[: len(settings)]
    assert settings[0].name == "FASTDDS_DEFAULT_PROFILES_FILE"
    assert all(Path(entity.value).is_file() for entity in settings)


def test_a_users_profile_stays(launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/home/user/mine.xml")
    entities = launch_file.generate_launch_description().entities
    assert not [entity for entity in entities if isinstance(entity, SetEnvironmentVariable)]


def test_with_the_real_launch() -> None:
    """Runs only beside a ROS distribution: `launch` is on no package index."""
    pytest.importorskip("launch.actions", reason="the launch package comes with a ROS distribution only")
    pytest.importorskip("launch_ros.actions", reason="the launch_ros package comes with a ROS distribution only")
    from launch import LaunchContext

    description = load().generate_launch_description()
    declared = {argument.name: argument for argument in description.get_launch_arguments()}
    assert {"params_file", "image_topic", "model", "autostart"} <= set(declared)
    context = LaunchContext(argv=[])
    for entity in description.entities:
        result = entity.visit(context)
        if result and type(entity).__name__ == "OpaqueFunction":
            assert {"LifecycleNode", "EmitEvent", "RegisterEventHandler"} == {
                type(action).__name__ for action in result
            }
    assert os.environ["FASTDDS_DEFAULT_PROFILES_FILE"]
