#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Planned switchovers to and fro, under traffic, of a guest that writes to its disk all the time. Both hosts keep
# their QEMU and their disk server throughout, and each time only what differs is sent again, of RAM and of
# the disk. Then the primary is killed, and the other one takes over as ever. In the end all that was
# acknowledged is there.
# ROUNDS: how many switchovers in each case (20).
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"

root=$COLO_BUILD/guest/root.ext4
[ -e "$root" ] || tap_skip_all "no root file system for the test guest (make guest)"
rounds=${ROUNDS:-20} ram_mib=128 disk_mib=64
most=$(((ram_mib + disk_mib) * 1024 * 1024 / 20)) # 5 % of both

make_images() { # FORMAT
    rm -rf "$HOSTS_DIR"/*/*.img "$HOSTS_DIR"/*/disks
    for host in alpha beta; do
        if [ "$1" = raw ]; then
            truncate -s ${disk_mib}M "$(image_of $host root)"
        else
            qemu-img create -q -f qcow2 "$(image_of $host root)" ${disk_mib}M
        fi
    done
    qemu-img convert -n -O "$1" "$root" "$(image_of alpha root)"
    [ "$1" = raw ] || truncate -s $((disk_mib + 4))M "$(image_of alpha root)" "$(image_of beta root)"
}

# What the primary has sent of RAM in its sessions' first checkpoints since the last mark.
ram_sent() {
    tail -n "+$(cat "$HOSTS_DIR/$primary/marked")" "$HOSTS_DIR/$primary/colod.log" |
        sed -n 's/.*checkpoint complete reason=initial .* bytes=\([0-9]*\).*/\1/p' |
        awk '{ sum += $1 } END { print sum + 0 }'
}

moves() { # WHAT
    mark
    ok "$1: done" hosts_colo "$primary" switchover --wait
    pair_swap
    need "$1: protected again" is_pair "$primary" "$secondary"
    need "$1: so is the disk" hosts_status_is "$primary" disks.in-sync true
    is "$1: the same processes" "$(processes)" "$kept"
    is "$1: not all of the disk is compared" "$(hosts_status "$primary" disks.sync.full)" false
    of_ram=$(ram_sent) of_disk=$(hosts_status "$primary" disks.sync.sent-bytes)
    diag "$1: $of_ram bytes for RAM, $of_disk of the disk"
    ok "$1: RAM's first checkpoint was sent" test "$of_ram" -gt 0
    ok "$1: less than 5 %" test $((of_ram + of_disk)) -lt "$most"
    client_unharmed "$1"
    continues "$1" records 1
}

check_image() { # WHAT FORMAT
    plain=$HOSTS_DIR/root.plain files=$HOSTS_DIR/files
    [ "$2" = raw ] || ok "$1: qemu-img check" qemu-img check -q "$(image_of "$primary" root)"
    qemu-img convert -f "$2" -O raw "$(image_of "$primary" root)" "$plain"
    ok "$1: e2fsck" e2fsck -f -n "$plain"
    rm -rf "$files" && mkdir "$files"
    debugfs -R "rdump / $files" "$plain" >/dev/null 2>&1
    ok "$1: every record is there" \
        "$COLO_BUILD/tests/tools/records" check "$files/data" "$(acknowledged records)"
}

kept_through() { # FORMAT MODE
    what="$1, $2 mode"
    make_images "$1"
    GUEST_ARGS="dirty_rate=500 root=vda"
    for host in alpha beta; do
        hosts_config $host vm.memory=${ram_mib}MiB "checkpoint.mode=$2" log.log-level=debug \
            "disk root.path=$(image_of $host root)" "disk root.format=$1" \
            "disks.state-dir=$HOSTS_DIR/$host/disks"
    done
    primary=alpha secondary=beta
    pair_boot
    client_start
    writer_start records write "$HOSTS_GUEST_IP"
    writer_pid=$writer
    mark
    pair_join
    ok "$what: at first much of RAM was sent" test "$(ram_sent)" -gt "$most"
    continues "$what" records 5
    kept=$(processes)
    is "$what: two of each" "$(echo "$kept" | wc -l)" 4
    for round in $(seq "$rounds"); do
        moves "$what, round $round"
    done
    ok "$what: the guest's memory is what it wrote" guest_verifies
    mark
    hosts_kill "$primary"
    taken_over "$what, killed"
    continues "$what, killed" records 3
    pair_join
    client_end
    kill -TERM "$writer_pid"
    need "$what: the writer ends" has_ended "$writer_pid"
    wait "$writer_pid"
    is "$what: it has lost nothing" $? 0
    wait_ok "$what: the guest writes no more" guest_unmounts
    nothing_left
    check_image "$what" "$1"
}

# shellcheck disable=SC2119 # the options are set for each case
pair_setup
kept_through raw colo
kept_through qcow2 buffered
tap_done
