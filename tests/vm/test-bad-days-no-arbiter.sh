#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A pair without an arbiter: whoever loses its peer waits, its output held, until it is told to go on. The VM has a raw
# and a qcow2 disk. Then the link is lost in a switchover, as the VM is handed over. A secondary that has begun to take
# it goes on; one that has not waits. The primary can't know which: it waits, its disks given up, whatever is typed there
# without force. It comes back as the other's secondary.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u

# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"

command -v socat >/dev/null || tap_skip_all "no socat"

primary_dies() {
    what='the primary dies'
    mark
    hosts_kill "$primary"
    need "$what: the secondary waits" is_in "$secondary" secondary paused
    need "$what: it says for what" logged "$secondary" 'until an administrator decides'
    wait_ok "$what: its VM stands still" hosts_status_is "$secondary" vm.state paused
    ok "$what: it is told to go on" hosts_colo "$secondary" failover
    taken_over "$what, told"
    not_decided "$what"
    pair_join
}

secondary_dies() {
    what='the secondary dies'
    mark
    hosts_kill "$secondary"
    need "$what: the primary waits" is_in "$primary" primary paused
    need "$what: it says for what" logged "$primary" 'until an administrator decides'
    ok "$what: it is told to go on" hosts_colo "$primary" failover
    continues_unprotected "$what, told"
    not_decided "$what"
    pair_join
}

# ---- A switchover ----

is_stopped_at() { # PROCESS
    grep -q '^State:[[:space:]]*T' "/proc/$1/status"
}

# Linked again or not.
waits_as() { # HOST ROLE
    hosts_status_is "$1" role "$2" &&
        case $(hosts_status "$1" state) in paused | recover) ;; *) return 1 ;; esac
}

# lost_at POINT: the secondary stands still there until the primary has given the link up.
lost_at() {
    hosts_colo "$secondary" quit >/dev/null
    died "$secondary" 0 "$what"
    need "$what: $primary goes on" is_alone "$primary"
    node_start "$secondary" secondary "COLO_FAULT=$1:1:stop"
    need "$what: protected" is_pair "$primary" "$secondary"
    bitmap_filled "$what"
    mark
    stopped=$(pid_of "$secondary") copy_qemu=$(hosts_status "$secondary" vm.pid)
    ok "$what: ordered" hosts_colo "$primary" switchover
    need "$what: $secondary stops there" is_stopped_at "$stopped"
    need "$what: $primary has lost the link" is_in "$primary" primary paused
    frames=$(frames_sent "$primary")
}

is_refused() { # HOST WORD...
    refuser=$1
    shift
    ! hosts_colo "$refuser" "$@" >"$HOSTS_DIR/refused" 2>&1
}

# Its VM stands, and is not its own to run.
stands() { # HOST WHAT
    is "$2: $1's VM stands" "$(hosts_status "$1" vm.state)" paused
    is "$2: $1's disks are given up" "$(hosts_status "$1" disks.flag)" inactive
    is "$2: $1 has let out nothing" "$(frames_sent "$1")" "$frames"
}

# does_not_know HOST: it had handed the VM over.
does_not_know() {
    has "$what: $1 says what to look for" "$(hosts_status "$1" waiting.can)" 'whether the VM has run there'
    ok "$what: a failover there is refused" is_refused "$1" failover
    has "$what: and it says why" "$(cat "$HOSTS_DIR/refused")" 'was handed over'
    hosts_colo "$1" cont >/dev/null 2>&1
    stands "$1" "$what, cont"
    node_kept=$(pid_of "$1")
    node_start "$1" primary
    died_beside "$1" "$what: one more colod there"
    eval "pid_$1=$node_kept"
    stands "$1" "$what, one more colod"
}

# As died(), of one beside which the first one runs on.
died_beside() { # HOST WHAT
    need "$2 ends" has_ended "$(pid_of "$1")"
    wait "$(pid_of "$1")" 2>/dev/null
    is "$2: with status 1" $? 1
}

comes_back() { # HOST
    ok "$what: quit on $1" hosts_colo "$1" quit
    died "$1" 0 "$what, quit"
    node_start "$1" auto
    died "$1" 2 "$what, started as auto"
    ok "$what, started as auto: it says why not" logged "$1" 'an arbiter'
    pair_join
    need "$what: so are the disks" hosts_status_is "$primary" disks.in-sync true
    client_unharmed "$what, protected again"
    cow_is_sound "$what" counts
}

lost_as_it_is_taken() {
    what='the link is lost as the VM is taken'
    lost_at handed-granted
    stands "$primary" "$what"
    kill -CONT "$stopped"
    taken_over "$what"
    is "$what: its disks are $primary's" "$(hosts_status "$primary" disks.flag)" active
    does_not_know "$secondary"
    client_unharmed "$what, and $secondary was asked"
    not_decided "$what"
    comes_back "$secondary"
}

# Its QEMU is not to answer whether it is well before the loss is noticed.
lost_before_it_is_taken() {
    what='the link is lost before the VM is taken'
    lost_at handed-received
    stands "$primary" "$what"
    kill -STOP "$copy_qemu"
    kill -CONT "$stopped"
    need "$what: $secondary waits" waits_as "$secondary" secondary
    kill -CONT "$copy_qemu"
    is "$what: nobody has taken over" "$(hosts_status "$secondary" takeovers)" 0
    need "$what: $primary waits, too" waits_as "$primary" primary
    does_not_know "$primary"
    ok "$what: $secondary is told to go on" hosts_colo "$secondary" failover
    taken_over "$what, told"
    need "$what: $secondary has noticed" is_in "$secondary" primary paused
    does_not_know "$secondary"
    not_decided "$what"
    comes_back "$secondary"
}

# shellcheck disable=SC2119 # the options are set below, for each host
pair_setup
bitmap_disks
for host in alpha beta; do
    bitmap_config $host arbiter.type=none arbiter.path=
done
pair_boot
client_start
pair_join

primary_dies
secondary_dies
lost_as_it_is_taken
lost_before_it_is_taken

pair_end
