#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# One clock rule for every timer (common/patience.h): a plain timeout counts time in which the process did
# not run, so it may only set a pace. These do, and a late one does no harm; all others are waits. Each
# wait has a row in the table of waits (tests/world/waits.h), or a test of its own.
set -u
# shellcheck source=tests/support/tap.sh
. "$COLO_TESTS/support/tap.sh"
source=$COLO_TESTS/..

pace='block: none
checkpoint: none
colo/control/control.c on_accept_retry
colo/node/claim-back.c on_again
colo/node/claim-back.c on_look
colo/node/claim-watch.c on_approval_due
colo/node/claim-watch.c on_look_again
colo/node/claim-watch.c on_look_due
colo/node/claim.c on_give_back_again
colo/node/claim.c on_timer
colo/node/copy.c on_check_timer
colo/node/disks.c on_status_timer
colo/node/holdings.c on_write_again
colo/node/judge.c on_settled_timer
colo/node/memory.c on_look
colo/node/resume.c on_again
colo/node/resume.c on_io_retry
netcompare/uplink-carrier.c on_time
vm/agent.c on_rested'

found() {
    for folder in block checkpoint; do
        grep -rq 'g_timeout_' "$source/$folder" --include='*.c' || echo "$folder: none"
    done
    (cd "$source" && grep -rl 'g_timeout_' common vm block checkpoint netcompare colo --include='*.c' |
        grep -v -e '^common/patience\.c$' | while read -r file; do
        # A call may go on in the next line.
        tr '\n' ' ' <"$file" | grep -o 'g_timeout_[a-z_]*([^;]*;' | grep -o 'on_[a-z_]*' | sed "s|^|$file |"
    done)
}

# File, what is called at the end, and a row of the table or a test.
limits='colo/arbiter/arbiter.c - paused/asked
colo/link/accept.c on_guest_timeout unit/test-link-refuse.c
colo/link/accept.c on_handshake_timeout unit/test-link-refuse.c
colo/link/accept.c on_listen_again unit/test-link-network.c
colo/link/dial.c on_handshake_timeout unit/test-link-dial.c
colo/link/dial.c on_no_peer unit/test-link-dial.c
colo/link/dial.c on_retry secondary-none
colo/link/linger.c on_linger_timeout unit/test-link-broken.c
colo/link/link.c - colo/silence
colo/link/link.c on_failing unit/test-link-broken.c
colo/node/answer.c on_look setup
colo/node/claim-owner.c on_disown_timer completed
colo/node/claim-owner.c on_record_timer active/record
colo/node/claim-owner.c on_start_timer asking/deferred
colo/node/claim-unrun.c on_take_limit secondary-device/note
colo/node/claim.c on_timer secondary-paused/left
colo/node/disks.c on_lost unit/test-disks.c
colo/node/final.c on_patience_over colo/ending
colo/node/leave.c on_too_late unit/test-leave.c
colo/node/machine.c on_ending unit/test-machine.c
colo/node/primary-pause.c on_hand_over_timer handed
colo/node/resume.c on_answer_limit unit/test-resume.c
colo/node/seek.c on_timeout secondary-none/recover
colo/node/switchover.c on_too_late switchover/active
colo/node/taking.c on_limit taking/refused
vm/agent.c on_timeout unit/test-agent.c
vm/process.c - process/test-nbdkit-server.c
vm/qemu.c on_lost_for_long vm/test-vm-qemu.c
vm/qemu_state.c on_job_timeout vm/test-vm-qemu.c
vm/qmp.c on_timeout unit/test-qmp.c'

waits() {
    (cd "$source" && grep -rlE '(patience_(add|source_new|start)|link_timer)\(' common vm block checkpoint netcompare colo \
        --include='*.c' | grep -v -e '^common/patience\.c$' | while read -r file; do
        tr '\n' ' ' <"$file" | grep -oE '(patience_(add|source_new|start)|link_timer)\([^;{]*;' |
            while read -r call; do
                callback=$(printf '%s' "$call" | grep -o 'on_[a-z_]*' | head -n 1)
                echo "$file ${callback:--}"
            done
    done)
}

# What decides by facts alone is given the time.
pure='colo/link/heartbeat.c colo/node/answer-watch.c colo/node/blocktime.c colo/node/copy-next.c colo/node/cycle.c
colo/node/events.c colo/node/fsm.c colo/node/mode.c colo/node/route.c colo/node/schedule.c
colo/node/uplinks-watch.c colo/arbiter/owner-rules.c'
# shellcheck disable=SC2086 # a list
asking=$(cd "$source" && grep -lE 'colo_time_now|g_get_(monotonic|real)_time|clock_gettime' $pure colo/node/*-rules.c 2>&1)
is "what only decides doesn't ask for the time" "$asking" ""

is "plain timeouts set a pace, and nothing ends by one" "$(found | sort)" "$pace"
is "each wait is in the list" "$(waits | sort -u)" "$(printf '%s' "$limits" | cut -d ' ' -f 1,2)"
missing=$(printf '%s\n' "$limits" | cut -d ' ' -f 3 | while read -r where; do
    grep -q "{.name = \"$where\"," "$source"/tests/world/waits-*.c || [ -f "$source/tests/$where" ] || echo "$where"
done)
is "each of them has a row or a test" "$missing" ""
tap_done
