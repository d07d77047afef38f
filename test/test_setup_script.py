"""`scripts/setup.sh` with every outside program replaced by a stand-in that writes down how it was called."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILDER_PATH = "/opt/python/cp311-cp311"

FAKE_PYTHON = r"""#!/bin/bash
here="$(dirname "$(dirname "$0")")"
case "$1 $2" in
  "-c "*version_info*) echo 3.11 ;;
  "-c "*sysconfig.get_paths*print*|"-c "*"print(sysconfig"*) echo /fake/include ;;
  "-c "*numpy*) echo /fake/numpy ;;
  "-c "*) exit 0 ;;
  "-m venv")
    echo "venv" >>"$CALLS"
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
    cp "$FAKES/colcon" "$3/bin/colcon"
    printf 'VIRTUAL_ENV="%s"\nexport VIRTUAL_ENV PATH="$VIRTUAL_ENV/bin:$PATH"\n' "$3" >"$3/bin/activate" ;;
  "-m pip")
    case "$*" in
      *--version*) exit 0 ;;
      *"-r "*)
        case "$*" in *--force-reinstall*) echo "packages again" ;; *) echo "packages" ;; esac >>"$CALLS"
        [ -z "${FAIL_PACKAGES:-}" ] || exit 9
        mkdir -p "$here/share/ros_thing/cmake"
        echo "inc @/include/python3.11 npy @/lib/python3.11/site-packages/numpy/_core/include" |
          sed 's#@#/opt/python/cp311-cp311#g' >"$here/share/ros_thing/cmake/thing.cmake"
        echo "Successfully installed a-1" ;;
      *"-e "*)
        echo "command" >>"$CALLS"
        printf '#!/bin/bash\n' >"$here/bin/ivlm"; chmod +x "$here/bin/ivlm" ;;
    esac ;;
  *) exit 0 ;;
esac
"""
FAKE_COLCON = r"""#!/bin/bash
echo "build" >>"$CALLS"
[ -z "${FAIL_BUILD:-}" ] || { echo "CMake Error: something"; exit 2; }
mkdir -p install/ivlm_ros/lib/ivlm_ros
: >install/setup.bash
printf '#!/bin/bash\n' >install/ivlm_ros/lib/ivlm_ros/contact_node
chmod +x install/ivlm_ros/lib/ivlm_ros/contact_node
"""
FAKE_DPKG = r"""#!/bin/bash
grep -qx "$2" "$FAKES/installed" && echo "Status: install ok installed"
"""
FAKE_APT = r"""#!/bin/bash
echo "apt-get $*" >>"$CALLS"
case "$*" in *" install "*) for word; do echo "$word"; done >>"$FAKES/installed" ;; esac
"""
SYSTEM_PACKAGES = "cmake g++ make libegl1 libgl1 libgomp1 libidn2-0 libudev1 libusb-1.0-0 libx11-6".split()
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FIRST_RUN = ["venv", "packages", "build", "command"]


class Sandbox:
    """A copy of the set-up files in an otherwise empty project, and the stand-ins on PATH before everything else."""

    def __init__(self, folder: Path, tools: Path) -> None:
        self.tools = tools
        self.project = folder / "project with space"
        self.fakes = folder / "fakes"
        self.fakes.mkdir(parents=True)
        for name, text in {
            "python3.11": FAKE_PYTHON,
            "colcon": FAKE_COLCON,
            "dpkg": FAKE_DPKG,
            "apt-get": FAKE_APT,
            "id": "#!/bin/bash\necho ${FAKE_UID:-0}\n",
            "sudo": "#!/bin/bash\nexit 1\n",
        }.items():
            (self.fakes / name).write_text(text)
            (self.fakes / name).chmod(0o755)
        (self.fakes / "installed").write_text("\n".join(SYSTEM_PACKAGES) + "\n")
        for name in ("msg", "srv", "launch", "config", "ivlm_core", "ivlm_ros", "scripts", "requirements"):
            (self.project / name).mkdir(parents=True)
        for name in ("CMakeLists.txt", "package.xml", "setup.py", "pyproject.toml", "requirements/lock.txt"):
            (self.project / name).write_text(name)
        (self.project / "scripts/contact_node.in").write_text("node")
        (self.project / "ivlm_ros/contact_node.py").write_text("first")
        for name in ("scripts/setup.sh", "env.sh"):
            shutil.copy2(ROOT / name, self.project / name)
        self.calls = folder / "calls"
        self.os_release = folder / "os-release"
        self.os_release.write_text("ID=debian\n")

    def run(self, *arguments: str, **environment: str) -> tuple[int, list[str], str]:
        """Exit code, the outside programs called in order, and everything printed."""
        self.calls.write_text("")
        done = subprocess.run(
            ["bash", str(self.project / "scripts/setup.sh"), *arguments],
            env={
                "PATH": f"{self.fakes}:{self.tools}",
                "OS_RELEASE": str(self.os_release),
                "HOME": str(self.fakes),
                "CALLS": str(self.calls),
                "FAKES": str(self.fakes),
                **environment,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, self.calls.read_text().splitlines(), done.stdout + done.stderr


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The computer's own programs; never a browser, even where it has one."""
    folder = tmp_path_factory.mktemp("tools")
    for program in (path for where in ("/bin", "/usr/bin") for path in Path(where).iterdir()):
        link = folder / program.name
        if program.name not in BROWSERS and not link.is_symlink():
            link.symlink_to(program)
    return folder


