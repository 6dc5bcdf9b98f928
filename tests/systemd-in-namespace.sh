#!/bin/bash
# SPDX-License-Identifier: MIT
#
# systemd-in-namespace.sh - boot a real systemd (system manager) as PID 1 of a
# throw-away namespace on this machine, run one command against it, tear down.
#
#   systemd-in-namespace.sh [-s STAGE] [-b DIR]... UNITDIR [--] COMMAND [ARG...]
#
#   UNITDIR   unit files and drop-ins, copied into the new /etc/systemd/system
#   -s STAGE  a `make install DESTDIR=STAGE` tree, laid over the new root
#   -b DIR    show this directory of the host read-write at the same path
#             (all other writes go to a tmpfs and are gone afterwards)
#
# COMMAND runs as root inside the namespaces, where systemctl, journalctl and
# systemd-run talk to the new manager.  Exit status: COMMAND's own; 77 = this
# machine cannot do it (skip); 99 = it could, but the boot failed (see stderr).
set -eu
SYSTEMD=/lib/systemd/systemd
BOOT_S=${BOOT_S:-30} STOP_S=${STOP_S:-20}          # time limits, seconds
say() { echo "systemd-in-namespace: $*" >&2; }
skip() { say "SKIP: $*"; exit 77; }

# ---- stage 3: PID 1 of the new namespaces: build the root, become systemd ----
if [ "${1:-}" = --pid1 ]; then
  W=$2 UNITS=$3 STAGE=$4 R=$2/root; shift 4        # the rest: directories to bind
  umask 022; mkdir "$W/upper" "$W/work" "$R"
  mount -t overlay -o "lowerdir=/,upperdir=$W/upper,workdir=$W/work" overlay "$R"
  mount -t proc -o nosuid,nodev,noexec proc "$R/proc"
  mount --bind "$R/proc/sys" "$R/proc/sys"         # sysctls are the host's: read-only
  mount -o remount,bind,ro "$R/proc/sys"
  mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$R/sys"
  mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$R/sys/fs/cgroup"
  mount -t tmpfs -o mode=755,nosuid tmpfs "$R/dev" # a private /dev: no kmsg, no console
  mkdir "$R/dev/pts" "$R/dev/shm"
  for d in null zero full random urandom tty; do
    : >"$R/dev/$d"; mount --bind "/dev/$d" "$R/dev/$d"
  done
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$R/dev/pts"
  ln -s pts/ptmx "$R/dev/ptmx"; ln -s /proc/self/fd "$R/dev/fd"
  for d in 0:stdin 1:stdout 2:stderr; do ln -s "fd/${d%:*}" "$R/dev/${d#*:}"; done
  for d in dev/shm:1777 tmp:1777 run:755 var/log:755 var/tmp:1777 \
           etc/systemd/system:755 etc/systemd/user:755; do   # hides what the host enabled
    mount -t tmpfs -o "mode=${d#*:},nosuid,nodev" tmpfs "$R/${d%:*}"
  done
  [ -z "$STAGE" ] || tar -C "$STAGE" --owner=0 --group=0 -c . |
    tar -C "$R" --no-overwrite-dir --keep-directory-symlink -x
  find "$UNITS" -mindepth 1 -maxdepth 1 -exec cp -a -t "$R/etc/systemd/system" {} +
  for u in systemd-firstboot systemd-timesyncd systemd-modules-load modprobe@; do
    ln -sf /dev/null "$R/etc/systemd/system/$u.service"      # no questions, no kernel work
  done
  for u in dev-hugepages sys-kernel-{debug,tracing,config} sys-fs-fuse-connections; do
    ln -sf /dev/null "$R/etc/systemd/system/$u.mount"
  done
  for d; do mkdir -p "$R$d"; mount --rbind "$d" "$R$d"; done
  mkdir "$R/run/host"; cd "$R"; pivot_root . run/host; umount -l /run/host; rmdir /run/host
  mount --make-rshared /                           # as on a real boot; LoadCredential= needs it
  # container= keeps systemd's hands off the kernel and lets it exit instead of reboot
  exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 container=ipc-test \
    "$SYSTEMD" --system --unit=basic.target --log-target=journal --show-status=0 </dev/null
fi

