#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Both hosts stand still for longer than every timeout, colod, QEMU and all, and go on: a hypervisor
# under both of them was paused, or a laptop closed. Nobody has died, so nothing may change; the client
# only waits.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"

ROUNDS=6
# qemu-timeout is 2 s, what a secondary may owe an answer 7 s.
FROZEN_S=8

# Both at once, or as nearly as a list of processes allows.
freeze_both() {
    # shellcheck disable=SC2046
    kill -STOP $(hosts_pids_of alpha beta)
    # What is tested is what time does.
    sleep $FROZEN_S
    # shellcheck disable=SC2046
    kill -CONT $(hosts_pids_of alpha beta)
}

pair_setup vm.qemu-timeout=2s link.heartbeat-timeout=1s
pair_boot
client_start
pair_join

round=1
while [ $round -le $ROUNDS ]; do
    what="frozen $round"
    mark
    # At another moment of a checkpoint each time.
    sleep "0.$((round * 17 % 10))"
    freeze_both
    client_unharmed "$what"
    ok "$what: protected as before" is_pair "$primary" "$secondary"
    not_ok "$what: the primary's state has not changed" logged "$primary" ' state '
    not_decided "$what"
    round=$((round + 1))
done

pair_end
