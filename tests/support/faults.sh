# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Storage that fails on order (COLO_BLOCK_FAULT), of a pair with a raw and a qcow2 disk, which has a persistent bitmap.
# Source it after pair.sh and disks.sh, and set FAULTS: what a server is told to do wrong while the file of that name
# is there, NAME WHAT FILE ERRNO a line.
# shellcheck disable=SC2154 # FAULTS is the script's; primary and secondary are those of pair.sh

command -v socat >/dev/null || tap_skip_all "no socat"

faults_of() { # HOST
    mkdir "$HOSTS_DIR/$1/faults"
    echo "$FAULTS" | while read -r name op file how; do
        printf '%s' "$op:$file:$how:$HOSTS_DIR/$1/faults/$name;"
    done | sed 's/;$//'
}

# start HOST ROLE [NAME=VALUE...]
start() {
    start_host=$1 start_role=$2
    shift 2
    node_start "$start_host" "$start_role" "COLO_BLOCK_FAULT=$(cat "$HOSTS_DIR/$start_host/fault")" "$@"
}

begins() { # FAULT [HOST]
    : >"$HOSTS_DIR/${2:-$primary}/faults/$1"
}

ends() { # FAULT [HOST]
    rm -f "$HOSTS_DIR/${2:-$primary}/faults/$1"
}

flag_of() { # HOST
    hosts_colo "$1" status --json | "$COLO_BUILD/tests/tools/json-get" disks.flag
    for member in 0 1 2; do
        hosts_status "$1" "disks.members.$member.state"
    done
}

is_whole() {
    [ "$(flag_of "$primary" | sort -u)" = active ] && hosts_status_is "$primary" vm.state running
}

is_over() {
    case $(hosts_status "$primary" switchover.status) in failed | completed) ;; *) return 1 ;; esac
}

guest_writes_both() { # WHAT
    for disk in vda vdb; do
        ok "$1: the guest writes to $disk" guest_writes $disk 20
    done
}

moves() { # WHAT
    mark
    ok "$1: done" hosts_colo "$primary" switchover --wait
    pair_swap
    need "$1: protected again" is_pair "$primary" "$secondary"
    need "$1: so are the disks" hosts_status_is "$primary" disks.in-sync true
    client_unharmed "$1"
}

# faults_disks [OPTION=VALUE]...: images and configurations.
faults_disks() {
    for host in alpha beta; do
        truncate -s 64M "$(image_of $host raw)"
        qemu-img create -q -f qcow2 "$(image_of $host cow)" 64M
        qemu-img bitmap --add "$(image_of $host cow)" kept
        truncate -s 68M "$(image_of $host cow)" # the file doesn't grow
        hosts_config $host log.log-level=debug checkpoint.mode="${MODE:-colo}" vm.resume-patience=0ms \
            "vm.extra=$DISKS_MONITOR" "disk raw.path=$(image_of $host raw)" \
            "disk cow.path=$(image_of $host cow)" "disk cow.format=qcow2" \
            "disks.state-dir=$HOSTS_DIR/$host/disks" "$@"
        faults_of $host >"$HOSTS_DIR/$host/fault"
    done
}
