#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A primary's host stands still, is overtaken, and goes on, in `buffered` mode and with a network that
# takes 10 ms each way: what the secondary said last waits in its sockets, and releases held output.
# None of it may leave, and the client's way to the guest stays the new one.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"

ROUNDS=8
DELAY_MS=10
PROXY_PORT=9001
proxies=''

# Whoever dials does it through here.
slow_way_of() { # HOST
    address=$(hosts_sync_address "$1")
    hosts_start "$1" proxy sh -c "{ echo delay all $DELAY_MS; exec sleep 3600; } |
        '$COLO_BUILD/tests/tools/chaos-proxy' $address:$PROXY_PORT \
            $(hosts_sync_address "$(hosts_peer "$1")"):$HOSTS_SYNC_PORT"
    proxies="$proxies $1"
}

proxies_end() {
    for host in $proxies; do
        # shellcheck disable=SC2046
        kill -KILL $(hosts_running "$host" chaos-proxy) $(hosts_running "$host" sleep) 2>/dev/null
    done
}

overtaken() { # ROUND
    what="overtaken $1"
    mark
    # At another moment of a checkpoint each time.
    sleep "0.$(($1 * 17 % 10))"
    frozen=$(hosts_running "$primary" colod)
    # shellcheck disable=SC2086
    kill -STOP $frozen
    frames=$(frames_sent "$primary")
    taken_over "$what"
    # shellcheck disable=SC2086
    kill -CONT $frozen
    need "$what: goes on as the secondary" is_pair "$primary" "$secondary"
    is "$what: it has not let out a frame" "$(frames_sent "$secondary")" "$frames"
    client_unharmed "$what, and goes on"
}

pair_setup link.heartbeat-timeout=1s checkpoint.mode=buffered
for host in alpha beta; do
    hosts_config $host link.heartbeat-timeout=1s checkpoint.mode=buffered \
        "node.peer=$(hosts_sync_address $host):$PROXY_PORT"
    slow_way_of $host
done
pair_boot
client_start
pair_join

round=1
while [ $round -le $ROUNDS ]; do
    overtaken $round
    round=$((round + 1))
done

proxies_end
pair_end
