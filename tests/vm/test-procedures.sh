#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Each procedure of docs/PROCEDURES.md as it is written there, on real guests with a disk: its lines are
# read from the page and run on the test hosts. What differs: systemd is played by this script, and paths
# are those of the test's folder. After each the guest serves, and what was on the disk is there.
# shellcheck disable=SC2317 # functions are called by name
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"

command -v nbdkit >/dev/null || tap_skip_all "no nbdkit"
page=$COLO_TESTS/../docs/PROCEDURES.md
disk_mib=64
mark_mib=4 # at the disk's end, where the guest doesn't write

# shellcheck disable=SC2119 # the options are set below, for each host
pair_setup
for host in alpha beta; do
    hosts_config $host checkpoint.mode=buffered node.role=auto \
        "disk root.path=$HOSTS_DIR/$host/images/web.img" "disks.state-dir=$HOSTS_DIR/$host/state"
    mkdir "$HOSTS_DIR/$host/images"
    truncate -s ${disk_mib}M "$HOSTS_DIR/$host/images/web.img"
done
head -c ${mark_mib}M /dev/urandom >"$HOSTS_DIR/mark"
dd if="$HOSTS_DIR/mark" of="$HOSTS_DIR/alpha/images/web.img" bs=1M seek=$((disk_mib - mark_mib)) \
    conv=notrunc status=none

# ---- The hosts' commands ----

start_colod() { # HOST ARGUMENT...
    start_host=$1
    shift
    hosts_start "$start_host" colod "$COLO_BUILD/colod" --config "$HOSTS_DIR/$start_host/colod.conf" "$@"
    eval "pid_$start_host=\$hosts_pid"
}

# In order, and all that it started.
ends() { # HOST
    hosts_wait "$PATIENCE" "the end of $1's colod" has_ended "$(pid_of "$1")" &&
        wait "$(pid_of "$1")" && hosts_wait "$PATIENCE" "the end of all of $1" is_empty "$1"
}

run_on() { # HOST COMMAND
    run_host=$1 run_command=$2
    case $run_command in
    "systemctl start colod@web") start_colod "$run_host" ;;
    "systemctl stop colod@web")
        kill -TERM "$(pid_of "$run_host")" && ends "$run_host" ;;
    "colod --config /etc/colo/web.conf --check-config")
        hosts_exec "$run_host" "$COLO_BUILD/colod" --config "$HOSTS_DIR/$run_host/colod.conf" --check-config ;;
    "colod --config /etc/colo/web.conf "*)
        # shellcheck disable=SC2086 # arguments
        start_colod "$run_host" ${run_command#colod --config /etc/colo/web.conf } ;;
    "colo quit") hosts_colo "$run_host" quit && ends "$run_host" ;;
    "colo "*)
        # shellcheck disable=SC2086 # arguments
        hosts_colo "$run_host" ${run_command#colo } ;;
    "make -C /usr/src/colo install") : ;; # what was built is what runs here
    "sed -i '"*"' /etc/colo/web.conf")
        run_script=${run_command#*\'}
        sed -i "${run_script%\'*}" "$HOSTS_DIR/$run_host/colod.conf" ;;
    "rm "* | "truncate "*)
        # shellcheck disable=SC2046 # arguments
        set -- $(echo "$run_command" | sed "s|/var/lib/colo/web|$HOSTS_DIR/$run_host/state|
            s|/var/lib/colo/images|$HOSTS_DIR/$run_host/images|")
        "$@" ;;
    *) echo "this test can't play: $run_command" && return 1 ;;
    esac
}

# One line of the page; the script ends where going on would only repeat a failure.
line() { # HOST KIND REST
    line_text="$1$2 $3"
    case $2 in
    '!') hosts_kill "$1" ;;
    '#')
        line_command=${3%% -- *}
        if ! run_on "$1" "$line_command" >"$HOSTS_DIR/said" 2>&1; then
            fail "$procedure: $line_text"
            diag "$(cat "$HOSTS_DIR/said")" "$(hosts_tails)"
            tap_done
        fi ;;
    esac
    case $3 in
    *" -- "*)
        # shellcheck disable=SC2086 # a role and a state
        need "$procedure: $line_text" is_in "$1" ${3#* -- } ;;
    *) pass "$procedure: $line_text" ;;
    esac
}

lines_of() { # PROCEDURE
    awk -v start="<!-- run: $1 -->" '
        $0 == start { found = 1; next }
        found && /^```/ { if (inside) exit; inside = 1; next }
        inside { print }' "$page"
}

serves() {
    hosts_guest status >/dev/null
}

grep '^<!-- run: ' "$page" | sed 's/^<!-- run: \(.*\) -->$/\1/' >"$HOSTS_DIR/procedures"
ok "the page has procedures" test -s "$HOSTS_DIR/procedures"
while read -r procedure <&4; do
    lines_of "$procedure" >"$HOSTS_DIR/lines"
    ok "$procedure: there are lines" test -s "$HOSTS_DIR/lines"
    while read -r line_whole <&3; do
        line_host=${line_whole%%[#!]*}
        line_rest=${line_whole#"$line_host"}
        line "$line_host" "${line_rest%% *}" "${line_rest#? }"
    done 3<"$HOSTS_DIR/lines"
    case $procedure in
    "shutting down") ;;
    *)
        need "$procedure: the guest serves" serves
        ok "$procedure: its memory is whole" guest_verifies
        ok "$procedure: it writes to its disk" hosts_guest "disk vda write 65536 1 0 0 40" ;;
    esac
done 4<"$HOSTS_DIR/procedures"

# Whoever has run the VM last, and all those before: what was on the first image is on both.
for host in alpha beta; do
    # shellcheck disable=SC2046 # a list
    kill -TERM $(hosts_running $host colod) 2>/dev/null
    need "the end: all of $host is gone" is_empty $host
    dd if="$HOSTS_DIR/$host/images/web.img" of="$HOSTS_DIR/end" bs=1M skip=$((disk_mib - mark_mib)) status=none
    ok "the end: what was on the first image is on $host's" cmp "$HOSTS_DIR/end" "$HOSTS_DIR/mark"
done
tap_done
