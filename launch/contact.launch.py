"""Start the node `ivlm_contact`, configured and active.

    ros2 launch ivlm_ros contact.launch.py image_topic:=/camera/color/image_raw detections_topic:=/detections

`ros2 launch ivlm_ros contact.launch.py --show-args` lists all arguments.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

from ivlm_ros.transport import profile_environment
from launch import LaunchDescription

TRUE = ("true", "1", "yes", "on")
FALSE = ("false", "0", "no", "off")
# Parameters whose text an argument of the same name gives.
TEXTS = ("model", "image_transport", "image_reliability", "detections_type", "bodies_type", "mode", "device")
SWITCHES = {
    "reconstruct": "Fit the objects into the scene",
    "use_bodies": "Read people from bodies_topic",
    "use_depth": "Read depth images from depth_topic",
}


def generate_launch_description():
    """Declare the arguments; the actions are made once their values are known."""
    share = Path(get_package_share_directory("ivlm_ros"))
    arguments = [
        DeclareLaunchArgument(
            "params_file",
            default_value=str(share / "config" / "contact_node.yaml"),
            description="YAML file with the node's parameters",
        ),
        DeclareLaunchArgument(
            "image_topic",
            default_value="image",
            description="Topic of the colour images; with image_transport:=compressed the one ending in /compressed",
        ),
        DeclareLaunchArgument(
            "camera_info_topic", default_value="camera_info", description="Topic of the camera's intrinsics"
        ),
        DeclareLaunchArgument(
            "detections_topic",
            default_value="detections",
            description="Topic of the detected objects, of the type that detections_type names",
        ),
        DeclareLaunchArgument(
            "labels_topic",
            default_value="labels",
            description="Topic of the labels asked about while nobody publishes detections (std_msgs/String)",
        ),
        DeclareLaunchArgument(
            "bodies_topic",
            default_value="bodies",
            description="Topic of the people, of the type that bodies_type names, read with reconstruct and use_bodies",
        ),
        DeclareLaunchArgument(
            "depth_topic",
            default_value="depth",
            description="Topic of depth images, read with reconstruct and use_depth",
        ),
        DeclareLaunchArgument(
            "depth_camera_info_topic",
            default_value="depth_camera_info",
            description="Topic of the depth camera's intrinsics, where depth is not registered to the colour images",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node and its topics"),
        DeclareLaunchArgument(
            "model",
            default_value="",
            description="Model: 'tiny' or a checkpoint directory; empty: what params_file says",
        ),
        DeclareLaunchArgument(
            "image_transport",
            default_value="",
            description="raw (sensor_msgs/Image) or compressed (CompressedImage); empty: what params_file says",
        ),
        DeclareLaunchArgument(
            "detections_type",
            default_value="",
            description="ivlm_ros, vision_msgs or yolo_msgs; empty: what params_file says",
        ),
        DeclareLaunchArgument(
            "bodies_type", default_value="", description="ivlm_ros or yolo_msgs; empty: what params_file says"
        ),
        DeclareLaunchArgument(
            "image_reliability",
            default_value="",
            description="best_effort or reliable subscription to the images; empty: what params_file says",
        ),
        DeclareLaunchArgument(
            "mode",
            default_value="",
            description="What is estimated: joint, human, binary, scene, …; empty: what params_file says",
        ),
        DeclareLaunchArgument(
            "device", default_value="", description="auto, cpu, cuda or cuda:N; empty: what params_file says"
        ),
        *(
            DeclareLaunchArgument(name, default_value="", description=f"{text} (true or false); empty: params_file")
            for name, text in SWITCHES.items()
        ),
        DeclareLaunchArgument(
            "use_sim_time", default_value="", description="Follow /clock (true or false); empty: what params_file says"
        ),
        DeclareLaunchArgument("rviz", default_value="false", description="Start RViz with its configuration, too"),
        DeclareLaunchArgument(
            "fixed_frame",
            default_value="",
            description="Frame that RViz shows; with reconstruct the camera's optical frame; empty: that of the body",
        ),
        DeclareLaunchArgument(
            "autostart", default_value="true", description="Configure and activate the node (true or false)"
        ),
    ]
    # Without it Fast DDS loses large images. It holds for all that is launched after it; a user's own profile stays.
    profile = [SetEnvironmentVariable(name, value) for name, value in profile_environment().items()]
    return LaunchDescription([*profile, *arguments, OpaqueFunction(function=start_node)])


def start_node(context):
    """The node, and the events that configure and activate it."""

    def value_of(name):
        return LaunchConfiguration(name).perform(context)

    params_file = Path(value_of("params_file"))
    if not params_file.is_file():
        raise RuntimeError(f"params_file: {str(params_file)!r} does not exist")

    overrides = {}
    for name in TEXTS:
        if value_of(name):
            # Without the type a directory called 7b would be read as text, but one called 7 as a number.
            overrides[name] = ParameterValue(value_of(name), value_type=str)
    for name in ("use_sim_time", *SWITCHES):
        if value_of(name):
            overrides[name] = truth(name, value_of(name))

    node = LifecycleNode(
        package="ivlm_ros",
        executable="contact_node",
        name="ivlm_contact",
        namespace=value_of("namespace"),
        parameters=[str(params_file), overrides] if overrides else [str(params_file)],
        remappings=[
            ("image", value_of("image_topic")),
            ("camera_info", value_of("camera_info_topic")),
            ("detections", value_of("detections_topic")),
            ("bodies", value_of("bodies_topic")),
            ("depth", value_of("depth_topic")),
            ("depth_camera_info", value_of("depth_camera_info_topic")),
            ("labels", value_of("labels_topic")),
        ],
        output="screen",
    )
    viewer = []
    if truth("rviz", value_of("rviz")):
        layout = Path(get_package_share_directory("ivlm_ros")) / "config" / "ivlm.rviz"
        viewer = [
            Node(
                package="rviz2",
                executable="rviz2",
                name="ivlm_rviz",
                namespace=value_of("namespace"),
                arguments=["-d", str(layout), *(["-f", value_of("fixed_frame")] if value_of("fixed_frame") else [])],
            )
        ]
    if not truth("autostart", value_of("autostart")):
        return [node, *viewer]
    activate_once_configured = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="configuring",
            goal_state="inactive",
            entities=[
                LogInfo(msg="ivlm_contact is configured and is activated now"),
                change_state(node, Transition.TRANSITION_ACTIVATE),
            ],
        )
    )
    say_that_it_failed = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="configuring",
            goal_state="unconfigured",
            entities=[LogInfo(msg="ivlm_contact could not be configured: its own message above says why")],
        )
    )
    # The handlers come first, so that they are there before the node can finish to configure.
    configure = change_state(node, Transition.TRANSITION_CONFIGURE)
    return [activate_once_configured, say_that_it_failed, node, configure, *viewer]


def change_state(node, transition_id):
    """An action that asks the node for a transition."""
    return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition_id))


def truth(name, text):
    """The truth value of an argument."""
    if text.strip().lower() in TRUE:
        return True
    if text.strip().lower() in FALSE:
        return False
    raise RuntimeError(f"{name}: {text!r} is neither true nor false")
