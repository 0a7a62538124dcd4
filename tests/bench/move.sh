# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Parts move and recover of the benchmarks (run). Move: how long the VM and a client wait when a protected VM
# is moved as planned (switchover), each time to the other host; and with _migration the same guest, without
# protection, moved by QEMU's own live migration, which is the baseline. Recover: what a link costs that an
# administrator ended and has looked for again; the first synchronisation over the same link is the baseline.
# _1g: over a link of 1 Gbit/s.
# shellcheck disable=SC2154 # of run

move_rounds=${BENCH_MOVES:-20}

# qmp HOST COMMAND...: has QEMU execute them, and prints the last answer.
qmp() {
    qmp_host=$1
    shift
    {
        echo '{"execute":"qmp_capabilities"}'
        printf '%s\n' "$@"
    } | hosts_exec "$qmp_host" timeout 10 socat -t 5 - "UNIX:$HOSTS_DIR/$qmp_host/qmp" |
        grep -e '"return"' -e '"error"' | tail -n 1
}

migration_is() { # HOST STATUS
    migration=$(qmp "$1" '{"execute":"query-migrate"}')
    [ "$(printf '%s\n' "$migration" | get return.status)" = "$2" ]
}

qmp_answers() { # HOST
    [ -n "$(qmp "$1" '{"execute":"query-status"}' 2>/dev/null)" ]
}

# The guest, with nothing to protect it, goes from host to host.
move_migrated() {
    plain_up alpha -qmp "unix:$HOSTS_DIR/alpha/qmp,server=on,wait=off"
    client_start --every-ms 2 --window 1 --drain-s 20 || die "the client can't connect"
    from=alpha to=beta round=0
    : >"$HOSTS_DIR/moves"
    while [ $round -lt "$move_rounds" ]; do
        round=$((round + 1))
        plain_start $to -qmp "unix:$HOSTS_DIR/$to/qmp,server=on,wait=off" \
            -incoming "tcp:$(hosts_sync_address $to):7100"
        hosts_wait 20 "QEMU on $to" qmp_answers $to || die "QEMU does not answer"
        client_mark || die "the client has ended"
        qmp $from '{"execute":"migrate-set-parameters","arguments":{"downtime-limit":30,"max-bandwidth":10000000000}}' \
            "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"tcp:$(hosts_sync_address $to):7100\"}}" >/dev/null
        hosts_wait 60 "the migration" migration_is $from completed || die "no migration: $migration"
        client_recover 30 || die "the client does not go on"
        echo "$(printf '%s\n' "$migration" | get return.downtime) $client_gap_ms" >>"$HOSTS_DIR/moves"
        plain_down $from
        next=$from from=$to to=$next
    done
    client_stop || die "the client lost something: $client_line"
    plain_down $from
    move_figures migration
}

is_protected_as() { # PRIMARY SECONDARY
    hosts_status_is "$1" role primary && hosts_status_is "$1" state colo &&
        hosts_status_is "$2" role secondary && hosts_status_is "$2" state colo
}

move_switched() { # MODE
    pair_up "$1"
    client_start --every-ms 2 --window 1 --drain-s 20 || die "the client can't connect"
    from=alpha to=beta round=0
    : >"$HOSTS_DIR/moves"
    while [ $round -lt "$move_rounds" ]; do
        round=$((round + 1))
        client_mark || die "the client has ended"
        hosts_colo $from switchover --wait >/dev/null || die "no switchover in mode $1"
        client_recover 30 || die "the client does not go on"
        stood_ms=$(hosts_status $from switchover.downtime-ms)
        echo "$stood_ms $client_gap_ms" >>"$HOSTS_DIR/moves"
        next=$from from=$to to=$next
        hosts_wait 60 "protection" is_protected_as $from $to || die "the VM is not protected again"
    done
    client_stop || die "the client lost something: $client_line"
    move_figures "$1" _migration
}

move_figures() { # VARIANT [BASELINE]
    for percent in 50 90 100; do
        column=0
        for name in switchover_downtime switchover_client_gap; do
            column=$((column + 1))
            figure "${name}_p${percent}_$1" \
                "$(cut -d ' ' -f $column "$HOSTS_DIR/moves" | percentile $percent)" ms \
                "$(known "${name}_p${percent}_migration")"
        done
    done
}

# ---- Recovery ----

# From the event that began a synchronisation to the last one that ended it, in milliseconds.
sync_ms() {
    hosts_colo alpha events --json | awk -F'[:,}]' '
        function at() {
            match($0, /"seconds":[0-9]+/); s = substr($0, RSTART + 10, RLENGTH - 10)
            match($0, /"microseconds":[0-9]+/); u = substr($0, RSTART + 15, RLENGTH - 15)
            return (s % 1000000) * 1000 + u / 1000
        }
        /"to":"active"/ { begin = at() }
        /"to":"colo"/ { end = at() }
        END { print end - begin }'
}

# recover_figures [SUFFIX]: with a guest that has something to send (GUEST_ARGS).
recover_figures() {
    pair_up buffered
    figure "recover_sync_time${1:-}" "$(sync_ms)" ms
    first_bytes=$(hosts_status alpha bytes.total)
    : >"$HOSTS_DIR/recoveries"
    round=0
    while [ $round -lt 5 ]; do
        round=$((round + 1))
        hosts_colo beta pause || die "no pause"
        hosts_wait 30 "the pause" hosts_status_is alpha state none || die "alpha does not go on alone"
        before_bytes=$(hosts_status alpha bytes.total)
        hosts_colo beta recover || die "no recovery"
        hosts_wait 60 "protection" is_protected || die "the VM is not protected again"
        echo "$(sync_ms) $(($(hosts_status alpha bytes.total) - before_bytes))" \
            >>"$HOSTS_DIR/recoveries"
    done
    figure "recover_time${1:-}" "$(cut -d ' ' -f 1 "$HOSTS_DIR/recoveries" | percentile 50)" ms \
        "$(known "recover_sync_time${1:-}")"
    figure "recover_bytes${1:-}" "$(cut -d ' ' -f 2 "$HOSTS_DIR/recoveries" | percentile 50)" bytes \
        "$first_bytes"
}

# From now on the nodes send each other 1 Gbit/s at most. Without that the link is as fast as memory.
link_shaped() {
    for host in alpha beta; do
        hosts_exec $host tc qdisc replace dev sync0 root tbf rate 1gbit burst 128k latency 100ms || return 1
    done
}

link_unshaped() {
    for host in alpha beta; do
        hosts_exec $host tc qdisc delete dev sync0 root 2>/dev/null || true
    done
}

recover_part() {
    recover_figures
    if link_shaped; then
        recover_figures _1g
    else
        echo "bench: the link can't be shaped: no figures of a recovery over 1 Gbit/s" >&2
    fi
    link_unshaped
}
