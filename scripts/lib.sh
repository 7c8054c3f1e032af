# Sourced by the scripts beside it: the virtual environment, and Debian packages that are missing.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="${BROADCASTD_VENV:-$root/.venv}"

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
fail() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

python_3_11() {
  local candidate
  for candidate in python3.11 python3.12 python3.13 python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  fail "Python 3.11 or later is needed"
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# apt_packages COMMAND=PACKAGE…: install the package of each command that is not there.
apt_packages() {
  local pair missing=()
  for pair in "$@"; do
    PATH="$PATH:/usr/sbin" command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
  done
  [ "${#missing[@]}" -eq 0 ] && return
  command -v apt-get >/dev/null || fail "please install: ${missing[*]}"
  say "Installing Debian packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get update -qq
  # No service is started: the tests run servers of their own.
  as_root env RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# virtualenv EXTRAS: make the environment and install this checkout and its client library into it. Done
# again only when a setup.cfg has changed.
virtualenv() {
  local wanted stamp="$venv/.installed-$1"
  wanted=$(cat "$root/setup.cfg" "$root/client/setup.cfg" | sha256sum)
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then return; fi
  if [ ! -x "$venv/bin/python" ]; then
    say "Making a virtual environment in $venv"
    "$(python_3_11)" -m venv "$venv" \
      || { apt_packages "no-venv-module=python3-venv"; "$(python_3_11)" -m venv --clear "$venv"; }
  fi
  say "Installing broadcastd and its client library${1:+ with what is needed for: $1}"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --editable "$root${1:+[$1]}" --editable "$root/client"
  printf '%s\n' "$wanted" >"$stamp"
}
