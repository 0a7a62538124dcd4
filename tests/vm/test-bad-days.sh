#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# What goes wrong around a protected VM: processes that die, hang and come back to life, links that
# are cut, an arbiter that is out of reach, administrators in disagreement, strangers at the control
# socket. One guest, booted once, with traffic all the time; each bad day begins with a protected
# pair and has to end with exactly one VM that goes on and a client that has noticed only a pause.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"

heartbeat_ms=700

# The pair is protected again by itself, whoever is the primary now.
settled() { # WHAT
    need "$1: protected again, with one primary" is_pair_either_way
    if hosts_status_is "$primary" role secondary; then pair_swap; fi
    client_unharmed "$1"
}

one_is_alone() {
    is_alone "$primary" || is_alone "$secondary"
}

# Denied: what it could have gone on from is kept until the other is seen to run the VM.
keeps_it() { # HOST
    is_in "$1" primary frozen || is_in "$1" secondary paused
}

# The host that goes on alone is $primary from here on.
one_continues() { # WHAT
    need "$1: one of them goes on" one_is_alone
    if is_alone "$secondary"; then pair_swap; fi
    need "$1: the other one keeps what it has" keeps_it "$secondary"
    wait_ok "$1: its VM doesn't run" hosts_status_is "$secondary" vm.state paused
    client_unharmed "$1"
}

no_frame_since() { # HOST FRAMES WHAT
    is "$3: $1 has not let out a frame" "$(frames_sent "$1")" "$2"
}

qemu_of() {
    hosts_status "$1" vm.pid
}

# A service manager that starts the overtaken one as what it was doesn't make a second VM.
refused_as_primary() { # WHAT
    mark
    node_start "$secondary" primary
    died "$secondary" 1 "$1, started as primary again"
    ok "$1, started as primary again: it says who runs the VM" \
        logged "$secondary" "is run by node $primary"
}

comes_back_by_itself() { # WHAT
    node_start "$secondary" auto
    need "$1: role auto makes it the secondary" is_pair "$primary" "$secondary"
    client_unharmed "$1, rejoined"
}

restart() { # WHAT: what has died comes back
    pair_join
    client_unharmed "$1, rejoined"
}

# ---- Strangers at the control socket ----

checkpoints() {
    hosts_status "$primary" checkpoints.total
}

has_more_checkpoints() { # THAN
    [ "$(checkpoints)" -gt "$1" ]
}

strangers() {
    what='strangers at the control socket'
    socket=$HOSTS_DIR/$primary/control
    mark
    # Those who connect and say nothing, or never end what they say, stay until all is over.
    clients='' number=0
    while [ $number -lt 100 ]; do
        number=$((number + 1))
        case $((number % 4)) in
        0) said='' ;;
        1) said='{"execute":"qmp_capabilities"}' ;;
        2) said='{"execute":"qmp_capabilities"}{"execute":"sta' ;;
        3) said='{"execute":"qmp_capabilities"}{"execute":"status"}' ;;
        esac
        printf %s "$said" >"$HOSTS_DIR/said-$((number % 4))"
        hosts_start "$primary" stranger socat -t 600 \
            "FILE:$HOSTS_DIR/said-$((number % 4)),ignoreeof" "UNIX:$socket"
        clients="$clients $hosts_pid"
    done
    for bytes in 1 100 10000 1000000; do
        head -c $bytes /dev/urandom | socat - "UNIX:$socket" >/dev/null 2>&1
    done
    head -c 3000000 /dev/zero | tr '\0' '[' | socat - "UNIX:$socket" >/dev/null 2>&1
    printf '{"execute":"failover","arguments":{"force":"no"}}{"execute":3}{"execute":"nonsense"}\n' |
        socat - "UNIX:$socket" >/dev/null 2>&1
    total=$(checkpoints)
    need "$what: checkpoints go on" has_more_checkpoints "$total"
    ok "$what: the pair is still protected" is_pair "$primary" "$secondary"
    client_unharmed "$what"
    for pid in $clients; do
        kill -KILL "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    not_ok "$what: nothing has happened to the state" logged "$primary" 'state primary'
}

# ---- QEMU dies, QEMU hangs ----

secondary_qemu_hangs() {
    what="the secondary's QEMU hangs"
    mark
    kill -STOP "$(qemu_of "$secondary")"
    died "$secondary" 1 "$what"
    ok "$what: it says so" logged "$secondary" 'QEMU did not '
    continues_unprotected "$what"
    restart "$what"
}

secondary_qemu_dies() {
    what="the secondary's QEMU is killed"
    mark
    kill -KILL "$(qemu_of "$secondary")"
    died "$secondary" 1 "$what"
    ok "$what: it says so" logged "$secondary" 'killed by signal 9'
    continues_unprotected "$what"
    restart "$what"
}

primary_qemu_dies() {
    what="the primary's QEMU is killed"
    mark
    kill -KILL "$(qemu_of "$primary")"
    died "$primary" 1 "$what"
    ok "$what: it says so" logged "$primary" 'killed by signal 9'
    taken_over "$what"
    decided_for "$primary" "$what"
    refused_as_primary "$what"
    comes_back_by_itself "$what"
}

