#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The secondary's storage is full at the moment at which the primary dies: nobody else has the VM. It is
# kept, says why it doesn't run, and goes on as soon as there is room, with all that was acknowledged.
# Then a guest that nobody protects runs out of room in its own image.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"

GUEST_ARGS=disk=vda

reports_no_room() { # HOST
    hosts_status "$1" last-error.text | grep -q "No space left on device"
}

is_stopped() { # HOST
    hosts_status_is "$1" vm.state io-error
}

# Where there is nothing left to be written for the takeover, the guest's next write finds it out.
is_stuck() { # HOST
    reports_no_room "$1" || is_stopped "$1"
}

# As QEMU says it of a takeover's writes, or colod of the guest's own.
says_why() { # HOST
    hosts_status "$1" last-error.text | grep -q -e "No space left on device" -e "stopped by an I/O error of a disk"
}

runs() { # HOST
    hosts_status_is "$1" vm.state running
}

fill() { # HOST
    dd if=/dev/zero of="$HOSTS_DIR/$1/small/fill" bs=64k 2>/dev/null
    dd if=/dev/zero of="$HOSTS_DIR/$1/small/fill2" bs=4k 2>/dev/null
}

writer_ends() { # WHAT
    kill -TERM "$writer"
    need "$1: the client ends" has_ended "$writer"
    wait "$writer"
    is "$1: it has lost nothing, and kept its connection" $? 0
}

# All that was acknowledged is on beta's image.
check_records() { # WHAT
    hosts_colo beta quit >/dev/null
    need "$1: beta ends" is_empty beta
    files=$HOSTS_DIR/files
    rm -rf "$files" && mkdir "$files"
    e2fsck -f -p "$beta_image" >/dev/null
    ok "$1: e2fsck" e2fsck -f -n "$beta_image"
    debugfs -R "rdump / $files" "$beta_image" >/dev/null 2>&1
    ok "$1: every record is there" \
        "$COLO_BUILD/tests/tools/records" check "$files" "$(acknowledged records)"
}

take_over_without_room() { # MODE
    rm -rf "$HOSTS_DIR"/beta/small/* "$HOSTS_DIR/alpha/disks"
    truncate -s 0 "$alpha_image" && truncate -s 64M "$alpha_image" "$beta_image"
    mkfs.ext4 -q -F "$alpha_image"
    for host in alpha beta; do
        eval "image=\$${host}_image"
        # shellcheck disable=SC2154 # by eval
        hosts_config $host "checkpoint.mode=$1" log.log-level=debug "disk root.path=$image" \
            "disk root.on-error=stop" "disks.state-dir=$(dirname "$image")/disks"
    done
    primary=alpha secondary=beta
    pair_boot
    writer_start records write "$HOSTS_GUEST_IP"
    pair_join
    continues "$1" records 20
    mark
    # From here on nothing more comes from alpha; before beta has missed it, there is no room there.
    # shellcheck disable=SC2046 # several words
    kill -STOP $(hosts_pids_of alpha)
    fill beta
    hosts_kill alpha
    need "$1, no room: beta goes on no further" is_stuck beta
    ok "$1, no room: and says why" says_why beta
    if reports_no_room beta; then
        ok "$1, no room: and waits" is_in beta secondary device
        hosts_colo beta cont >"$HOSTS_DIR/cont" 2>&1
        is "$1, no room: colo cont fails" $? 1
        ok "$1, no room: and why" grep -q "No space left on device" "$HOSTS_DIR/cont"
    fi
    rm "$HOSTS_DIR"/beta/small/fill*
    need "$1, room is made: beta takes over" is_alone beta
    decided_for beta "$1"
    continues "$1, room is made" records 5
}

# shellcheck disable=SC2119 # the options are set below, for each host
pair_setup
mkdir "$HOSTS_DIR/beta/small"
mount -t tmpfs -o size=48M tmpfs "$HOSTS_DIR/beta/small" 2>/dev/null || tap_skip_all "no tmpfs"
alpha_image=$HOSTS_DIR/alpha/root.img beta_image=$HOSTS_DIR/beta/small/root.img

take_over_without_room colo
writer_ends colo
check_records colo

take_over_without_room buffered
# Now that it is unprotected: its own image is full. (If it was so before, that has been told.)
fill beta
need "no room on the primary: the guest stands still" is_stopped beta
ok "no room on the primary: it is told" logged beta "I/O error of a disk"
rm "$HOSTS_DIR"/beta/small/fill*
need "room is made: the guest goes on by itself" runs beta
continues "room is made" records 5
writer_ends buffered
check_records buffered
nothing_left
tap_done
