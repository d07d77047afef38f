"""What is built and installed: every package, message, data file and dependency is named where it must be."""

from __future__ import annotations

import ast
import re
import runpy
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The keywords that setup.py hands to setuptools."""
    import setuptools

    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **keywords: given.update(keywords))
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    return given


def test_setup_names_every_package_and_nothing_else(options: dict[str, Any]) -> None:
    expected = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("ivlm_core", "ivlm_ros")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert set(options["packages"]) == expected


def test_setup_ships_every_data_file(options: dict[str, Any]) -> None:
    patterns = options["package_data"]["ivlm_core"]
    core = ROOT / "ivlm_core"
    shipped = {path for pattern in patterns for path in core.glob(pattern)}
    data = {
        path
        for path in core.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".md") and "__pycache__" not in path.parts
    }
    assert data <= shipped


def test_versions_agree(options: dict[str, Any]) -> None:
    import ivlm_core

    package = ElementTree.parse(ROOT / "package.xml").getroot()
    assert package.findtext("version") == options["version"] == ivlm_core.__version__
    assert package.findtext("name") == options["name"] == "ivlm_ros"


def test_cmake_builds_every_interface() -> None:
    text = (ROOT / "CMakeLists.txt").read_text()
    listed = set(re.findall(r'"((?:msg|srv)/\w+\.\w+)"', text))
    assert listed == {str(path.relative_to(ROOT)) for path in [*ROOT.glob("msg/*.msg"), *ROOT.glob("srv/*.srv")]}


def test_cmake_installs_every_executable() -> None:
    text = (ROOT / "CMakeLists.txt").read_text()
    listed = re.search(r"foreach\(executable ([\w ]+)\)", text)
    assert listed is not None
    assert set(listed[1].split()) == {path.stem for path in (ROOT / "scripts").glob("*.in")}


def test_hand_written_modules_stay_clear_of_the_generated_ones() -> None:
    names = {path.stem for path in (ROOT / "ivlm_ros").iterdir()}
    assert not names & {"msg", "srv", "action"}
    # CMake leaves out __init__.py at every depth, and installs those of the sub-packages by name.
    within = {path.parent.name for path in (ROOT / "ivlm_ros").glob("*/__init__.py")}
    listed = re.search(r"foreach\(package ([\w ]+)\)", (ROOT / "CMakeLists.txt").read_text())
    assert listed is not None
    assert set(listed[1].split()) == within


def imported_packages(folder: str) -> set[str]:
    """First names of everything that the modules of a folder import, anywhere in them."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.split(".")[0])
    return found


def test_package_xml_names_every_ros_package_that_is_imported() -> None:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    named = {element.text for element in package if element.tag.endswith("depend")}
    imported = imported_packages("ivlm_ros") | imported_packages("launch")
    ros = {name for name in imported if name.endswith(("_msgs", "_srvs", "_interfaces")) or name == "rclpy"}
    assert {"rclpy", "sensor_msgs", "visualization_msgs", "diagnostic_msgs", "std_srvs"} <= ros
    assert ros <= named
    assert {"launch", "launch_ros"} <= named
    assert "tf2_ros" in imported
    assert "tf2_ros_py" in named, "the package that has the module tf2_ros"


def test_every_python_dependency_is_named() -> None:
    """Each third-party import is a requirement of setup.py, under its name on the package index."""
    index_names = {
        "PIL": "pillow",
        "backports": "backports-zstd",
        "cv2": "opencv-python-headless",
        "skimage": "scikit-image",
        "segment_anything": "segment-anything",
        "yaml": "pyyaml",
    }
    setup = (ROOT / "setup.py").read_text()
    requirements = set(re.findall(r'^        "([\w-]+)>=', setup, re.MULTILINE))
    imported = imported_packages("ivlm_core") | imported_packages("ivlm_ros")
    own_or_standard = {"ivlm_core", "ivlm_ros", "__future__"} | set(sys.stdlib_module_names)
    ros = {name for name in imported if name.endswith(("_msgs", "_srvs", "_interfaces"))} | {"rclpy", "tf2_ros"}
    optional = {"pytorch3d"}  # a second renderer where the user has it; on no package index
    missing = {index_names.get(name, name) for name in imported - own_or_standard - ros - optional} - requirements
    assert missing == set()


def test_package_xml_says_where_every_requirement_comes_from() -> None:
    """By a rosdep key, or in the comment that lists those without one; no others."""
    keys = {
        "python3-numpy": "numpy",
        "python3-opencv": "opencv-python-headless",
        "python3-pil": "pillow",
        "python3-scipy": "scipy",
        "python3-tqdm": "tqdm",
        "python3-yaml": "pyyaml",
    }
    text = (ROOT / "package.xml").read_text()
    depends = {element.text for element in ElementTree.fromstring(text) if element.tag == "exec_depend"}
    listed = re.search(r"distribution resolves: ([^.]*)\.", text)
    assert listed is not None
    keyless = set(re.split(r",\s+", listed[1]))
    requirements = set(re.findall(r'^        "([\w-]+)>=', (ROOT / "setup.py").read_text(), re.MULTILINE))
    assert keys.keys() <= depends
    assert keyless | set(keys.values()) == requirements
    assert not keyless & set(keys.values())


def test_core_imports_no_ros() -> None:
    imported = imported_packages("ivlm_core")
    assert not {name for name in imported if name.startswith(("rclpy", "ivlm_ros")) or name.endswith("_msgs")}
