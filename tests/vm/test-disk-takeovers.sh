#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest writes records to an ext4 file system, each durable before it is acknowledged, while the
# primary is killed again and again at random moments, with rejoin in between. In the end every
# acknowledged record is there, the file system and the image are sound, and both hosts' images equal.
# ROUNDS: how many kills of each kind (5).
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"

for tool in nbdkit qemu-img mkfs.ext4 e2fsck debugfs; do
    PATH=$PATH:/sbin:/usr/sbin command -v $tool >/dev/null || tap_skip_all "no $tool"
done
PATH=$PATH:/sbin:/usr/sbin
rounds=${ROUNDS:-5}
GUEST_ARGS=disk=vda

# Of 64 MiB, with a file system; alpha's is the first primary's, beta's has something else in it.
make_images() { # FORMAT
    for host in alpha beta; do
        image=$HOSTS_DIR/$host/root.img
        rm -rf "$image" "$HOSTS_DIR/$host/disks"
        truncate -s 64M "$HOSTS_DIR/$host/plain"
        [ $host = beta ] || mkfs.ext4 -q -F "$HOSTS_DIR/$host/plain"
        if [ "$1" = qcow2 ]; then
            qemu-img convert -O qcow2 "$HOSTS_DIR/$host/plain" "$image"
            truncate -s 68M "$image"
            rm "$HOSTS_DIR/$host/plain"
        else
            mv "$HOSTS_DIR/$host/plain" "$image"
        fi
    done
}

image_of() {
    echo "$HOSTS_DIR/$1/root.img"
}

acknowledged() {
    wc -l <"$HOSTS_DIR/client/records.log"
}

has_acknowledged() {
    [ "$(acknowledged)" -ge "$1" ]
}

# All that the primary's disks have written is in the secondary's image. No epoch later than this one
# is applied before.
is_applied() { # EPOCH
    [ "$(hosts_status "$secondary" disks.epoch)" -ge "$1" ]
}

# takeovers FORMAT MODE
takeovers() {
    what="$1, $2 mode"
    make_images "$1"
    for host in alpha beta; do
        hosts_config $host "checkpoint.mode=$2" log.log-level=debug \
            "disk root.path=$(image_of $host)" "disk root.format=$1" \
            "disks.state-dir=$HOSTS_DIR/$host/disks"
    done
    primary=alpha secondary=beta
    pair_boot
    not_ok "$what: the guest has its disk" grep FATAL "$HOSTS_DIR/$primary/serial.log"
    rm -f "$HOSTS_DIR/client/records.log"
    hosts_start client records "$COLO_BUILD/tests/tools/records" write "$HOSTS_GUEST_IP"
    records=$hosts_pid
    HOSTS_WATCH=$records
    for round in $(seq "$rounds"); do
        pair_join
        more=$(awk -v seed="$(hosts_uptime_ms)" 'BEGIN { srand(seed); print 1 + int(rand() * 60) }')
        need "$what, round $round: $more more records" \
            has_acknowledged $(($(acknowledged) + more))
        mark
        hosts_kill "$primary"
        pair_swap
        need "$what, round $round: $primary takes over" is_alone "$primary"
        need "$what, round $round: records go on" has_acknowledged $(($(acknowledged) + 1))
    done
    HOSTS_WATCH=''
    kill -TERM "$records"
    need "$what: the client ends" has_ended "$records"
    wait "$records"
    is "$what: it has lost nothing" $? 0
    count=$(acknowledged)
    diag "$what: $count records"

    pair_join
    is "$what: the guest unmounts its disk" "$(hosts_guest umount)" ok
    epoch=$(($(hosts_status "$primary" epoch) + 2))
    need "$what: all is applied" is_applied $epoch
    for host in $primary $secondary; do
        hosts_colo "$host" quit >/dev/null
        need "$what: $host ends" is_empty "$host"
    done
    ok "$what: both images are equal" cmp "$(image_of alpha)" "$(image_of beta)"
    plain=$(image_of beta)
    if [ "$1" = qcow2 ]; then
        ok "$what: qemu-img check" qemu-img check -q "$plain"
        plain=$HOSTS_DIR/plain
        qemu-img convert -O raw "$(image_of beta)" "$plain"
    fi
    ok "$what: e2fsck" e2fsck -f -n "$plain"
    rm -rf "$HOSTS_DIR/files" && mkdir "$HOSTS_DIR/files"
    debugfs -R "rdump / $HOSTS_DIR/files" "$plain" >/dev/null 2>&1
    ok "$what: every record is there" \
        "$COLO_BUILD/tests/tools/records" check "$HOSTS_DIR/files" "$count"
}

# shellcheck disable=SC2119 # the options are set below, for each host
pair_setup
takeovers raw buffered
takeovers qcow2 buffered
takeovers qcow2 colo
tap_done
