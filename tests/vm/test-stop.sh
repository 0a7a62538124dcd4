#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest that an administrator has stopped, on a disk whose metadata QEMU caches: nothing is
# written to its memory over checkpoints, the death of its host, a secondary that joins and a hand-over. Then it is
# continued on a host where it has never run, and neither a client nor the disk has lost anything.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"

GUEST_ARGS=disk=vda
raw=$COLO_BUILD/tests/stop.img

is_stopped() { # HOST
    hosts_status_is "$1" vm.state stopped && hosts_status_is "$1" vm.stopped-by admin
}

knows() { # HOST: the secondary
    hosts_status_is "$1" vm.stopped-by admin
}

has_checkpoints() { # HOST COUNT
    [ "$(hosts_status "$1" checkpoints.total)" -ge "$2" ]
}

# Pages that were written before each of the last COUNT checkpoints of a primary, on one line. The guest
# that runs writes to hundreds in a second.
written() { # HOST COUNT
    sed -n 's/.* checkpoint complete .* dirty=\([0-9]*\) .*/\1/p' "$HOSTS_DIR/$1/colod.log" |
        tail -n "$2" | xargs
}

runs_again() { # HOST
    hosts_status_is "$1" vm.state running && ! knows "$1"
}

# Nothing is written to its memory, whatever QEMU does for five checkpoints.
stays_stopped() { # WHAT
    total=$(hosts_status "$primary" checkpoints.total)
    need "$1: checkpoints go on" has_checkpoints "$primary" $((total + 6))
    is "$1: the guest has not run" "$(written "$primary" 5)" "0 0 0 0 0"
    ok "$1: it is stopped" is_stopped "$primary"
    ok "$1: the secondary knows" knows "$secondary"
    is "$1: it is protected" "$(hosts_status "$primary" protected)" true
}

# The guest stood still for longer than its HTTP client waits. The echoed connection must be kept.
client_waited() { # WHAT
    client_mark && records=$(figure "$figures" records)
    need "$1: the client goes on" client_continues
    is "$1: it has lost nothing" "$(client_verdict "$figures" | sed 's/http.*//')" "${CLIENT_GOOD%http*}"
    diag "$1: the client's longest gap: $gap_ms ms"
    kill -TERM "$client"
    need "$1: the client ends" has_ended "$client"
    client=''
}

rounds() { # MODE
    for host in alpha beta; do
        hosts_config $host "checkpoint.mode=$1" checkpoint.checkpoint-period=200ms \
            log.log-level=debug "disk root.path=$(image_of $host root)" "disk root.format=qcow2" \
            "disks.state-dir=$HOSTS_DIR/$host/disks"
        rm -rf "$HOSTS_DIR/$host/disks" "$(image_of $host root)"
        qemu-img create -q -f qcow2 "$(image_of $host root)" 64M
    done
    rm -f "$raw" && truncate -s 64M "$raw" && mkfs.ext4 -q -F "$raw"
    qemu-img convert -n -f raw -O qcow2 "$raw" "$(image_of alpha root)"
    truncate -s 68M "$(image_of alpha root)" "$(image_of beta root)"
    primary=alpha secondary=beta
    pair_boot
    writer_start records write "$HOSTS_GUEST_IP"
    client_start
    pair_join
    continues "$1" records 5
    mark

    not_ok "$1: nothing is written while it runs" test "$(written alpha 1)" = 0
    ok "$1: stop" hosts_colo alpha stop
    need "$1: it is stopped" is_stopped alpha
    need "$1: beta is told" knows beta
    not_ok "$1: stop is for the primary" hosts_colo beta stop
    stays_stopped "$1, stopped"

    hosts_kill alpha
    pair_swap
    need "$1: beta has the VM" is_in beta primary none
    ok "$1: and it is stopped there" is_stopped beta
    decided_for beta "$1"
    node_start alpha auto
    need "$1: alpha joins: protected" is_pair beta alpha
    need "$1: alpha is told" knows alpha
    stays_stopped "$1, taken over"

    hosts_colo beta failover --no-wait >/dev/null
    need "$1: handed over" is_pair alpha beta
    pair_swap
    need "$1: beta is told" knows beta
    stays_stopped "$1, handed over"

    # SIGTERM hands it over, too.
    kill -TERM "$(pid_of alpha)"
    pair_swap
    need "$1: beta has the VM again" is_in beta primary none
    ok "$1: and it is stopped" is_stopped beta
    ok "$1: cont" hosts_colo beta cont
    need "$1: the guest runs" runs_again beta
    continues "$1, continued" records 5
    client_waited "$1, continued"
    kill -TERM "$writer"
    need "$1: the writer ends" has_ended "$writer"
    wait "$writer"
    is "$1: it has lost nothing, and kept its connection" $? 0

    hosts_colo beta quit >/dev/null
    need "$1: beta ends" is_empty beta
    need "$1: alpha has ended" is_empty alpha
    ok "$1: qemu-img check" qemu-img check -q "$(image_of beta root)"
    qemu-img convert -f qcow2 -O raw "$(image_of beta root)" "$raw"
    files=$HOSTS_DIR/files
    rm -rf "$files" && mkdir "$files"
    e2fsck -f -p "$raw" >/dev/null
    ok "$1: e2fsck" e2fsck -f -n "$raw"
    debugfs -R "rdump / $files" "$raw" >/dev/null 2>&1
    ok "$1: every record is there" \
        "$COLO_BUILD/tests/tools/records" check "$files" "$(acknowledged records)"
}

# shellcheck disable=SC2119 # the options are set for each round
pair_setup
rounds colo
rounds buffered
nothing_left
rm -f "$raw"
tap_done