@pytest.fixture
def sandbox(tmp_path: Path, tools: Path) -> Sandbox:
    return Sandbox(tmp_path, tools)


def test_second_run_does_nothing(sandbox: Sandbox) -> None:
    assert sandbox.run()[:2] == (0, FIRST_RUN)
    code, calls, output = sandbox.run()
    assert (code, calls) == (0, [])
    assert output.count("already done") == 6


def test_paths_of_the_machine_that_built_the_wheels_are_rewritten(sandbox: Sandbox) -> None:
    sandbox.run()
    cmake = (sandbox.project / ".venv/share/ros_thing/cmake/thing.cmake").read_text()
    assert cmake == "inc /fake/include npy /fake/numpy\n"


def test_interrupted_package_installation_unpacks_everything_again(sandbox: Sandbox) -> None:
    code, calls, _ = sandbox.run(FAIL_PACKAGES="1")
    assert code != 0
    assert calls == ["venv", "packages"]
    assert sandbox.run()[:2] == (0, ["packages again", "build", "command"])
    assert sandbox.run()[:2] == (0, [])


def test_half_made_venv_is_made_again(sandbox: Sandbox) -> None:
    (sandbox.project / ".venv/bin").mkdir(parents=True)
    (sandbox.project / ".venv/bin/python").write_text("#!/bin/sh\nexit 1\n")
    (sandbox.project / ".venv/bin/python").chmod(0o755)
    assert sandbox.run()[:2] == (0, FIRST_RUN)


def test_moved_checkout_makes_its_venv_again(sandbox: Sandbox) -> None:
    sandbox.run()
    sandbox.project = sandbox.project.rename(sandbox.project.with_name("moved"))
    assert sandbox.run()[:2] == (0, FIRST_RUN)


def test_failed_build_shows_its_output_and_is_repeated(sandbox: Sandbox) -> None:
    code, calls, output = sandbox.run(FAIL_BUILD="1")
    assert code != 0
    assert calls == ["venv", "packages", "build"]
    assert "CMake Error: something" in output
    assert sandbox.run()[:2] == (0, ["build", "command"])


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("ivlm_ros/contact_node.py", ["build"]),
        ("msg/New.msg", ["build"]),
        ("setup.py", ["command"]),
        ("requirements/lock.txt", ["packages", "build", "command"]),
    ],
)
def test_changed_input_redoes_only_what_depends_on_it(sandbox: Sandbox, changed: str, expected: list[str]) -> None:
    sandbox.run()
    (sandbox.project / changed).write_text("second")
    assert sandbox.run("--check")[:2] == (1, [])
    assert sandbox.run()[:2] == (0, expected)
    assert sandbox.run("--check")[:2] == (0, [])


def test_module_deleted_from_the_sources_does_not_stay_installed(sandbox: Sandbox) -> None:
    sandbox.run()
    stale = sandbox.project / "install/ivlm_ros/lib/gone.py"
    stale.write_text("")
    (sandbox.project / "ivlm_ros/contact_node.py").write_text("second")
    sandbox.run()
    assert not stale.exists()


def test_missing_system_packages_are_installed_as_root(sandbox: Sandbox) -> None:
    (sandbox.fakes / "installed").write_text("\n".join(SYSTEM_PACKAGES[2:]) + "\n")
    code, calls, _ = sandbox.run()
    assert code == 0
    assert calls[0].endswith("update")
    assert calls[1].endswith("install -y --no-install-recommends cmake g++")
    assert calls[2:] == FIRST_RUN