# ---- stage 2: private mount namespace: make a cgroup, boot, run, stop ----
if [ "${1:-}" = --run ]; then
  W=$2 UNITS=$3 STAGE=$4 NB=$5; shift 5; BIND=("${@:1:NB}"); shift "$NB"
  U='' P='' CG=''
  prune() { find "$1" -depth -type d -exec rmdir {} + 2>/dev/null || :; }   # empty cgroups
  cleanup() {
    trap '' INT TERM HUP
    [ -z "$U" ] || kill -KILL "${P:-$U}" 2>/dev/null || :    # all of it dies with PID 1
    wait 2>/dev/null || :
    for _ in {1..50}; do [ -d "$CG" ] || break; prune "$CG"; sleep 0.05; done
    umount -l "$W" 2>/dev/null || :; rmdir "$W"
  }
  trap cleanup EXIT; trap 'exit 130' INT TERM HUP
  mount -t tmpfs -o mode=755 tmpfs "$W" || skip "cannot mount"; mkdir "$W/cg"
  mount -t cgroup2 cgroup2 "$W/cg" 2>/dev/null || skip "no cgroup v2"
  CG=$W/cg$(sed -n 's/^0:://p' /proc/self/cgroup)/systemd-ns
  for d in "$CG".*; do [ -d "/proc/${d##*.}" ] || prune "$d"; done  # a SIGKILLed run left it
  CG=$CG.$$; mkdir "$CG" 2>/dev/null || skip "cannot make a cgroup"
  # each process dies with its parent, so a killed test script leaves nothing running;
  # only PID 1 joins the cgroup: one process outside the namespace in it would hinder systemd
  setpriv --pdeathsig KILL unshare --pid --fork --kill-child=KILL --mount --uts --ipc --net \
    sh -c 'echo 0 >"$0/cgroup.procs" && exec unshare --cgroup bash "$@"' "$CG" \
    "$0" --pid1 "$W" "$UNITS" "$STAGE" "${BIND[@]}" </dev/null &
  U=$!
  for ((i = 0; i < BOOT_S * 20; i++)); do
    kill -0 "$U" 2>/dev/null || { say "PID 1 is gone"; exit 99; }
    P=$(tr -d ' ' 2>/dev/null <"/proc/$U/task/$U/children") || :
    [ -n "$P" ] && [ "$(cat "/proc/$P/comm" 2>/dev/null)" = systemd ] &&
      [ -S "/proc/$P/root/run/systemd/private" ] && break
    P=''; sleep 0.05
  done
  [ -n "$P" ] || { say "no systemd after $BOOT_S s"; exit 99; }
  inside=(nsenter -t "$P" -m -u -i -n -p -C --)
  state=$("${inside[@]}" timeout "$BOOT_S" systemctl is-system-running --wait) || :
  case $state in running) ;; degraded) "${inside[@]}" systemctl --failed --no-pager >&2 ;;
    *) say "boot ended in state '$state'"; exit 99 ;; esac
  # in the background, so that traps act at once; in its own cgroup, so that leftovers can be killed
  "${inside[@]}" sh -c 'c=/sys/fs/cgroup/command; mkdir $c && echo $$ >$c/cgroup.procs &&
    exec env --default-signal "$@"' sh "$@" <&0 &
  rc=0; wait $! || rc=$?
  echo 1 >"$CG/command/cgroup.kill"
  "${inside[@]}" systemctl poweroff >/dev/null 2>&1 || :   # in order
  for ((i = 0; i < STOP_S * 20; i++)); do [ -d "/proc/$P" ] || { U=; exit "$rc"; }; sleep 0.05; done
  say "no orderly stop within $STOP_S s"; exit "$rc"
fi

# ---- stage 1: on the host: can it be done here? ----
STAGE='' BIND=()
while getopts s:b: o; do
  case $o in s) STAGE=$(realpath "$OPTARG") ;; b) BIND+=("$(realpath "$OPTARG")") ;; *) exit 2 ;; esac
done
shift $((OPTIND - 1)); UNITS=$(realpath "${1:-.}"); shift || :; [ "${1:-}" != -- ] || shift
if [ ! -d "$UNITS" ] || [ $# = 0 ]; then say "need a directory of units and a command"; exit 2; fi
[ "$(id -u)" = 0 ] || skip "not root"
[ -x $SYSTEMD ] || skip "no $SYSTEMD (package systemd)"
for t in unshare nsenter setpriv; do command -v $t >/dev/null || skip "no $t (util-linux)"; done
grep -qw overlay /proc/filesystems || skip "no overlayfs"
unshare --pid --fork --mount --cgroup --uts --ipc --net true 2>/dev/null || skip "no namespaces"
exec unshare --mount --propagation private bash "$0" --run "$(mktemp -d -t systemd-ns.XXXXXX)" \
  "$UNITS" "$STAGE" "${#BIND[@]}" "${BIND[@]}" "$@"
