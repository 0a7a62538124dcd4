#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# One clock rule for every timer (common/patience.h): a plain timeout counts time in which the process did
# not run, so it may only set a pace. These do, and a late one does no harm; all others are waits.
set -u
# shellcheck source=tests/support/tap.sh
. "$COLO_TESTS/support/tap.sh"
source=$COLO_TESTS/..

pace='block: none
checkpoint: none
colo/control/control.c on_accept_retry
colo/node/claim-back.c on_again
colo/node/claim-back.c on_look
colo/node/claim-watch.c on_look_again
colo/node/claim-watch.c on_look_due
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

is "plain timeouts set a pace, and nothing ends by one" "$(found | sort)" "$pace"
tap_done
