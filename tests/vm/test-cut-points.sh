#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The link cut at each step of a planned switchover (common/fault.c), on one guest with traffic all the time.
# A node is stopped at the step, all connections are reset, and it goes on: each side may ask the arbiter
# first. Exactly one goes on, the other one becomes its secondary, and the client is unharmed. One disk is a qcow2
# image with a persistent bitmap, which QEMU writes as it gives the disk up: whoever goes on has it whole.
# (test-fault-points.sh kills at these steps.)
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"

command -v socat >/dev/null || tap_skip_all "no socat"

PROXY_PORT=9001

# Whoever dials does it through here; the file "orders" is a pipe to it.
way_of() { # HOST
    mkfifo "$HOSTS_DIR/$1/orders"
    address=$(hosts_sync_address "$1")
    hosts_start "$1" proxy sh -c "exec '$COLO_BUILD/tests/tools/chaos-proxy' $address:$PROXY_PORT \
        $(hosts_sync_address "$(hosts_peer "$1")"):$HOSTS_SYNC_PORT <'$HOSTS_DIR/$1/orders'"
}

proxies_end() {
    for host in alpha beta; do
        # shellcheck disable=SC2046
        kill -KILL $(hosts_running $host chaos-proxy) 2>/dev/null
    done
}

is_stopped_at() { # PROCESS
    grep -q '^State:[[:space:]]*T' "/proc/$1/status"
}

both_have_lost_it() {
    logged alpha 'the link to the peer is lost' || logged beta 'the link to the peer is lost'
}

armed_secondary() { # FAULT
    hosts_colo "$secondary" quit >/dev/null
    need "$1: $secondary's last process has ended" has_ended "$(pid_of "$secondary")"
    need "$1: $primary goes on" is_alone "$primary"
    node_start "$secondary" secondary "COLO_FAULT=$1:1:stop"
    need "$1: protected" is_pair "$primary" "$secondary"
}

cut_there() { # POINT HOST [OPTION]
    bitmap_filled "$1"
    mark
    stopped=$(pid_of "$2")
    # shellcheck disable=SC2086 # none, or one
    ok "$1: ordered" hosts_colo "$primary" switchover ${3:-}
    need "$1: $2 stops there" is_stopped_at "$stopped"
    echo 'cut all' >&7
    echo 'cut all' >&8
    kill -CONT "$stopped"
    need "$1: the link is lost" both_have_lost_it
    need "$1: protected again" is_pair_either_way
    bitmap=counts
    if ! is_pair "$primary" "$secondary"; then
        pair_swap
        # In the checkpoint before the last one it is in use.
        [ "$2" = "$primary" ] || bitmap=''
    fi
    diag "$1: $primary has gone on"
    decided_for "$primary" "$1"
    client_unharmed "$1"
    cow_is_sound "$1" $bitmap
    ok "$1: the guest's memory is what it wrote" guest_verifies
}

cut_at_primary() { # POINT [OPTION]
    armed_secondary "$1"
    ok "$1: it becomes the primary" hosts_colo "$primary" switchover --wait
    pair_swap
    need "$1: and is protected" is_pair "$primary" "$secondary"
    cut_there "$1" "$primary" "${2:-}"
}

# The primary stands there until the other one has gone on: its image has what QEMU wrote last, and the other one's has not.
overtaken_at() { # POINT
    armed_secondary "$1"
    ok "$1: it becomes the primary" hosts_colo "$primary" switchover --wait
    pair_swap
    need "$1: and is protected" is_pair "$primary" "$secondary"
    bitmap_filled "$1, overtaken"
    mark
    stopped=$(pid_of "$primary")
    ok "$1, overtaken: ordered" hosts_colo "$primary" switchover
    need "$1, overtaken: $primary stops there" is_stopped_at "$stopped"
    taken_over "$1, overtaken"
    decided_for "$primary" "$1, overtaken"
    kill -CONT "$stopped"
    need "$1, overtaken: protected again" is_pair "$primary" "$secondary"
    client_unharmed "$1, overtaken"
    cow_is_sound "$1, overtaken"
}

cut_at_secondary() { # POINT
    armed_secondary "$1"
    cut_there "$1" "$secondary"
}

# shellcheck disable=SC2119 # the options are set below, for each host
pair_setup
bitmap_disks
for host in alpha beta; do
    bitmap_config $host "node.peer=$(hosts_sync_address $host):$PROXY_PORT"
    way_of $host
done
exec 7<>"$HOSTS_DIR/alpha/orders" 8<>"$HOSTS_DIR/beta/orders"
pair_boot
client_start
pair_join
cut_at_primary switchover-held --pause
for point in switchover-saved switchover-released switchover-marked switchover-inactive \
    handed-paused handed-sent; do
    cut_at_primary $point
done
for point in handed-received handed-granted handed-activated handed-taken; do
    cut_at_secondary $point
done
for point in switchover-released switchover-inactive; do
    overtaken_at $point
done
proxies_end
pair_end
