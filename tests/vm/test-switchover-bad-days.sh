#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A planned switchover on a bad day, of one guest with traffic: the arbiter is away as it is ordered, and as the VM is
# handed over; the secondary's QEMU refuses to load what it was handed; the guest panics. Either it waits, or it fails and
# says why. The VM runs on in the same QEMU, and its client loses nothing. Then the guest reboots, and powers off.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"

begins() {
    mark
    own=$(processes | grep "^$primary ") taken=$(hosts_status "$secondary" takeovers)
}

waits_for() { # PART
    hosts_status_is "$primary" switchover.status setup &&
        hosts_status "$primary" switchover.ack-pending | grep -q -F "$1"
}

has_failed() {
    hosts_status_is "$primary" switchover.status failed && hosts_status_is "$secondary" switchover.status failed
}

# runs_on WHAT TEXT: it has failed, both hosts say why, and nothing else has changed.
runs_on() {
    need "$1: it has failed" has_failed
    for host in $primary $secondary; do
        has "$1: $host says why" "$(hosts_status "$host" switchover.error)" "$2"
    done
    need "$1: the VM runs where it was" hosts_status_is "$primary" vm.state running
    is "$1: in the same QEMU" "$(processes | grep "^$primary ")" "$own"
    is "$1: nobody has taken over" "$(hosts_status "$secondary" takeovers)" "$taken"
}

is_protected() {
    hosts_status_is "$primary" protected true && is_pair "$primary" "$secondary"
}

moves() { # WHAT
    need "$1: done" hosts_status_is "$primary" switchover.status completed
    pair_swap
    need "$1: protected again" is_protected
    decided_for "$primary" "$1"
    client_unharmed "$1"
}

# ---- The arbiter ----

arbiter_goes() { # WHAT
    mv "$HOSTS_DIR/arbiter" "$HOSTS_DIR/arbiter.away"
    for host in alpha beta; do
        need "$1: $host knows it" arbiter_is_away $host
    done
}

arbiter_is_away() { # HOST
    [ -n "$(hosts_status "$1" arbiter.trouble)" ] && ! hosts_status_is "$1" arbiter.trouble null
}

arbiter_comes_back() {
    mv "$HOSTS_DIR/arbiter.away" "$HOSTS_DIR/arbiter"
}

arbiter_is_away_too_long() {
    what='the arbiter is away for too long'
    begins
    arbiter_goes "$what"
    ok "$what: ordered" hosts_colo "$primary" switchover
    need "$what: it waits for it" waits_for arbiter
    need "$what: the VM runs" hosts_status_is "$primary" vm.state running
    client_unharmed "$what, and it waits"
    runs_on "$what" arbiter
    arbiter_comes_back
    need "$what: protected" is_protected
    client_unharmed "$what"
    not_decided "$what"
}

arbiter_is_away_for_a_while() {
    what='the arbiter is away for a while'
    begins
    arbiter_goes "$what"
    ok "$what: ordered" hosts_colo "$primary" switchover
    need "$what: it waits for it" waits_for arbiter
    arbiter_comes_back
    moves "$what"
}

# Approved, and then it can't be asked: the secondary may not take the VM, and leaves it.
arbiter_goes_as_it_is_held() {
    what='the arbiter goes as the VM is held'
    begins
    ok "$what: ordered" hosts_colo "$primary" switchover --pause
    need "$what: the VM is held" is_in "$primary" primary pre-switchover
    arbiter_goes "$what"
    ok "$what: goes on" hosts_colo "$primary" continue
    runs_on "$what" arbiter
    arbiter_comes_back
    need "$what: protected" is_protected
    client_unharmed "$what"
    not_decided "$what"
}

# ---- The secondary's QEMU ----

owner_is() { # HOST
    grep -q -w "$1" "$HOSTS_DIR/arbiter/"*.owner
}

