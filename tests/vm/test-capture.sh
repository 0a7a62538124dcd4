#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A service whose answers the two VMs never give alike: where they differ is in status and events, and
# recorded to files that colo-compare (and tcpdump, where it is) reads.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/mixed.sh
. "$COLO_TESTS/support/mixed.sh"
# shellcheck disable=SC2317 # functions are called by need() and ok()

captures() {
    find "$folder" -name 'web-*.pcapng' | sort
}

has_recorded() { # NUMBER
    hosts_colo "$primary" events --json | grep -q "\"CAPTURED\".*/web-0*$1.pcapng"
}

reports_that_it_is_off() {
    hosts_status "$primary" last-error.text | grep -q 'captures are off: capture: '
}

pair_setup vm.memory=192MiB checkpoint.mode=colo
pair_boot
pair_join
folder=$HOSTS_DIR/captures
mkdir "$folder"
ok "captures are turned on" hosts_colo "$primary" capture on "$folder/web" --last 2
mixed_start --kinds time --every-ms 20
need "three files have been written" has_recorded 3
ok "and are turned off" hosts_colo "$primary" capture off
files=$(captures)
is "the last two are left" "$(echo "$files" | wc -l)" 2
for file in $files; do
    "$COLO_BUILD/colo-compare" --explain "$file" >"$folder/said"
    is "colo-compare finds $(basename "$file") to differ" $? 1
    ok "and says where" grep -q 'DIFFERENT (' "$folder/said"
    if command -v tcpdump >/dev/null; then
        tcpdump -n -r "$file" >"$folder/dump" 2>&1
        is "tcpdump reads it" $? 0
        ok "and finds the guest's packets" grep -q "IP $HOSTS_GUEST_IP" "$folder/dump"
    else
        tap_skip "tcpdump reads it" "no tcpdump"
    fi
done
ok "the status tells of differences" \
    sh -c "\"$COLO_BUILD/colo\" --socket \"$HOSTS_DIR/$primary/control\" status | grep -q '^  differences '"
ok "so do the events" \
    sh -c "\"$COLO_BUILD/colo\" --socket \"$HOSTS_DIR/$primary/control\" events | grep -q ' DIVERGED .*primary '"
ok "captures are turned on again" hosts_colo "$primary" capture on "$folder/web"
rm -r "$folder"
need "a folder that is gone is an error, and they are off" reports_that_it_is_off
ok "the pair is still protected" is_pair "$primary" "$secondary"
mixed_end
nothing_left
tap_done
