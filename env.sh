# Source this file (bash or zsh, from anywhere): it gives the shell `ivlm`, `contact_node` and Python with ivlm_ros.msg.
#
#   . path/to/env.sh
#
# Sourcing it twice is harmless. It finds its own folder, so the folder may be anywhere.

_ivlm_env() {
  local root="$1" shell="$2" venv profile
  venv="$root/.venv"
  if [ ! -f "$root/install/setup.$shell" ] || [ ! -x "$venv/bin/python" ]; then
    echo "env.sh: $root is not set up yet; run there first: make setup" >&2
    return 1
  fi
  if [ -n "${ROS_DISTRO:-}" ] && [ "${IVLM_FORCE_WHEELS:-0}" != 1 ]; then
    echo "env.sh: ROS 2 '$ROS_DISTRO' is sourced in this shell and must not be mixed with the wheels in .venv;" \
      "start from a shell without it" >&2
    return 1
  fi
  # The mark belongs to the environment that a parent process had; without it the first Python sets up its own.
  unset _ROS_WHEELS_BOOTSTRAP_COMPLETE
  . "$venv/bin/activate" || return 1
  export AMENT_PREFIX_PATH="$venv"
  . "$root/install/setup.$shell" || return 1
  case ":$PATH:" in
    *":$root/install/ivlm_ros/lib/ivlm_ros:"*) ;;
    *) export PATH="$root/install/ivlm_ros/lib/ivlm_ros:$PATH" ;;
  esac
  # Large images are lost in Fast DDS's default shared-memory segment; a profile the user has chosen stays. The older
  # FASTRTPS_… variable is not set, because the wheels' Fast DDS 3 would warn about it.
  profile="$root/install/ivlm_ros/share/ivlm_ros/config/fastdds_large_images.xml"
  if [ -z "${FASTDDS_DEFAULT_PROFILES_FILE:-}${FASTRTPS_DEFAULT_PROFILES_FILE:-}" ] && [ -f "$profile" ]; then
    export FASTDDS_DEFAULT_PROFILES_FILE="$profile"
  fi
}

# The scripts that are sourced here read variables that need not exist, which `set -u` forbids and `set -e` turns fatal.
case "$-" in *u*) _ivlm_options="u" ;; *) _ivlm_options="" ;; esac
case "$-" in *e*) _ivlm_options="e$_ivlm_options" ;; esac
set +eu
if [ -n "${ZSH_VERSION:-}" ]; then
  eval '_ivlm_file="${(%):-%x}"'
  _ivlm_env "$(cd "$(dirname "$_ivlm_file")" && pwd -P)" zsh
elif [ -n "${BASH_VERSION:-}" ]; then
  _ivlm_file="${BASH_SOURCE[0]}"
  _ivlm_env "$(cd "$(dirname "$_ivlm_file")" && pwd -P)" bash
else
  echo "env.sh: source this from bash or zsh" >&2
  false
fi
_ivlm_status=$?
if [ -n "$_ivlm_options" ]; then set "-$_ivlm_options"; fi
unset -f _ivlm_env
unset _ivlm_file _ivlm_options
# Under `set -e` a failure ends the shell here, as it should.
if [ "$_ivlm_status" != 0 ]; then unset _ivlm_status; return 1; fi
unset _ivlm_status