def test_missing_system_packages_without_root_print_the_exact_line(sandbox: Sandbox) -> None:
    (sandbox.fakes / "installed").write_text("\n".join(SYSTEM_PACKAGES[1:]) + "\n")
    code, calls, output = sandbox.run(FAKE_UID="1000")
    assert (code, calls) == (1, [])
    assert "sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends cmake'" in output


def test_browser_is_installed_for_the_tests_alone(sandbox: Sandbox) -> None:
    assert sandbox.run()[:2] == (0, FIRST_RUN)
    code, calls, _ = sandbox.run("--tests")
    assert code == 0
    assert [call.split()[-1] for call in calls] == ["update", "chromium"]
    # Debian's package brings the program of its name; what is there already is not asked for again.
    (sandbox.fakes / "chromium").write_text("#!/bin/bash\n")
    (sandbox.fakes / "chromium").chmod(0o755)
    assert sandbox.run("--tests", "--check")[:2] == (0, [])


@pytest.mark.parametrize("name", BROWSERS)
def test_browser_of_any_name_will_do(sandbox: Sandbox, name: str) -> None:
    sandbox.run()
    assert sandbox.run("--tests", "--check")[0] == 1
    (sandbox.fakes / name).write_text("#!/bin/bash\n")
    (sandbox.fakes / name).chmod(0o755)
    assert sandbox.run("--tests")[:2] == (0, [])


def test_ubuntu_is_not_asked_for_a_snap(sandbox: Sandbox) -> None:
    sandbox.run()
    sandbox.os_release.write_text("ID=ubuntu\nID_LIKE=debian\n")
    assert sandbox.run("--tests")[:2] == (0, [])


def test_unknown_argument_is_refused(sandbox: Sandbox) -> None:
    code, calls, output = sandbox.run("--test")
    assert (code, calls) == (1, [])
    assert "unknown argument '--test'; --check and --tests are known" in output


def test_sourced_distribution_is_not_mixed_with_the_wheels(sandbox: Sandbox) -> None:
    code, calls, output = sandbox.run(ROS_DISTRO="jazzy")
    assert (code, calls) == (1, [])
    assert "colcon build --packages-select ivlm_ros" in output
    assert 'python -m pip install "numpy<2" "src/project with space"' in output
    assert sandbox.run(ROS_DISTRO="jazzy", IVLM_FORCE_WHEELS="1")[:2] == (0, FIRST_RUN)


def test_python_that_is_too_old_is_refused_by_name(sandbox: Sandbox) -> None:
    old = sandbox.fakes / "python3.8"
    old.write_text("#!/bin/bash\necho 3.8\nexit 1\n")
    old.chmod(0o755)
    code, calls, output = sandbox.run(PYTHON=str(old))
    assert (code, calls) == (1, [])
    assert "is Python 3.8; give one of 3.10, 3.11 and 3.12" in output


def test_env_before_setup_says_what_to_run(sandbox: Sandbox) -> None:
    done = subprocess.run(
        ["bash", "-c", '. "$1" || echo "status $?"', "_", str(sandbox.project / "env.sh")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "run there first: make setup" in done.stderr
    assert done.stdout == "status 1\n"


needs_built_package = pytest.mark.skipif(
    not (ROOT / "install/.setup").exists() and os.environ.get("IVLM_REQUIRE_ROS") != "1",
    reason="`make setup` has not run here",
)


@pytest.mark.skipif(os.environ.get("IVLM_REQUIRE_ROS") != "1", reason="only `make test` has just run `make setup`")
def test_this_checkout_counts_as_set_up() -> None:
    """What `make test` has just set up counts as done; nothing would be rebuilt."""
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        ["bash", str(ROOT / "scripts/setup.sh"), "--check"], env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_built_package
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_sourced_environment_gives_command_messages_and_node(shell: str, tmp_path: Path) -> None:
    """From another folder, under `set -eu`, sourced twice: all three promises of env.sh hold and PATH does not grow."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = f"""
        set -eu
        . '{ROOT}/env.sh'; first=$PATH
        . '{ROOT}/env.sh'; test "$first" = "$PATH"
        case $- in *u*) ;; *) echo "set -u was lost"; exit 1 ;; esac
        ivlm --help >/dev/null
        python -c 'from ivlm_ros.msg import HumanContact; HumanContact(vertex_count=3)'
        command -v contact_node
        echo "$FASTDDS_DEFAULT_PROFILES_FILE"
    """
    done = subprocess.run(
        [shell, "-c", script],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    node, profile = done.stdout.splitlines()
    assert Path(node) == ROOT / "install/ivlm_ros/lib/ivlm_ros/contact_node"
    assert Path(profile).is_file()
