#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A switchover that fails, and then the VM can't be taken back either. Its storage hangs, or QEMU can't open its qcow2
# image again, for it can't note there that the bitmap is in use. The VM stays paused, which says why. If storage heals
# within resume-patience the VM runs where it was. Else it goes on from the other host: by itself, or, with a patience of 0,
# by an administrator's failover. Its client has lost nothing.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"
# shellcheck source=tests/support/faults.sh
. "$COLO_TESTS/support/faults.sh"

FAULTS='slow-raw sync raw.img hang
no-reopen write cow.img EIO'

is_stopped_at() { # PROCESS
    grep -q '^State:[[:space:]]*T' "/proc/$1/status"
}

# The primary is a node that stops once QEMU has given up its disks (common/fault.c). Before that it flushes both.
armed() {
    hosts_colo "$secondary" quit >/dev/null
    died "$secondary" 0 "$what"
    need "$what: $primary is alone" is_alone "$primary"
    start "$secondary" secondary COLO_FAULT=switchover-released:1:stop
    need "$what: protected" is_pair "$primary" "$secondary"
    ok "$what: a limit for what hangs" hosts_colo "$secondary" set "disk-timeout=$((2 * hosts_patience))s"
    moves "$what, a switchover before"
    guest_writes_both "$what"
}

patience_is() { # TIME
    ok "$what: a patience of $1" hosts_colo "$primary" set "resume-patience=$1"
}

# fails FAULT...: they begin when QEMU has given up its disks, and the raw image is next.
fails() {
    mark
    session=$(hosts_status "$primary" session) stopped=$(pid_of "$primary")
    ok "$what: ordered" hosts_colo "$primary" switchover
    need "$what: QEMU has given up its disks" is_stopped_at "$stopped"
    for fault; do
        begins "$fault"
    done
    kill -CONT "$stopped"
    need "$what: it ends" is_over
    is "$what: it has failed" "$(hosts_status "$primary" switchover.status)" failed
    has "$what: the disk is told" "$(hosts_status "$primary" switchover.error)" raw
}

is_kept() { # WHAT TEXT
    need "$1: the VM can't be taken back" hosts_status_is "$primary" vm.state inactive
    need "$1: and says why" says_why "$2"
    is "$1: its disks are not this host's" "$(hosts_status "$primary" disks.flag)" inactive
    ok "$1: both are as before" is_pair "$primary" "$secondary"
    hosts_colo "$primary" cont >"$HOSTS_DIR/cont" 2>&1
    is "$1: cont fails" $? 1
    has "$1: and says why, too" "$(cat "$HOSTS_DIR/cont")" "$2"
}

says_why() { # TEXT
    hosts_status "$primary" last-error.text | grep -q -F -e "$1"
}

# The other host has all that a client was told of.
goes_on_there() {
    need "$what: $secondary has it" hosts_status_is "$secondary" role primary
    ends slow-raw
    ends no-reopen
    pair_swap
    decided_for "$primary" "$what"
    need "$what: the VM runs" hosts_status_is "$primary" vm.state running
    need "$what: protected again" is_pair "$primary" "$secondary"
    need "$what: so are the disks" hosts_status_is "$primary" disks.in-sync true
    client_unharmed "$what"
    cow_is_sound "$what" counts
    guest_writes_both "$what"
}

heals() {
    what='storage heals in time'
    armed
    kept=$(processes)
    patience_is 60s
    fails slow-raw
    is_kept "$what" raw
    ends slow-raw
    need "$what: the VM runs where it was" is_whole
    is "$what: the same QEMU, and the same servers" "$(processes)" "$kept"
    is "$what: the same session" "$(hosts_status "$primary" session)" "$session"
    client_unharmed "$what"
    ok "$what: the bitmap is there" bitmap_counts "$primary"
}

hangs_on() {
    what='storage hangs on'
    armed
    patience_is 1s
    fails slow-raw
    goes_on_there
}

# By QEMU: it is told to run the VM, and can't write to the image.
is_refused() {
    what='QEMU refuses to run it'
    armed
    patience_is 0ms
    fails slow-raw no-reopen
    ends slow-raw
    is_kept "$what" cow
    ok "$what: failover" hosts_colo "$primary" failover
    goes_on_there
}

is_ordered_away() {
    what='storage hangs, and nobody waits for it'
    armed
    patience_is 0ms
    fails slow-raw
    is_kept "$what" raw
    ok "$what: failover" hosts_colo "$secondary" failover
    goes_on_there
}

# shellcheck disable=SC2119 # the options are set below, for each host
pair_setup
faults_disks link.heartbeat-timeout=10s
start alpha primary
need "the guest boots" grep -q 'colo-guest: ready' "$HOSTS_DIR/alpha/serial.log"
client_start
start beta secondary
need "protected" is_pair alpha beta
need "so are the disks" hosts_status_is alpha disks.in-sync true

heals
hangs_on
is_refused
is_ordered_away

guest_writes_both "the end"
pair_end
