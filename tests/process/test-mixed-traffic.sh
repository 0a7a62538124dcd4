#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The client that does everything at once sees what it is there to see, kind by kind. The guest's program
# runs as a plain process on a test host here, or something that spoils its answers.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/mixed.sh
. "$COLO_TESTS/support/mixed.sh"
why=$(hosts_missing) || tap_skip_all "$why"
hosts_setup || exit 1
source=$(dirname "$COLO_TESTS")
gcc -std=gnu11 -D_GNU_SOURCE -O1 -g -pthread -I"$source" -o "$HOSTS_DIR/guestd" \
    "$COLO_TESTS"/guest/*.c || exit 1
ip -n "$hosts_prefix-alpha" addr add "$HOSTS_GUEST_IP/24" dev br0
ip -n "$hosts_prefix-alpha" addr add "$HOSTS_GUEST_IP6/64" dev br0
mkdir "$HOSTS_DIR/www"
echo page >"$HOSTS_DIR/www/index.html"

guest_answers() {
    hosts_guest status >/dev/null
}

start_guest() {
    hosts_start alpha web busybox httpd -f -p 80 -h "$HOSTS_DIR/www"
    hosts_start alpha guest "$HOSTS_DIR/guestd" 8 0
    guest=$hosts_pid
    need "the guest's program" guest_answers
}

# serve PROTOCOL PORT SOCAT-ADDRESS...: instead of the guest.
serve() {
    hosts_start alpha server socat "$1:$2" "$3"
    need "a server for $2" sh -c "ip netns exec $hosts_prefix-alpha ss -Hltun | grep -q ':${2%%,*} '"
}

# client_of KIND [OPTION...]: begins one kind of traffic.
client_of() {
    kind=$1
    shift
    rm -f "$HOSTS_DIR/client/mixed.log"
    hosts_start client mixed "$COLO_BUILD/tests/tools/mixed-traffic" --kinds "$kind" --every-ms 5 \
        --patience-s 3 "$@"
    mixed_pid=$hosts_pid mixed_log=$HOSTS_DIR/client/mixed.log
    need "$kind begins" grep -qs '"begun":true' "$mixed_log"
}

counts() { # KIND NAME: more than none
    mixed_mark && [ "$(mixed_figure "kinds.$1.$2")" -gt 0 ]
}

# sees KIND NAME WHAT: the client of that kind counts it, and it is no good end.
sees() {
    need "$1: $3: seen as $2" counts "$1" "$2"
    kill -TERM "$mixed_pid"
    need "$1: the client ends" has_ended "$mixed_pid"
    wait "$mixed_pid"
    is "$1: $3: no good end" $? 1
}

is_stuck() { # KIND: so far that it has waited half a second
    mixed_mark && [ "$(mixed_figure "kinds.$1.gap_since_ms" | cut -d . -f 1)" -ge 500 ]
}

# ---- All is well ----
start_guest
: >"$HOSTS_DIR/gaps"
mixed_start --bulk-mb 5
mixed_event
mixed_recovered "undisturbed"
kill -STOP "$guest"
for kind in echo echo-nagle6 get put6 dial dial-long6 udp; do
    need "the guest's program stands still: $kind waits" is_stuck "$kind"
done
kill -CONT "$guest"
mixed_recovered "stopped for a while"
before=$(date +%s%3N)
mixed_event
mixed_mark # of two signals that wait the kernel gives this one first
mixed_mark
ok "a new gap begins with an event" [ "$(mixed_figure kinds.echo.gap_since_ms | cut -d . -f 1)" -le \
    $(($(date +%s%3N) - before)) ]
mixed_end

# ---- The guest dies ----
for kind in echo echo6 http get put dial dial-long dial-long6; do
    client_of $kind --bulk-mb 100000
    mixed_watch_until_going() {
        mixed_mark && [ -z "$(mixed_figure silent)" ]
    }
    need "$kind is going" mixed_watch_until_going
    hosts_kill alpha
    sees "$kind" failed "the guest dies"
    start_guest
done
client_of udp,ping
need "datagrams are going" counts udp "done"
mixed_event
ip -n "$hosts_prefix-alpha" addr del "$HOSTS_GUEST_IP/24" dev br0
need "udp: what is lost just after an event is excused" counts udp excused_lost
kill -HUP "$mixed_pid"
sees udp lost "the guest is gone"
is "pings, too" "$([ "$(mixed_figure kinds.ping.lost)" -gt 0 ] && echo lost)" lost
ip -n "$hosts_prefix-alpha" addr add "$HOSTS_GUEST_IP/24" dev br0
hosts_kill alpha

# ---- Wrong bytes ----
printf '%s\n' "exec tr '\\001' '\\002'" >"$HOSTS_DIR/spoil"
serve TCP-LISTEN 7,reuseaddr "EXEC:sh $HOSTS_DIR/spoil"
client_of echo --record-bytes 65536
sees echo corrupted "changed records"
hosts_kill alpha
serve TCP-LISTEN 7002,reuseaddr,fork "SYSTEM:head -c 1000000 /dev/zero"
client_of get --bulk-mb 1
sees get corrupted "other bytes"
hosts_kill alpha
serve TCP-LISTEN 7002,reuseaddr,fork "SYSTEM:head -c 1000000 >/dev/null"
client_of put --bulk-mb 1
sees put failed "no receipt"
hosts_kill alpha
serve TCP-LISTEN 80,reuseaddr,fork \
    "SYSTEM:printf 'HTTP/1.0 200 OK\r\n\r\n'; cat /proc/sys/kernel/random/uuid"
client_of http
sees http corrupted "another page"
hosts_kill alpha
serve TCP-LISTEN 7001,reuseaddr,fork "SYSTEM:while read -r line; do echo failed at 7; done"
client_of dial
sees dial failed "the guest says that it failed"
client_of dial-long
sees dial-long failed "the guest says that it failed"
hosts_kill alpha
serve UDP-RECVFROM 7,fork "SYSTEM:echo not what was sent"
client_of udp
sees udp corrupted "other bytes"
hosts_kill alpha
serve UDP-RECVFROM 7,fork "SYSTEM:head -c 85 >$HOSTS_DIR/datagram; cat $HOSTS_DIR/datagram"
client_of udp
sees udp corrupted "datagrams that are cut"
hosts_kill alpha
serve UDP-RECVFROM 7,fork "SYSTEM:timeout 0.2 cat >$HOSTS_DIR/\$\$; cat $HOSTS_DIR/\$\$; sleep 0.2; cat $HOSTS_DIR/\$\$"
client_of udp --every-ms 100
sees udp duplicated "answered twice"
tap_done
