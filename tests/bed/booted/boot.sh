#!/bin/bash
# boot.sh CHECKOUT FOLDER SCRIPT: boots this machine's own systemd in namespaces of its own (mounts, processes, host
# name, network, control groups), over a copy of the root file system that is thrown away, and runs SCRIPT there.
# What SCRIPT prints is in FOLDER/out. Needs root; nothing outside of FOLDER is changed.
set -eu
checkout=$1 folder=$2 script=$3 root=$2/machine

layers() {
  mount --make-rprivate /
  mount -t tmpfs tmpfs "$folder/layers"
  mkdir "$folder/layers/upper" "$folder/layers/work"
  mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/layers/upper,workdir=$folder/layers/work" "$root"
  mkdir -p "$root/srv/trial"
  cp -r "$checkout" "$root/srv/checkout"
  cp "$script" "$root/srv/trial/script"
  mount -t proc proc "$root/proc"
  mount -t tmpfs -o mode=755 tmpfs "$root/run"
  devices
}

devices() {
  local name
  mount -t tmpfs -o mode=755 tmpfs "$root/dev"
  mkdir "$root/dev/pts" "$root/dev/shm"
  for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
  done
  ln -s /proc/self/fd "$root/dev/fd"
  mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
  ln -s pts/ptmx "$root/dev/ptmx"
}

# What a container's systemd must leave alone: the kernel's settings, modules, devices, clock.
contained() {
  local unit
  mount -t sysfs -o ro sysfs "$root/sys"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  mount --bind "$root/proc/sys" "$root/proc/sys"
  mount -o remount,ro,bind "$root/proc/sys"
  for unit in sysctl modules-load udevd udev-trigger random-seed hwdb-update binfmt tmpfiles-setup-dev timesyncd \
    networkd resolved logind; do
    ln -sf /dev/null "$root/etc/systemd/system/systemd-$unit.service"
  done
  rm -f "$root"/etc/systemd/system/multi-user.target.wants/*
  ip link set lo up
}

unit_for_the_script() {
  printf '[Unit]\nWants=trial.service\n' >"$root/etc/systemd/system/trial.target"
  printf '[Service]\nType=oneshot\nExecStart=/bin/bash /srv/trial/script\nTimeoutStartSec=600\n%s\n%s\n%s\n' \
    StandardOutput=append:/srv/trial/out StandardError=append:/srv/trial/out \
    'ExecStopPost=/bin/systemctl --no-block exit 0' >"$root/etc/systemd/system/trial.service"
  touch "$root/srv/trial/out" "$folder/out"
  mount --bind "$folder/out" "$root/srv/trial/out"
}

if [ "${4:-}" = booting ]; then
  contained
  unit_for_the_script
  exec env -i container=docker PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    setpriv --bounding-set -sys_time,-sys_module,-sys_boot,-mknod \
    chroot "$root" /lib/systemd/systemd --unit=trial.target --show-status=no
fi
mkdir -p "$folder/layers" "$root"
layers
# The program is installed while there is a network; the rest once systemd is there.
env -u PYTHONPATH PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  chroot "$root" /srv/checkout/scripts/install-service >"$folder/installed" 2>&1
umount "$root/proc"

# A control group of its own: a booted systemd moves everything that it finds in its root.
groups=$folder/groups own=$folder/groups/broadcastd-trial-$$
mkdir -p "$groups"
mount -t cgroup2 cgroup2 "$groups"
mkdir "$own"
echo $$ >"$own/cgroup.procs"
code=0
unshare --mount --uts --ipc --net --cgroup --pid --fork --kill-child --mount-proc="$root/proc" \
  bash "$0" "$checkout" "$folder" "$script" booting || code=$?
echo $$ >"$groups/cgroup.procs"
find "$own" -depth -type d -exec rmdir {} \;
exit "$code"
