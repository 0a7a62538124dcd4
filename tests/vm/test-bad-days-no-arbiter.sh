#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A pair without an arbiter: whoever loses its peer waits, its output held, until it is told to go on.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u

# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"

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

pair_setup arbiter.type=none arbiter.path=
pair_boot
client_start
pair_join

primary_dies
secondary_dies

pair_end
