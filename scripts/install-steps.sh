# Sourced by install-service: its steps. `target` is empty, or the folder of --root.

put_user() {
  say "User broadcastd, folders /etc/broadcastd and /var/lib/broadcastd"
  install -D -m 0644 "$root/systemd/sysusers.conf" "$target/etc/sysusers.d/broadcastd.conf"
  install -D -m 0644 "$root/systemd/tmpfiles.conf" "$target/etc/tmpfiles.d/broadcastd.conf"
  if [ -n "$target" ] && { [ "$(id -u)" -ne 0 ] || ! command -v systemd-sysusers >/dev/null; }; then
    say "  not root, or no systemd-sysusers: owners under $target are left to the image's first boot"
    mkdir -p "$target/etc/broadcastd" "$target/var/lib/broadcastd"
    return
  fi
  mkdir -p "$target/etc" "$target/var/lib"
  if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers ${target:+--root="$target"} "$target/etc/sysusers.d/broadcastd.conf" 2>&1 | indented
  elif ! getent passwd broadcastd >/dev/null; then
    useradd --system --user-group --home-dir /var/lib/broadcastd --shell /usr/sbin/nologin broadcastd
  fi
  set_owners
}

# What tmpfiles.conf says, also on a machine without systemd-tmpfiles.
set_owners() {
  local user
  [ "$(id -u)" -eq 0 ] || return 0
  user=$(awk -F: '$1 == "broadcastd" { print $3 ":" $4 }' "$target/etc/passwd" 2>/dev/null) || return 0
  mkdir -p "$target/etc/broadcastd" "$target$state" "$target/var/lib/broadcastd-identity"
  chown "0:${user#*:}" "$target/etc/broadcastd"
  chown "$user" "$target/var/lib/broadcastd" "$target$state" "$target/var/lib/broadcastd-identity"
  chmod 0750 "$target/etc/broadcastd" "$target/var/lib/broadcastd" "$target$state" "$target/var/lib/broadcastd-identity"
  if [ -e "$target$settings" ]; then
    chown "0:${user#*:}" "$target$settings"
    chmod 0640 "$target$settings"
  fi
}

# The new program is made beside the old one and tried on the settings before it takes its place; the old one stays
# as PREFIX.previous.
put_program() {
  local made=$target$prefix.new wanted python
  python=$(system_python)
  wanted=$(sources_sum "$python")
  if [ -x "$program" ] && [ "$(cat "$target$prefix/.installed" 2>/dev/null)" = "$wanted" ]; then
    say "The program in $prefix is this one already"
    return
  fi
  [ ! -e "$target$prefix" ] || [ -e "$target$prefix/.installed" ] \
    || fail "$prefix is there and not of this program; --prefix names another folder"
  say "The program, in $prefix"
  make_environment "$python" "$made"
  printf '%s\n' "$wanted" >"$made/.installed"
  settings_still_fit "$made"
  rm -rf "$target$prefix.previous"
  [ ! -e "$target$prefix" ] || mv "$target$prefix" "$target$prefix.previous"
  mv "$made" "$target$prefix"
  changed=yes
}