primary_qemu_hangs() {
    what="the primary's QEMU hangs"
    mark
    kill -STOP "$(qemu_of "$primary")"
    died "$primary" 1 "$what"
    ok "$what: it says so" logged "$primary" 'QEMU did not '
    taken_over "$what"
    decided_for "$primary" "$what"
    restart "$what"
}

# ---- Hosts and links ----

secondary_host_dies() {
    what='the secondary host is killed'
    mark
    hosts_kill "$secondary"
    continues_unprotected "$what"
    decided_for "$primary" "$what"
    restart "$what"
}

primary_host_loses_power() {
    what='the primary host loses power'
    mark
    hosts_power_off "$primary"
    taken_over "$what"
    decided_for "$primary" "$what"
    hosts_mend "$secondary"
    refused_as_primary "$what"
    restart "$what"
}

secondary_host_loses_power() {
    what='the secondary host loses power'
    mark
    hosts_power_off "$secondary"
    continues_unprotected "$what"
    decided_for "$primary" "$what"
    hosts_mend "$secondary"
    restart "$what"
}

link_is_cut() {
    what='the link is cut'
    mark
    hosts_cut alpha sync0
    one_continues "$what"
    decided_for "$primary" "$what"
    frames=$(frames_sent "$secondary")
    hosts_mend alpha sync0
    settled "$what"
    no_frame_since "$secondary" "$frames" "$what"
}

primary_is_stopped() {
    what='the primary is stopped for longer than heartbeat-timeout'
    mark
    stopped=$(pid_of "$primary")
    kill -STOP "$stopped"
    frames=$(frames_sent "$primary")
    taken_over "$what"
    decided_for "$primary" "$what"
    kill -CONT "$stopped"
    settled "$what, and goes on"
    ok "$what, and goes on: it has learnt of the takeover" \
        logged "$secondary" 'primary paused -> primary frozen (denied)'
    no_frame_since "$secondary" "$frames" "$what, and goes on"
}

# ---- Administrators ----

host_is_shut_down() {
    what="the primary's host is shut down"
    mark
    kill -TERM "$(pid_of "$primary")"
    taken_over "$what"
    decided_for "$primary" "$what"
    died "$secondary" 0 "$what"
    restart "$what"
}

both_fail_over() {
    hosts_colo "$primary" failover >"$HOSTS_DIR/failover-1" 2>&1 &
    one=$!
    hosts_colo "$secondary" failover >"$HOSTS_DIR/failover-2" 2>&1 &
    two=$!
    wait $one
    wait $two
}

both_told_in_protection() {
    what='both are told to fail over'
    mark
    both_fail_over
    # The order matters: a pair that hasn't begun to change its state looks settled, too.
    need "$what: the primary yields" logged "$primary" '(yield)'
    settled "$what"
    decided_for "$primary" "$what"
}

reports_why_it_waits() { # HOST
    hosts_status_is "$1" state paused && hosts_status "$1" last-error.text | grep -q 'arbiter: '
}

arbiter_goes() {
    mv "$HOSTS_DIR/arbiter" "$HOSTS_DIR/arbiter.away"
}

arbiter_comes_back() {
    mv "$HOSTS_DIR/arbiter.away" "$HOSTS_DIR/arbiter"
}

both_told_when_cut() {
    what='both are told to fail over, the link being cut'
    mark
    arbiter_goes
    hosts_cut alpha sync0
    need "$what: the primary waits for the arbiter and says so" reports_why_it_waits "$primary"
    need "$what: the secondary, too" reports_why_it_waits "$secondary"
    arbiter_comes_back
    both_fail_over
    one_continues "$what"
    decided_for "$primary" "$what"
    hosts_mend alpha sync0
    settled "$what"
}

# ---- The arbiter ----

arbiter_is_away() {
    what='the primary dies and the arbiter is away'
    mark
    arbiter_goes
    hosts_kill "$primary"
    need "$what: the secondary waits and says why" reports_why_it_waits "$secondary"
    wait_ok "$what: its VM stands still" hosts_status_is "$secondary" vm.state paused
    arbiter_comes_back
    taken_over "$what, and comes back"
    decided_for "$primary" "$what, and comes back"
    restart "$what"
}

link_comes_back_before_the_arbiter() {
    what='the link comes back before the arbiter'
    mark
    arbiter_goes
    hosts_cut alpha sync0
    need "$what: the primary waits" reports_why_it_waits "$primary"
    need "$what: the secondary waits" reports_why_it_waits "$secondary"
    hosts_mend alpha sync0
    # The secondary could have gone on and have been started again: the primary can't know.
    need "$what: linked, the primary still waits" is_in "$primary" primary recover
    arbiter_comes_back
    need "$what: protected as before" is_pair "$primary" "$secondary"
    decided_for "$primary" "$what"
    client_unharmed "$what"
}

pair_setup "link.heartbeat-timeout=${heartbeat_ms}ms" vm.qemu-timeout=2s
pair_boot
client_start
pair_join

strangers
secondary_qemu_dies
secondary_qemu_hangs
primary_qemu_dies
primary_qemu_hangs
secondary_host_dies
primary_host_loses_power
secondary_host_loses_power
link_is_cut
primary_is_stopped
host_is_shut_down
both_told_in_protection
both_told_when_cut
arbiter_is_away
link_comes_back_before_the_arbiter

pair_end