# In mode buffered it doesn't load what comes before the last checkpoint. The machine lacks a device of the primary's.
refuses_to_load() {
    what='the secondary refuses to load it'
    begins
    its=$(processes | grep "^$secondary ")
    has "$what: it loses a device" \
        "$(monitor_answer "$secondary" '{"execute": "device_del", "arguments": {"id": "tablet"}}')" '"return": {}'
    ok "$what: ordered" hosts_colo "$primary" switchover
    runs_on "$what" load
    client_unharmed "$what, given back"
    need "$what: protected" is_protected
    ok "$what: the VM is $primary's on record" owner_is "$primary"
    not_ok "$what: by a new QEMU" [ "$(processes | grep "^$secondary ")" = "$its" ]
    client_unharmed "$what"
    mark
    ok "$what: ordered again" hosts_colo "$primary" switchover
    moves "$what: the new one doesn't"
}

# ---- The guest ----

# machine HOST COMMAND: one of QEMU's human monitor.
machine() {
    monitor_answer "$1" "{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": \"$2\"}}" |
        grep -F '"return": ""'
}

# sends_ahead WHAT: and does so for as long as it may, as no VM ever has so little left to send.
sends_ahead() {
    ok "$1: hardly a pause" hosts_colo "$primary" set downtime-limit=1ms
    ok "$1: ordered" hosts_colo "$primary" switchover
    need "$1: pages are sent ahead" hosts_status_is "$primary" switchover.status active
}

# By the panic device (pvpanic), which is all that a kernel tells QEMU of it. This one is well, and runs again after
# `cont`, or after a checkpoint that has come before that.
guest_panics() {
    what='the guest panics'
    begins
    session=$(hosts_status "$primary" session)
    sends_ahead "$what"
    ok "$what: so it does" machine "$primary" 'o /b 0x505 1'
    need "$what: it has failed" has_failed
    ok "$what: cont" hosts_colo "$primary" cont
    runs_on "$what" 'the guest has panicked'
    need "$what: protected" is_protected
    is "$what: the same session" "$(hosts_status "$primary" session)" "$session"
    not_decided "$what"
    client_unharmed "$what"
    ok "$what: the old limit" hosts_colo "$primary" set downtime-limit=100ms
}

guest_answers() {
    hosts_guest status >/dev/null
}

guest_reboots() {
    what='the guest reboots'
    begins
    sends_ahead "$what"
    hosts_guest crash >/dev/null
    runs_on "$what" 'the guest has rebooted'
    need "$what: it is there again" guest_answers
    need "$what: protected" is_protected
    not_decided "$what"
    ok "$what: the guest's memory is what it wrote" guest_verifies
}

# There is nothing to move any more, and nobody takes it for dead.
guest_powers_off() {
    what='the guest powers off'
    begins
    sends_ahead "$what"
    hosts_guest poweroff >/dev/null
    died "$primary" 0 "$what"
    need "$what: $secondary has seen it" is_in "$secondary" secondary none
    is "$what: it has failed" "$(hosts_status "$secondary" switchover.status)" failed
    has "$what: $secondary says why" "$(hosts_status "$secondary" switchover.error)" 'powered off'
    is "$what: nobody has taken over" "$(hosts_status "$secondary" takeovers)" "$taken"
    decided_for "$primary" "$what"
}

pair_setup checkpoint.mode=buffered arbiter.check-period=200ms arbiter.timeout=1s \
    "vm.extra=$DISKS_MONITOR -device pvpanic -device piix3-usb-uhci,id=usb -device usb-tablet,id=tablet,bus=usb.0"
pair_boot
client_start
pair_join

ok "a limit for what is waited for" hosts_colo "$primary" set "switchover-timeout=$((2 * hosts_patience))s"
arbiter_is_away_too_long
ok "the old limit" hosts_colo "$primary" set switchover-timeout=30s
arbiter_is_away_for_a_while
arbiter_goes_as_it_is_held
refuses_to_load
guest_panics
ok "the guest's memory is what it wrote" guest_verifies
client_end
guest_reboots
guest_powers_off
nothing_left
tap_done
