"""The ROS 2 shell around `ivlm_core`: messages in, `Pipeline`, messages out.

The generated messages (`ivlm_ros.msg`, `ivlm_ros.srv`) live in a built workspace, under the same package name;
extending the search path lets modules from this folder and messages from there be one package.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
