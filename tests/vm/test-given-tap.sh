#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A pair whose cards have taps that colod was started with ([nic NAME] tap = fd:NAME), and that somebody
# else has put into the hosts' bridges: protected, moved, taken over, and joined again, with a client that
# notices nothing.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"

has_tap() { # HOST
    hosts_exec "$1" test -e /sys/class/net/given0
}

# In place of pair.sh's: what a manager does that starts colod.
node_start() { # HOST ROLE
    node_host=$1
    hosts_start "$node_host" colod "$COLO_BUILD/tests/tools/give-tap" given0 lan "$COLO_BUILD/colod" \
        --config "$HOSTS_DIR/$node_host/colod.conf" --role "$2"
    eval "pid_$node_host=\$hosts_pid"
    need "$node_host has a tap" has_tap "$node_host"
    ok "$node_host: it is put into the bridge" hosts_exec "$node_host" ip link set given0 master br0
}

uses_it() { # HOST
    is "$1 uses that tap" "$(hosts_status "$1" nics.0.tap)" given0
    wait_ok "$1 sees its carrier" hosts_status_is "$1" nics.0.carrier true
}

pair_setup 'nic lan.bridge=' 'nic lan.tap=fd:lan'
pair_boot
client_start
pair_join
uses_it "$primary"
uses_it "$secondary"

mark
ok "moved" hosts_colo "$primary" switchover --wait
pair_swap
need "moved: the pair is protected again" is_pair "$primary" "$secondary"
client_unharmed "moved"

mark
hosts_kill "$primary"
taken_over "killed"
decided_for "$primary" "killed"
not_ok "its tap has gone with it" has_tap "$secondary"
mark
pair_join
client_unharmed "joined again"
uses_it "$secondary"
is "its bridge was left as it was" "$(hosts_exec "$secondary" ip -o link show master br0 | wc -l)" 2
pair_end
