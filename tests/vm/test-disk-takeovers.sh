#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest runs from a root file system on its replicated disk. Two clients have it write all the time:
# transactions of an SQLite database, and records that are synced to files, in some cases on a second
# disk of another model. The primary is killed again and again at random moments, with rejoin in
# between; after each takeover the guest forgets what it had cached. In the end everything that was
# acknowledged is there, once and as it was written, database, file systems and images are sound, and
# both hosts' images equal. In the last of the cases both hosts die at once, and all of it is to be
# found in the images of the primary.
# ROUNDS: how many kills in each case (5).
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"

command -v sqlite3 >/dev/null || tap_skip_all "no sqlite3"
root=$COLO_BUILD/guest/root.ext4
[ -e "$root" ] || tap_skip_all "no root file system for the test guest (make guest)"
rounds=${ROUNDS:-5}

# Alpha's are the first primary's, beta's are empty. The root has the format, the other disk is raw.
make_images() { # FORMAT
    rm -rf "$HOSTS_DIR"/*/*.img "$HOSTS_DIR"/*/disks
    for host in alpha beta; do
        truncate -s 32M "$(image_of $host data)"
        if [ "$1" = raw ]; then
            truncate -s 64M "$(image_of $host root)"
        else
            qemu-img create -q -f qcow2 "$(image_of $host root)" 64M
        fi
    done
    mkfs.ext4 -q -F "$(image_of alpha data)"
    qemu-img convert -n -O "$1" "$root" "$(image_of alpha root)"
    [ "$1" = raw ] || truncate -s 68M "$(image_of alpha root)" "$(image_of beta root)"
}

configure() { # FORMAT MODE DATA-MODEL
    case $3 in
    '') GUEST_ARGS="dirty_rate=500 root=vda" ;;
    *) GUEST_ARGS="dirty_rate=500 root=vda scsi disk=sda" ;;
    esac
    controller=''
    [ "$3" != scsi-hd ] || controller="-device virtio-scsi-pci"
    for host in alpha beta; do
        hosts_config $host "checkpoint.mode=$2" log.log-level=debug \
            ${controller:+"vm.extra=$controller"} \
            "disk root.path=$(image_of $host root)" "disk root.format=$1" \
            ${3:+"disk data.path=$(image_of $host data)" "disk data.model=$3"} \
            "disks.state-dir=$HOSTS_DIR/$host/disks"
    done
}

# All that the primary's disks have written is in the secondary's image. No epoch later than this one
# is applied before.
is_applied() { # EPOCH
    [ "$(hosts_status "$secondary" disks.epoch)" -ge "$1" ]
}

random_up_to() {
    awk -v seed="$(hosts_uptime_ms)" -v most="$1" 'BEGIN { srand(seed); print 1 + int(rand() * most) }'
}

kill_primaries() { # WHAT
    for round in $(seq "$rounds"); do
        pair_join
        continues "$1, round $round" transactions "$(random_up_to 12)"
        continues "$1, round $round" records "$(random_up_to 12)"
        mark
        hosts_kill "$primary"
        pair_swap
        need "$1, round $round: $primary takes over" is_alone "$primary"
        is "$1, round $round: the guest forgets what it has cached" "$(hosts_guest forget)" ok
        continues "$1, round $round" transactions 1
        continues "$1, round $round" records 1
    done
}

# The clients end, the guest writes no more, the pair ends.
quiesce() { # WHAT
    writer_ends "$1" transactions "$transactions"
    writer_ends "$1" records "$records"
    pair_join
    for disk in $disks; do
        wait_ok "$1: the guest writes no more" guest_unmounts
    done
    epoch=$(($(hosts_status "$primary" epoch) + 2))
    need "$1: all is applied" is_applied $epoch
    for host in $primary $secondary; do
        hosts_colo "$host" quit >/dev/null
        need "$1: $host ends" is_empty "$host"
    done
    for disk in $disks; do
        ok "$1: both images of $disk are equal" \
            cmp "$(image_of alpha "$disk")" "$(image_of beta "$disk")"
    done
}

# Both hosts die in the same moment, the clients' last requests on their way.
both_die() { # WHAT
    pair_join
    continues "$1" transactions "$(random_up_to 12)"
    hosts_kill alpha beta
    kill -KILL "$transactions" "$records"
    wait "$transactions" "$records" 2>/dev/null
}

# What lies on the primary's disks.
check_images() { # WHAT FORMAT
    files=$HOSTS_DIR/files
    rm -rf "$files" && mkdir "$files"
    for disk in $disks; do
        plain=$HOSTS_DIR/$disk.plain
        if [ "$disk,$2" = root,qcow2 ]; then
            ok "$1: qemu-img check" qemu-img check -q "$(image_of "$primary" root)"
            qemu-img convert -O raw "$(image_of "$primary" root)" "$plain"
        else
            cp "$(image_of "$primary" "$disk")" "$plain"
        fi
        # After a death the journals are to be worked off, the file system's and the database's.
        [ "$writes" = ended ] || e2fsck -f -p "$plain" >/dev/null
        ok "$1: e2fsck of $disk" e2fsck -f -n "$plain"
        mkdir "$files/$disk"
        debugfs -R "rdump / $files/$disk" "$plain" >/dev/null 2>&1
    done
    written=$files/root/data
    [ ! -e "$files/data" ] || written=$files/data
    count=$(acknowledged transactions)
    diag "$1: $count transactions, $(acknowledged records) records"
    database=$files/root/srv/database
    is "$1: PRAGMA integrity_check" "$(sqlite3 "$database" 'PRAGMA integrity_check' 2>&1)" ok
    ok "$1: every transaction is there" rows_are_right "$database" "$count"
    ok "$1: every record is there" \
        "$COLO_BUILD/tests/tools/records" check "$written" "$(acknowledged records)"
}

# takeovers FORMAT MODE JOURNAL-MODE WRITES [DATA-MODEL]: WRITES have "ended" before the pair does, or
# not. With a DATA-MODEL the records go to a second disk, which is such a device.
takeovers() {
    what="$1, $2 mode, $3${5:+, $5}" writes=$4
    disks="root${5:+ data}"
    make_images "$1"
    configure "$1" "$2" "${5:-}"
    primary=alpha secondary=beta
    pair_boot
    not_ok "$what: the guest has its disks" grep FATAL "$HOSTS_DIR/$primary/serial.log"
    writer_start transactions sql "$HOSTS_GUEST_IP" "$3"
    transactions=$writer
    writer_start records write "$HOSTS_GUEST_IP"
    records=$writer
    HOSTS_WATCH="$transactions $records"
    kill_primaries "$what"
    HOSTS_WATCH=''
    case $writes in
    ended) quiesce "$what" ;;
    *) both_die "$what" ;;
    esac
    check_images "$what" "$1"
}

# shellcheck disable=SC2119 # the options are set below, for each host
pair_setup
takeovers raw colo wal ended
takeovers qcow2 buffered wal ended scsi-hd
takeovers qcow2 colo delete ended
takeovers raw buffered delete not-ended ide-hd
tap_done
