# Functions for the scripts beside this file; to be sourced by bash:
#
#     . "$(dirname "$0")/lib.sh"
#     ensure_venv test demo     # .venv with the locked dependencies of these groups
#     ensure_redis_server       # redis-server on PATH
#     ensure_prometheus         # promtool and prometheus on PATH
#     ensure_alertmanager       # prometheus-alertmanager on PATH
#     ensure_chromium           # chromium on PATH
#
# Each brings what is missing and is quick when nothing is. They work in a fresh clone on a machine
# with a Python 3.11 or newer; what they install from the distribution they install with apt-get, as
# root or with sudo. Progress goes to standard error.
# shellcheck shell=bash

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
UV_VERSION="$(sed -n 's/^uv==\([0-9.]*\).*/\1/p' "$ROOT/scripts/uv-requirements.txt")"
# Some machines switch the cache of compiled modules off. Tests start hundreds of processes, and without
# it each compiles the product and its libraries anew, which takes it longer than everything else.
unset PYTHONDONTWRITEBYTECODE

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

fail() {
  say "$@"
  return 1
}

# Usage: need_root_or_sudo REASON. Fails, with the reason, if we can become root in no way.
need_root_or_sudo() {
  [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null ||
    fail "needs root or sudo, $*"
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# Usage: apt_install PACKAGE... Package lists are fetched only if the packages are not found.
apt_install() {
  command -v apt-get >/dev/null ||
    fail "no apt-get here; please install what gives: $*" || return
  need_root_or_sudo "to install $*" || return
  say "installing $*"
  local options=(-qq -y --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120)
  local apt=(as_root env DEBIAN_FRONTEND=noninteractive apt-get)
  "${apt[@]}" "${options[@]}" install "$@" >&2 2>/dev/null ||
    { "${apt[@]}" -qq update >&2 && "${apt[@]}" "${options[@]}" install "$@" >&2; } ||
    fail "apt-get could not install $*"
}

# Prints a Python that is new enough for the project; PYTHON in the environment is asked first, then the
# system's own: the image runs that one, and one that a person built is often built without
# optimisations (the tests take a sixth more CPU on it).
find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "no Python 3.11 or newer on PATH; on Debian 12 or newer: apt-get install python3"
}

# Usage: ensure_venv GROUP... Makes .venv and brings it to what uv.lock says for these groups.
# What other groups brought stays.
ensure_venv() {
  local python group groups=()
  if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    python="$(find_python)" || return
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
      apt_install python3-venv || return  # Debian's python3 comes without
    fi
    say "making ${VENV##*/} anew with $python"
    "$python" -m venv --clear "$VENV" || fail "$python could not make $VENV" || return
  fi
  if [ "$("$VENV/bin/uv" --version 2>/dev/null | cut -d ' ' -f 2)" != "$UV_VERSION" ]; then
    say "installing uv $UV_VERSION"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
      --only-binary :all: --requirement "$ROOT/scripts/uv-requirements.txt" >&2 ||
      fail "pip could not install uv" || return
  fi
  for group in "$@"; do groups+=(--group "$group"); done
  say "syncing ${VENV##*/} with uv.lock ($*)"
  (
    cd "$ROOT" || exit
    VIRTUAL_ENV="$VENV" UV_PROJECT_ENVIRONMENT="$VENV" UV_PYTHON_DOWNLOADS=never \
      "$VENV/bin/uv" sync --quiet --locked --inexact "${groups[@]}" >&2
  ) || fail "uv could not bring ${VENV##*/} to what uv.lock says"
}

# Brings redis-server.
ensure_redis_server() { ensure_stopped redis-server redis-server; }

# Brings promtool, which tests the alerts, and the server that it comes with.
ensure_prometheus() { ensure_stopped promtool prometheus; }

# Brings Alertmanager, whose webhooks the gateway takes.
ensure_alertmanager() { ensure_stopped prometheus-alertmanager prometheus-alertmanager; }

# Brings the browser in which the explorer's pages are tried, and a font to draw them with.
ensure_chromium() {
  command -v chromium >/dev/null || apt_install chromium fonts-dejavu-core
}

# Usage: ensure_stopped PROGRAM PACKAGE. Brings a program whose Debian package would also start it as a
# service; policy-rc.d is Debian's way to say no to that. The body is a subshell, so that its trap
# tidies up after an interrupt as well.
ensure_stopped() (
  command -v "$1" >/dev/null && exit
  need_root_or_sudo "to install $2" || exit
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap 'as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
  fi
  apt_install "$2" || exit
  if [ -d /run/systemd/system ]; then as_root systemctl --quiet disable --now "$2"; fi
)
