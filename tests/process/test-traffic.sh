#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The client and the guest's program, which the verdicts of all other tests rest on: that they see what
# they are there to see. The guest's program runs as a plain process on a test host here.
set -u
# shellcheck source=tests/support/tap.sh
. "$COLO_TESTS/support/tap.sh"
# shellcheck source=tests/support/hosts.sh
. "$COLO_TESTS/support/hosts.sh"
# shellcheck source=tests/support/client.sh
. "$COLO_TESTS/support/client.sh"
why=$(hosts_missing) || tap_skip_all "$why"
hosts_setup || exit 1
source=$(dirname "$COLO_TESTS")
gcc -std=gnu11 -D_GNU_SOURCE -O1 -g -pthread -I"$source" -o "$HOSTS_DIR/guestd" \
    "$COLO_TESTS"/guest/*.c || exit 1
ip -n "$hosts_prefix-alpha" addr add "$HOSTS_GUEST_IP/24" dev br0

# shellcheck disable=SC2317 # called by name
guest_answers() {
    hosts_guest status >/dev/null
}

start_guest() {
    hosts_start alpha guest "$HOSTS_DIR/guestd" 8 0
    guest=$hosts_pid
    hosts_wait 20 "the guest's program" guest_answers
}

wait_for_server() { # HOST PORT
    hosts_wait 20 "a server" sh -c \
        "ip netns exec $hosts_prefix-$1 ss -Hltn 'sport = :$2' | grep -q ." || exit 1
}

traffic() { # ARGUMENT...: its last line and its status
    client_line=$(hosts_exec client "$COLO_BUILD/tests/tools/traffic" "$@" "$HOSTS_GUEST_IP" 2>&1)
    status=$?
    client_line=$(printf '%s\n' "$client_line" | tail -n 1)
}

# ---- Nothing is lost ----
start_guest || exit 1
for size in 32 64 4096 65536; do
    traffic --seconds 1 --window 4 --record-bytes $size
    is "records of $size bytes: nothing is lost" "$status $(client_figure lost)" "0 0"
    not_ok "records of $size bytes: some come back" [ "$(client_figure records)" = 0 ]
done
for way in get put; do
    traffic --$way 30000000
    is "bulk $way is whole" "$status $(client_figure error)" "0 "
done
hosts_start client echo socat TCP-LISTEN:7007,reuseaddr EXEC:cat
wait_for_server client 7007
is "an outgoing connection works" "$(hosts_guest 'dial 10.77.0.1 7007 100000')" "ok 100000"

# ---- A gap is seen ----
client_start --every-ms 1
client_recover 20 || exit 1
client_mark
kill -STOP "$guest"
sleep 0.3
kill -CONT "$guest"
client_recover 20 || exit 1
ok "a gap is at least as long as the guest was stopped ($client_gap_ms ms)" \
    awk "BEGIN { exit !($client_gap_ms >= 290) }"
client_mark
client_recover 20
ok "the next gap is another one ($client_gap_ms ms)" awk "BEGIN { exit !($client_gap_ms < 290) }"
client_stop
is "with nothing lost the client is content" $? 0
ok "the whole run has the longest gap" awk "BEGIN { exit !($(client_figure gap_ms) >= 290) }"

# ---- A lost connection ----
client_start --every-ms 1 --drain-s 1
client_recover 20 || exit 1
hosts_kill alpha
hosts_wait 20 "the loss to be seen" sh -c "kill -USR1 $client_pid && sleep 0.1 &&
    tail -n 1 $client_log | grep -q '\"connection\":\"lost\"'" || exit 1
client_stop
is "a lost connection is no good end" $? 1
is "a lost connection is told" "$(client_figure connection)" lost

# ---- A silent server: the record on its way is lost, the connection isn't ----
start_guest || exit 1
client_start --every-ms 1 --drain-s 1
client_recover 20 || exit 1
kill -STOP "$guest"
client_mark
client_stop
is "an unanswered record is no good end" $? 1
is "an unanswered record is lost" "$(client_figure lost) $(client_figure connection)" "1 kept"
kill -CONT "$guest"
hosts_kill alpha

# ---- Changed, doubled and skipped bytes ----
printf '%s\n' "exec tr '\\001' '\\002'" >"$HOSTS_DIR/spoil"
hosts_start alpha bad socat TCP-LISTEN:7,reuseaddr "EXEC:sh $HOSTS_DIR/spoil"
wait_for_server alpha 7
traffic --seconds 2 --record-bytes 65536 --drain-s 3
is "a changed record is corrupted" "$status $(client_figure corrupted)" "1 1"
hosts_kill alpha
hosts_start alpha bad socat TCP-LISTEN:7,reuseaddr \
    "SYSTEM:dd bs=4096 count=1 iflag=fullblock status=none >$HOSTS_DIR/record; cat $HOSTS_DIR/record $HOSTS_DIR/record"
wait_for_server alpha 7
traffic --seconds 1 --record-bytes 4096 --every-ms 3000 --drain-s 1
is "a record that comes twice is duplicated" "$status $(client_figure duplicated)" "1 1"
hosts_kill alpha
hosts_start alpha bad socat TCP-LISTEN:7,reuseaddr \
    "SYSTEM:dd bs=4096 count=1 iflag=fullblock of=/dev/null status=none; dd bs=4096 count=1 iflag=fullblock status=none; sleep 5"
wait_for_server alpha 7
traffic --seconds 2 --record-bytes 4096 --every-ms 1500 --window 2 --drain-s 1
is "a record that is passed over is lost" "$status $(client_figure lost)" "1 1"
hosts_kill alpha

# ---- HTTP ----
mkdir "$HOSTS_DIR/www" && echo page >"$HOSTS_DIR/www/index.html"
hosts_start alpha web busybox httpd -f -p 80 -h "$HOSTS_DIR/www"
wait_for_server alpha 80
traffic --no-echo --seconds 1 --http 2
is "pages that are there are ok" "$status $(client_figure http_failed)" "0 0"
traffic --no-echo --seconds 1 --http 1 --http-path /none
is "a page that isn't there has failed" "$status $(client_figure http_ok)" "1 0"
has "it says why" "$(client_figure http_error)" 404
hosts_kill alpha

# ---- Steady traffic: what is lost or comes twice ----
start_guest || exit 1
steady() { # ARGUMENT...
    client_line=$(hosts_exec client "$COLO_BUILD/tests/tools/steady" "$@" "$HOSTS_GUEST_IP" | tail -n 1)
}
steady --seconds 1
is "nothing is lost" "$(client_figure lost) $(client_figure duplicated) $(client_figure connection)" "0 0 kept"
# Of what TCP sends again one may turn out needless: the last request may have come, and its answer is lost.
# shellcheck disable=SC2317 # called by name
much_is_lost() {
    kill -USR1 "$hosts_pid"
    client_line=$(tail -n 1 "$HOSTS_DIR/client/steady.log")
    [ "$(client_figure away)" -ge 100 ] && [ "$(client_figure sent_again)" -ge 2 ]
}
hosts_start client steady "$COLO_BUILD/tests/tools/steady" --drain-s 5 "$HOSTS_GUEST_IP"
steady_pid=$hosts_pid
hosts_wait 20 "the client" grep -q connected "$HOSTS_DIR/client/steady.log" || exit 1
hosts_cut alpha lan0
hosts_wait 20 "datagrams and segments that are lost" much_is_lost
hosts_mend alpha lan0
kill -TERM "$steady_pid"
wait "$steady_pid"
is "lost datagrams are no good end" $? 1
client_line=$(tail -n 1 "$HOSTS_DIR/client/steady.log")
not_ok "they are counted" [ "$(client_figure lost)" = 0 ]
ok "TCP has sent again what was lost" [ "$(client_figure sent_again)" -gt "$(client_figure needless)" ]
kill -STOP "$guest"
steady --seconds 1 --drain-s 1
kill -CONT "$guest"
not_ok "unanswered datagrams are lost" [ "$(client_figure lost)" = 0 ]
hosts_kill alpha

# ---- Memory that changes ----
start_guest || exit 1
hosts_guest "rate 20000" >/dev/null
# shellcheck disable=SC2317 # called by name
dirtied() {
    hosts_guest status | grep -q 'dirtied=[0-9][0-9][0-9][0-9]'
}
hosts_wait 20 "dirtied pages" dirtied || exit 1
hosts_guest "rate 0" >/dev/null
is "memory that nobody changed is right" "$(hosts_guest verify)" "ok corrupt=0"
# A byte of page 5's line 0, which is written at generation 64 or still zero.
arena=$(hosts_guest status | sed 's/.* arena=0x\([0-9a-f]*\) .*/\1/')
printf 'X' | dd of="/proc/$guest/mem" bs=1 seek=$((0x$arena + 5 * 4096 + 3)) conv=notrunc status=none
is "a changed byte is found" "$(hosts_guest verify)" "CORRUPT corrupt=1"
has "and told on the console" "$(cat "$HOSTS_DIR/alpha/guest.log")" "CORRUPT page 5"
tap_done
