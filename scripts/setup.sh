#!/usr/bin/env bash
# Brings a checkout to the point where `. ./env.sh` works: system packages, .venv, ROS 2 wheels, the built package.
#
# It may be stopped at any time and started again: a step counts as done only when the file that says so was written
# after its last command, and that file names what the step was made from, so a change of inputs does it again.
#
#   scripts/setup.sh           do what is missing
#   scripts/setup.sh --check   say what is missing, change nothing; exit code 1 when something is
#   scripts/setup.sh --tests   the same with what only the tests need: a browser (on Debian; elsewhere one that is there
#                              is used, because Ubuntu has it as a snap only)
#
# PYTHON=/path/to/python3.12 chooses the interpreter; IVLM_FORCE_WHEELS=1 goes on although a ROS distribution is sourced.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
VENV="$ROOT/.venv"
VENV_PYTHON="$VENV/bin/python"
STAMPS="$VENV/.setup"
BUILD_STAMP="$ROOT/install/.setup"
SYSTEM_PACKAGES=(cmake g++ make libegl1 libgl1 libgomp1 libidn2-0 libudev1 libusb-1.0-0 libx11-6)
STEPS=6
CHECK_ONLY=0
DUE=0

say() { printf '%s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

FOR_TESTS=0
for argument; do
  case "$argument" in
    --check) CHECK_ONLY=1 ;;
    --tests) FOR_TESTS=1 ;;
    *) fail "unknown argument '$argument'; --check and --tests are known" ;;
  esac
done

# An environment sourced before, ours or a distribution's, must not leak into what is built here.
clean_environment() {
  unset PYTHONPATH PYTHONHOME AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH VIRTUAL_ENV
  unset _ROS_WHEELS_BOOTSTRAP_COMPLETE
  if [ -n "${LD_LIBRARY_PATH:-}" ]; then
    LD_LIBRARY_PATH="$(tr ':' '\n' <<<"$LD_LIBRARY_PATH" | grep -vE "^$ROOT/|^/opt/ros/" | paste -sd: - || true)"
    export LD_LIBRARY_PATH
  fi
}

# step NUMBER NAME NOTE: announces a step that has work to do; with --check only notes that there is some.
# Returns 1 when nothing must be done now.
step() {
  DUE=1
  if [ "$CHECK_ONLY" = 1 ]; then
    say "[$1/$STEPS] $2: to do"
    return 1
  fi
  STEP_STARTED=$SECONDS
  say "[$1/$STEPS] $2 … ${3:-}"
}
already() { say "[$1/$STEPS] $2: already done"; }
finished() { say "      done in $((SECONDS - STEP_STARTED)) s"; }

hash_of() { sha256sum | cut -c1-16; }
stamped() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }
stamp() {
  mkdir -p "$(dirname "$1")"
  printf '%s\n' "$2" >"$1.new"
  mv -f "$1.new" "$1"
}

# --- the interpreter --------------------------------------------------------------------------------------------------

# A name on PATH proves nothing (version managers leave shims that fail), so each candidate is run.
python_version() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
    2>/dev/null
}
python_is_complete() {
  "$1" -c 'import ensurepip, os, sys, sysconfig, venv
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' >/dev/null 2>&1
}

# Sets BASE_PYTHON to the interpreter of the future .venv and EXTRA_PACKAGES to what apt must add to it.
choose_python() {
  local candidate version
  BASE_PYTHON="" EXTRA_PACKAGES=()
  if [ -n "${PYTHON:-}" ]; then
    command -v "$PYTHON" >/dev/null || fail "PYTHON=$PYTHON: no such program"
    version="$(python_version "$PYTHON")" ||
      fail "PYTHON=$PYTHON is Python ${version:-(does not run)}; give one of 3.10, 3.11 and 3.12"
    BASE_PYTHON="$(command -v "$PYTHON")"
    python_is_complete "$BASE_PYTHON" || EXTRA_PACKAGES=("python$version-venv" "python$version-dev")
    return
  fi
  for candidate in python3.11 python3.12 python3.10 python3; do
    if command -v "$candidate" >/dev/null && python_version "$candidate" >/dev/null && python_is_complete "$candidate"; then
      BASE_PYTHON="$(command -v "$candidate")"
      return
    fi
  done
  for candidate in python3.11 python3.12 python3.10 python3; do
    # Only the distribution's own interpreter can be completed by apt.
    if [ -x "/usr/bin/$candidate" ] && version="$(python_version "/usr/bin/$candidate")"; then
      BASE_PYTHON="/usr/bin/$candidate" EXTRA_PACKAGES=("python$version-venv" "python$version-dev")
      return
    fi
  done
  EXTRA_PACKAGES=(python3 python3-venv python3-dev)
}