# A Python that the service may read: nothing under /root or /home.
system_python() {
  local found
  if [ -n "${BROADCASTD_PYTHON:-}" ]; then
    echo "$BROADCASTD_PYTHON"
    return
  fi
  PATH=/usr/bin:/usr/local/bin:$PATH
  found=$(python_3_11)
  found=$(readlink -f "$(command -v "$found")")
  case "$found" in
    /root/* | /home/*) fail "$found is out of a service's sight; please install Debian's: apt-get install python3" ;;
  esac
  echo "$found"
}

sources_sum() {
  (
    cd "$root"
    "$1" --version
    echo "$prefix"
    find broadcastd setup.cfg constraints.txt \( -name '*.py' -o -name '*.toml' -o -name '*.cfg' -o -name '*.txt' \) \
      -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
  ) | sha256sum
}

# make_environment PYTHON DIR. Built from a copy, so that nothing of root's is left in the checkout.
make_environment() {
  local python=$1 made=$2
  rm -rf "$made"
  mkdir -p "$(dirname "$made")"
  "$python" -m venv "$made" >/dev/null 2>&1 \
    || { apt_packages "no-venv-module=python3-venv"; rm -rf "$made"; "$python" -m venv "$made"; }
  copy=$(mktemp -d)
  trap 'rm -rf "$copy"' EXIT
  cp -r "$root"/{broadcastd,systemd,docs,setup.cfg,pyproject.toml,README.md,LICENSE} "$copy"
  PIP_ROOT_USER_ACTION=ignore "$made/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
    --constraint "$root/constraints.txt" "$copy"
  "$made/bin/python" -m compileall -q -j 0 -s "$made" -p "$prefix" "$made/lib"
  # Finds its environment from where it lies: this folder is moved, and may be part of an image.
  rm "$made/bin/broadcastd"
  cat >"$made/bin/broadcastd" <<'END'
#!/bin/sh
exec "$(dirname "$(readlink -f "$0")")/python" -P -m broadcastd "$@"
END
  chmod 0755 "$made/bin/broadcastd"
}

settings_still_fit() {
  local one
  for one in "$target"/etc/broadcastd/*.toml; do
    [ -e "$one" ] && [ -e "$program" ] || continue
    "$1/bin/broadcastd" config check -c "$one" >/dev/null \
      || fail "the new program cannot use $one (see above). Nothing was changed: the old one goes on"
  done
}

put_settings() {
  if [ -e "$target$settings" ]; then
    say "Settings: $settings stays as it is"
  else
    say "Settings: $settings, to be filled in"
    local restart=()
    if [ "$systemd" = no ]; then
      restart=(--restart "/usr/local/bin/broadcastd restart -c $settings" --user broadcastd
        --pid-file "$pid_file" --log-file "$log_file")
    elif [ -n "$instance" ]; then
      restart=(--restart "systemctl restart $name.service")
    fi
    "$program" config init "$target$settings" --state-dir "$state" --identity-dir /var/lib/broadcastd-identity \
      ${port:+--port "$port"} "${restart[@]}" >/dev/null
  fi
  set_owners
}

put_units() {
  local unit
  if [ "$systemd" = no ]; then
    say "Log rotation: /etc/logrotate.d/broadcastd"
    install -D -m 0644 "$root/systemd/logrotate.conf" "$target/etc/logrotate.d/broadcastd"
    return
  fi
  say "Units: $name.service, $name.socket, $monitor.timer"
  mkdir -p "$units"
  for unit in "$root"/systemd/broadcastd*; do
    sed "s|/opt/broadcastd/|$prefix/|g" "$unit" >"$units/$(basename "$unit")"
    chmod 0644 "$units/$(basename "$unit")"
  done
  put_address
  [ -n "$target" ] || systemctl daemon-reload
}

# The socket is systemd's: its address is in a drop-in, unless it is the unit's own.
put_address() {
  local address dropin=$units/$name.socket.d/address.conf before
  before=$(cat "$dropin" 2>/dev/null || true)
  address=$("$program" config show --json -c "$target$settings" 2>/dev/null | address_of) || return 0
  if [ "$address" = 127.0.0.1:9090 ] && [ -z "$instance" ]; then
    rm -f "$dropin"
  else
    mkdir -p "$(dirname "$dropin")"
    printf '# server.host and server.port of %s; written by install-service.\n[Socket]\nListenStream=\nListenStream=%s\n' \
      "$settings" "$address" >"$dropin"
  fi
  [ "$before" = "$(cat "$dropin" 2>/dev/null || true)" ] || moved=yes
}

address_of() {
  "$target$prefix/bin/python" -c '
import ipaddress, json, sys
server = json.load(sys.stdin)["server"]
host = "127.0.0.1" if server["host"] == "localhost" else server["host"]
try:
    address = ipaddress.ip_address(host)
except ValueError:
    sys.exit(f"install-service: server.host = {host!r}: a socket of systemd takes an IP address")
form = "[{}]:{}" if address.version == 6 else "{}:{}"
print(form.format(address, server["port"]))
'
}

put_shell_parts() {
  local share=$target/usr/local/share
  say "The command /usr/local/bin/broadcastd, completion, man page"
  mkdir -p "$target/usr/local/bin"
  ln -sfrT "$program" "$target/usr/local/bin/broadcastd"
  mkdir -p "$share/bash-completion/completions" "$share/zsh/site-functions" "$share/fish/vendor_completions.d"
  "$program" completion bash >"$share/bash-completion/completions/broadcastd"
  "$program" completion zsh >"$share/zsh/site-functions/_broadcastd"
  "$program" completion fish >"$share/fish/vendor_completions.d/broadcastd.fish"
  install -D -m 0644 "$root/docs/broadcastd.1" "$share/man/man1/broadcastd.1"
}

start_or_say_what_next() {
  local enable="systemctl enable --now $name.socket $name.service $monitor.timer"
  if ! usable; then
    say "Not started yet. Next:"
    echo "  1. fill in $settings"
    echo "  2. broadcastd config check -c $settings"
    echo "  3. run this once more: it starts the daemon"
  elif [ "$systemd" = no ]; then
    without_systemd
  elif [ "$start" = no ]; then
    say "Not started. To start it: $enable"
  else
    start_units
    say "It runs:"
    "$program" info -c "$settings" | indented
  fi
}

usable() {
  "$program" config check -c "$target$settings" | indented \
    && "$program" config check --json -c "$target$settings" 2>/dev/null | grep -q '"left": \[\]'
}

start_units() {
  say "Starting $name.socket, $name.service, $monitor.timer"
  systemctl enable --quiet "$name.socket" "$name.service" "$monitor.timer"
  if [ "${moved:-no}" = yes ]; then systemctl stop "$name.socket"; fi
  systemctl start "$name.socket" \
    || fail "its port cannot be opened: does another program hold it (ss -ltnp), the former one perhaps?"
  systemctl restart "$name.service" || { systemctl status --no-pager "$name.service" || true; fail "it did not start"; }
  systemctl start "$monitor.timer"
  # The program is shared: the other daemons take it up as well.
  if [ "${changed:-no}" = yes ]; then running_others | xargs -r systemctl restart; fi
}

without_systemd() {
  if "$program" config show --json -c "$target$settings" 2>/dev/null | starts_as_root; then
    say "Without systemd it takes these lines in $settings, in [background]; then run this once more:"
    printf '  user = "broadcastd"\n  pid_file = "%s"\n  log_file = "%s"\n' "$pid_file" "$log_file"
    return
  fi
  say "There is no systemd here. These lines in root's crontab (crontab -e) start and watch it:"
  echo "  @reboot    /usr/local/bin/broadcastd start -c $settings >/dev/null"
  echo "  * * * * *  /usr/local/bin/broadcastd monitor -c $settings >/dev/null"
  say "To start it now: broadcastd start -c $settings"
  echo "    To restart it, after an upgrade too: broadcastd restart -c $settings; its log: $log_file"
}

# Settings of before, or made for systemd: started by root, it would stay root.
starts_as_root() {
  "$target$prefix/bin/python" -c 'import json, sys; sys.exit(json.load(sys.stdin)["background"]["user"] != "")'
}

remove() {
  if [ -z "$target" ] && [ "$systemd" = yes ]; then
    say "Stopping and disabling $name"
    systemctl disable --quiet --now "$monitor.timer" "$name.socket" "$name.service" 2>&1 | indented || true
  fi
  rm -rf "$units/$name.socket.d/address.conf"
  rmdir "$units/$name.socket.d" 2>/dev/null || true
  if [ -z "$instance" ]; then
    [ -z "$(running_others)" ] || fail "still running: $(running_others | xargs); first --uninstall --instance each of them"
    say "Removing the program, the units, the command"
    [ ! -e "$target$prefix/.installed" ] || rm -rf "$target$prefix" "$target$prefix.new" "$target$prefix.previous"
    rm -f "$units"/broadcastd{,@}.{service,socket} "$units"/broadcastd-monitor{,@}.{service,timer}
    rm -f "$target"/etc/{sysusers,tmpfiles}.d/broadcastd.conf "$target/etc/logrotate.d/broadcastd"
    rm -f "$target/usr/local/bin/broadcastd"
    rm -f "$target/usr/local/share"/{bash-completion/completions/broadcastd,zsh/site-functions/_broadcastd}
    rm -f "$target/usr/local/share"/{fish/vendor_completions.d/broadcastd.fish,man/man1/broadcastd.1}
  fi
  [ -n "$target" ] || [ "$systemd" = no ] || systemctl daemon-reload
  say "Kept: the settings in /etc/broadcastd, the ledger in $state and its identity in /var/lib/broadcastd-identity,"
  echo "    the monitor's state in /var/lib/broadcastd-monitor, the user broadcastd, whose they are"
}

running_others() {
  [ -z "$target" ] && [ "$systemd" = yes ] || return 0
  systemctl list-units --plain --no-legend broadcastd.service 'broadcastd@*.service' \
    | awk -v own="$name.service" '$1 != own { print $1 }'
}

indented() { sed 's/^/    /'; }
