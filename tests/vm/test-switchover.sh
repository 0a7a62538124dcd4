#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A planned switchover, twenty times to and fro on the same guest with traffic all the time, in both modes;
# held, and cancelled again and again; and with a guest that is stopped. The client loses nothing, the guest's
# memory is what it wrote, and what it prints is in the log of the host that has it.
# (tests/process/test-node-switchover.c counts the guest's steps.)
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"

prints() { # TEXT: the guest, on the serial port
    [ "$(hosts_guest "run echo $1 >/dev/console")" = "done" ]
}

printed() { # HOST TEXT: whatever it had printed elsewhere
    grep -q -F -e "$2" "$HOSTS_DIR/$1/serial.log"
}

is_stopped() { # HOST
    hosts_status_is "$1" vm.state stopped && hosts_status_is "$1" vm.stopped-by admin
}

# The VM is $secondary's, which is $primary now; nothing was lost.
moved() { # WHAT
    pair_swap
    need "$1: the pair is protected again" is_pair "$primary" "$secondary"
    is "$1: completed" "$(hosts_status "$secondary" switchover.status)" completed
    is "$1: on both" "$(hosts_status "$primary" switchover.status)" completed
    client_unharmed "$1"
    ok "$1: the guest's memory is what it wrote" guest_verifies
    ok "$1: the guest prints" prints "printed: $1."
    need "$1: it is in $primary's log" printed "$primary" "printed: $1."
}

held_and_moved() { # WHAT
    mark
    ok "$1: ordered on $primary" hosts_colo "$primary" switchover --pause
    need "$1: the VM is held" is_in "$primary" primary pre-switchover
    is "$1: it is paused" "$(hosts_status "$primary" vm.state)" paused
    is "$1: it is protected" "$(hosts_status "$primary" protected)" true
    ok "$1: goes on" hosts_colo "$primary" continue pre-switchover
    moved "$1"
}

done_at_once() { # WHAT
    mark
    ok "$1: done" hosts_colo "$primary" switchover --wait
    moved "$1"
}

pair_setup vm.memory=128MiB checkpoint.mode=buffered
pair_boot
client_start
pair_join

for round in 1 2 3 4 5; do
    held_and_moved "buffered, held, round $round"
    done_at_once "buffered, round $round"
done
mark
ok "held once more" hosts_colo "$primary" switchover --pause
need "the VM is held" is_in "$primary" primary pre-switchover
ok "cancelled" hosts_colo "$secondary" cancel
need "it is protected as before" is_pair "$primary" "$secondary"
is "the status says so" "$(hosts_status "$primary" switchover.status)" cancelled
client_unharmed "cancelled"
ok "colo mode from now on" hosts_colo "$primary" set mode=colo
for round in 1 2 3 4 5; do
    held_and_moved "colo, held, round $round"
    done_at_once "colo, round $round"
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

# There and back: it has never run on the other host.
client_end
mark
ok "stop" hosts_colo "$primary" stop
need "it is stopped" is_stopped "$primary"
for round in 1 2; do
    ok "stopped, round $round: done" hosts_colo "$primary" switchover --wait
    pair_swap
    need "stopped, round $round: the pair is protected again" is_pair "$primary" "$secondary"
    ok "stopped, round $round: the guest is" is_stopped "$primary"
done
ok "cont" hosts_colo "$primary" cont
need "the guest answers" guest_verifies
nothing_left
tap_done