venv_works() {
  [ -x "$VENV_PYTHON" ] && python_version "$VENV_PYTHON" >/dev/null && python_is_complete "$VENV_PYTHON" || return 1
  # The scripts of a virtual environment hold its path: one that was moved or copied must be made again.
  grep -qF "$VENV" "$VENV/bin/activate" 2>/dev/null && "$VENV_PYTHON" -m pip --version >/dev/null 2>&1 || return 1
  if [ -n "${PYTHON:-}" ]; then
    [ "$(python_version "$VENV_PYTHON")" = "$(python_version "$PYTHON")" ]
  fi
}

# --- the steps --------------------------------------------------------------------------------------------------------

# The names that test/test_view_page.py looks for, too.
has_browser() {
  local name
  for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && return 0
  done
  return 1
}

install_system_packages() {
  local missing=() package
  if [ "$FOR_TESTS" = 1 ] && grep -qx 'ID=debian' "${OS_RELEASE:-/etc/os-release}" 2>/dev/null && ! has_browser; then
    SYSTEM_PACKAGES+=(chromium)
  fi
  if ! command -v dpkg >/dev/null; then
    for package in cmake g++ make; do
      command -v "$package" >/dev/null ||
        fail "'$package' is missing and this is no Debian or Ubuntu: install ${SYSTEM_PACKAGES[*]} by their names here"
    done
    already 1 "System packages (no apt here: compiler and cmake are present)"
    return
  fi
  for package in "${SYSTEM_PACKAGES[@]}" "${EXTRA_PACKAGES[@]}"; do
    dpkg -s "$package" 2>/dev/null | grep -q '^Status: install ok installed' || missing+=("$package")
  done
  if [ ${#missing[@]} = 0 ]; then
    already 1 "System packages"
    return
  fi
  step 1 "System packages" "${missing[*]}" || return 0
  local line="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
      as_root=(sudo)
    else
      say "      These need administrator rights. Run this line, then start again:"
      say ""
      say "      sudo sh -c '$line'"
      say ""
      exit 1
    fi
  fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 update
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 \
    install -y --no-install-recommends "${missing[@]}" ||
    fail "apt-get could not install ${missing[*]}; if it was interrupted before, run: dpkg --configure -a"
  finished
}

make_venv() {
  if venv_works; then
    already 2 "Python $(python_version "$VENV_PYTHON") in .venv"
    return
  fi
  step 2 "Python in .venv" || return 0
  choose_python
  [ -n "$BASE_PYTHON" ] && [ ${#EXTRA_PACKAGES[@]} = 0 ] ||
    fail "no usable Python 3.10, 3.11 or 3.12 (with venv and headers) was found; install one and name it: make setup PYTHON=…"
  rm -rf "$VENV"
  "$BASE_PYTHON" -m venv "$VENV"
  say "      $BASE_PYTHON, version $(python_version "$VENV_PYTHON")"
  finished
}

install_python_packages() {
  local key
  key="$( { cat "$ROOT/requirements/lock.txt"; python_version "$VENV_PYTHON" 2>/dev/null; say "$VENV"; } | hash_of)"
  if stamped "$STAMPS/packages" "$key"; then
    already 3 "Python packages"
    return
  fi
  step 3 "Python packages" "2 to 6 minutes the first time, about 8 GB on disk" || return 0
  # pip takes a package whose unpacking was interrupted for a whole one, so after an interruption all are unpacked again.
  local again=()
  if [ -f "$STAMPS/packages.started" ]; then
    again=(--force-reinstall)
  fi
  rm -f "$STAMPS/packages"
  stamp "$STAMPS/packages.started" "$key"
  # The lock names every package, so pip's resolver has nothing to decide.
  "$VENV_PYTHON" -m pip install --disable-pip-version-check --no-deps --retries 10 --timeout 60 "${again[@]}" \
    -r "$ROOT/requirements/lock.txt" |
    awk '/^Collecting / { n++; printf "      %3d %s\n", n, $2; fflush() }
         /^ +Downloading .*\([0-9]+(\.[0-9]+)? [MG]B\)/ { print "          " $(NF-1) " " $NF; fflush() }
         /^Installing collected/ { print "      unpacking …"; fflush() }
         /^Successfully/ { print "      " NF - 2 " packages installed"; fflush() }'
  "$VENV_PYTHON" -m pip check --disable-pip-version-check ||
    fail "the installed packages do not fit together; remove .venv and start again"
  stamp "$STAMPS/packages" "$key"
  rm -f "$STAMPS/packages.started"
  finished
}

# The ROS wheels name folders of the machine that built them, and CMake refuses targets whose folders do not exist.
# The search for such names is itself the test of whether this was done.
relocate_ros_wheels() {
  local pattern='/opt/python/cp[0-9]+-cp[0-9]+/' files=() folders=() include numpy
  shopt -s nullglob
  folders=("$VENV"/share/*/cmake)
  shopt -u nullglob
  if [ ${#folders[@]} -gt 0 ]; then
    mapfile -t files < <(grep -rlE --include='*.cmake' "$pattern" "${folders[@]}" || true)
  fi
  if [ ${#files[@]} = 0 ]; then
    already 4 "Paths in the ROS wheels"
    return
  fi
  step 4 "Paths in the ROS wheels" "${#files[@]} files" || return 0
  include="$("$VENV_PYTHON" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')"
  numpy="$("$VENV_PYTHON" -c 'import numpy; print(numpy.get_include())')"
  sed -i -E \
    -e "s#/opt/python/cp[0-9]+-cp[0-9]+/lib/python[0-9.]+/site-packages/numpy/(_core|core)/include#$numpy#g" \
    -e "s#/opt/python/cp[0-9]+-cp[0-9]+/include/python[0-9.]+#$include#g" "${files[@]}"
  finished
}

package_sources() {
  (cd "$ROOT" &&
    find CMakeLists.txt package.xml action msg srv launch config ivlm_core ivlm_ros scripts/*.in -type f \
      -not -name '*.pyc' -not -name '.*' | LC_ALL=C sort | xargs -d '\n' sha256sum)
}

build_package() {
  local key log
  key="$( { package_sources; cat "$STAMPS/packages" 2>/dev/null || true; } | hash_of)"
  if stamped "$BUILD_STAMP" "$key"; then
    already 5 "ROS package in install/"
  elif step 5 "ROS package in install/ (colcon build)" "about 20 seconds"; then
    # Built from an empty install/, so that a module deleted from the sources does not live on there.
    rm -rf "$ROOT/install"
    # CMake's cache remembers where it once found things; it is only good for the packages it was made with.
    if ! stamped "$ROOT/build/.setup" "$(cat "$STAMPS/packages")"; then
      rm -rf "$ROOT/build"
      stamp "$ROOT/build/.setup" "$(cat "$STAMPS/packages")"
    fi
    log="$ROOT/build/colcon_build.txt"
    (cd "$ROOT" && PATH="$VENV/bin:$PATH" VIRTUAL_ENV="$VENV" AMENT_PREFIX_PATH="$VENV" \
      "$VENV/bin/colcon" build --packages-select ivlm_ros --event-handlers console_direct+ \
      --cmake-args -DBUILD_TESTING=OFF "-DPython3_EXECUTABLE=$VENV_PYTHON") >"$log" 2>&1 ||
      { tail -n 40 "$log" >&2; fail "colcon build failed; all of its output is in build/colcon_build.txt"; }
    stamp "$BUILD_STAMP" "$key"
    finished
  fi
}

install_command() {
  local key
  key="$( { cat "$ROOT/setup.py" "$ROOT/pyproject.toml"; cat "$STAMPS/packages" 2>/dev/null || true; } | hash_of)"
  if stamped "$STAMPS/command" "$key" && [ -x "$VENV/bin/ivlm" ]; then
    already 6 "Command ivlm"
    return
  fi
  step 6 "Command ivlm" || return 0
  "$VENV_PYTHON" -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e "$ROOT"
  # What env.sh promises is tried once, here, where a failure can still be explained.
  bash -c 'set -euo pipefail; . "$1/env.sh"; python -c "import ivlm_ros.msg, rclpy"; ivlm --help >/dev/null
           command -v contact_node >/dev/null' _ "$ROOT" ||
    fail "the finished environment does not work; remove .venv, build and install and start again"
  stamp "$STAMPS/command" "$key"
  finished
}

if [ -n "${ROS_DISTRO:-}" ] && [ "${IVLM_FORCE_WHEELS:-0}" != 1 ]; then
  cat >&2 <<TEXT
setup: ROS 2 "$ROS_DISTRO" is sourced in this shell. The PyPI wheels that this script installs must not be mixed with it.

  To use your distribution, put this folder into a workspace's src/ and run there:
      rosdep install --from-paths src --ignore-src -y
      python3 -m venv --system-site-packages .venv && . .venv/bin/activate
      python -m pip install "numpy<2" "src/$(basename "$ROOT")"
      colcon build --packages-select ivlm_ros && . install/setup.bash
      ros2 launch ivlm_ros contact.launch.py

  To use the wheels all the same, start from a shell without ROS, or: IVLM_FORCE_WHEELS=1 make setup
TEXT
  exit 1
fi
case "$(uname -s)-$(uname -m)" in
  Linux-x86_64) ;;
  *) fail "the ROS 2 wheels exist for Linux on x86_64 only; on $(uname -sm) install a ROS distribution and use colcon build" ;;
esac

# Two set-ups of one folder at once would delete each other's files.
if command -v flock >/dev/null; then
  exec 9<"$ROOT"
  flock -n 9 || { say "waiting for another set-up of this folder …"; flock 9; }
fi

clean_environment
cd "$ROOT"
BASE_PYTHON="" EXTRA_PACKAGES=()
venv_works || choose_python
install_system_packages
make_venv
install_python_packages
relocate_ros_wheels
build_package
install_command

if [ "$CHECK_ONLY" = 1 ]; then
  exit "$DUE"
fi
if [ "$DUE" = 1 ]; then
  say "Ready after $SECONDS s. For a shell with everything in it:  . ./env.sh"
fi
