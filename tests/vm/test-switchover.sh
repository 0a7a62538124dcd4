#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A planned switchover, to and fro on the same guest with traffic all the time, in both modes; held, and
# cancelled again and again. The client loses nothing, and the guest's memory is what it wrote.
# (tests/process/test-node-switchover.c counts the guest's steps.)
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"

pair_setup vm.memory=128MiB checkpoint.mode=buffered
pair_boot
client_start
pair_join

for round in 1 2 3 4 5 6; do
    mark
    ok "round $round: ordered on $primary" hosts_colo "$primary" switchover --pause
    need "round $round: the VM is held" is_in "$primary" primary pre-switchover
    is "round $round: it is paused" "$(hosts_status "$primary" vm.state)" paused
    is "round $round: it is protected" "$(hosts_status "$primary" protected)" true
    ok "round $round: goes on" hosts_colo "$primary" continue pre-switchover
    pair_swap
    need "round $round: the pair is protected again" is_pair "$primary" "$secondary"
    is "round $round: completed" "$(hosts_status "$primary" switchover.status)" completed
    client_unharmed "round $round"
    ok "round $round: the guest's memory is what it wrote" guest_verifies
done
mark
ok "held once more" hosts_colo "$primary" switchover --pause
need "the VM is held" is_in "$primary" primary pre-switchover
ok "cancelled" hosts_colo "$secondary" cancel
need "it is protected as before" is_pair "$primary" "$secondary"
is "the status says so" "$(hosts_status "$primary" switchover.status)" cancelled
client_unharmed "cancelled"
ok "colo mode from now on" hosts_colo "$primary" set mode=colo
for round in 1 2 3 4; do
    mark
    ok "colo, round $round: done" hosts_colo "$primary" switchover --wait
    pair_swap
    need "colo, round $round: the pair is protected again" is_pair "$primary" "$secondary"
    client_unharmed "colo, round $round"
    ok "colo, round $round: the guest's memory is what it wrote" guest_verifies
done

mark
cancelled=0
for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    if [ $((round % 2)) = 0 ]; then order='switchover --pause'; else order=switchover; fi
    # shellcheck disable=SC2086 # a command and its option
    hosts_colo "$primary" $order || break
    hosts_colo "$secondary" cancel
    hosts_colo "$primary" cancel || break
    hosts_wait "$PATIENCE" "round $round: a protected pair" is_pair_either_way || break
    is_pair "$primary" "$secondary" || pair_swap
    case $(hosts_status "$primary" switchover.status) in cancelled) cancelled=$((cancelled + 1)) ;; esac
done
is "twenty were begun and ended" "$round" 20
ok "some were cancelled ($cancelled)" test $cancelled -gt 0
need "the pair is protected" is_pair_either_way
client_unharmed "cancelled twenty times"
pair_end
