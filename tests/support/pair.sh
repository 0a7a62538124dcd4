# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A pair on the test hosts (hosts.sh), one guest that boots once, and a client that talks to it all
# the time, for scripts that do many things to them. In TAP (tap.sh). $primary and $secondary are
# the hosts' names; whoever has taken over is $primary.
#
#     pair_setup [OPTION=VALUE]...        # or the script is skipped
#     pair_boot                           # alpha runs the guest, unprotected
#     client_start
#     pair_join                           # the other one becomes the secondary: protected
#     mark                                # what is counted, is counted from here
#     ... hosts_kill $primary ...
#     taken_over "killed"                 # and the client has noticed nothing but a pause
#     pair_end                            # the client's and the guest's verdict; nothing is left
#
# need() ends the script where going on would only repeat the failure.

# shellcheck source=tests/support/tap.sh
. "$COLO_TESTS/support/tap.sh"
# shellcheck source=tests/support/hosts.sh
. "$COLO_TESTS/support/hosts.sh"

# More than anything takes on a loaded machine; nothing waits longer than it has to.
PATIENCE=${PATIENCE:-60}
HOSTS_QUIET=1
primary=alpha secondary=beta
# shellcheck disable=SC2034 # by name, in pid_of()
pid_alpha='' pid_beta='' client='' gap_ms=0

# wait_ok WHAT COMMAND...: passes once the command succeeds.
wait_ok() {
    wait_what=$1
    shift
    if hosts_wait "$PATIENCE" "$wait_what" "$@" 2>"$HOSTS_DIR/why"; then
        pass "$wait_what"
    else
        fail "$wait_what"
        diag "$(cat "$HOSTS_DIR/why")"
        diag "$(hosts_tails)"
        return 1
    fi
}

# The same, and the script ends if it doesn't.
need() {
    wait_ok "$@" || tap_done
}

# ---- Hosts ----

pair_setup() {
    pair_missing=$(hosts_missing) || tap_skip_all "$pair_missing"
    "${QEMU:-qemu-system-x86_64}" --version >/dev/null 2>&1 || tap_skip_all "no QEMU"
    [ -e "${COLO_GUEST:-$COLO_BUILD/guest}/vmlinuz" ] || tap_skip_all "no test guest (make guest)"
    GUEST_ARGS="dirty_rate=500 ${GUEST_ARGS:-}"
    hosts_setup || exit 1
    for host in alpha beta; do
        hosts_config "$host" "$@"
    done
}

# node_start HOST ROLE [NAME=VALUE...]: colod with more in its environment.
node_start() {
    node_host=$1 node_role=$2
    shift 2
    hosts_start "$node_host" colod env "$@" "$COLO_BUILD/colod" \
        --config "$HOSTS_DIR/$node_host/colod.conf" --role "$node_role"
    eval "pid_$node_host=\$hosts_pid"
}

pid_of() {
    eval "echo \$pid_$1"
}

has_ended() {
    ! kill -0 "$1" 2>/dev/null
}

# exit_status HOST: of its colod, which has ended or is about to.
exit_status() {
    wait "$(pid_of "$1")" 2>/dev/null
    echo $?
}

# died HOST STATUS WHAT: its colod ends with that status, and what it started with it.
died() {
    need "$3: $1's colod ends" has_ended "$(pid_of "$1")"
    wait "$(pid_of "$1")" 2>/dev/null
    is "$3: with status $2" $? "$2"
    need "$3: all of $1 is gone" is_empty "$1"
}

is_empty() {
    [ -z "$(ip netns pids "$hosts_prefix-$1")" ]
}

log_of() {
    cat "$HOSTS_DIR/$1/colod.log"
}

# logged HOST TEXT: since the last mark.
logged() {
    tail -n "+$(cat "$HOSTS_DIR/$1/marked" 2>/dev/null || echo 1)" "$HOSTS_DIR/$1/colod.log" |
        grep -F -q -e "$2"
}

is_alone() {
    hosts_status_is "$1" role primary && hosts_status_is "$1" state none &&
        hosts_status_is "$1" vm.state running
}

is_in() { # HOST ROLE STATE
    hosts_status_is "$1" role "$2" && hosts_status_is "$1" state "$3"
}

is_pair() { # PRIMARY SECONDARY
    is_in "$1" primary colo && is_in "$2" secondary colo
}

is_pair_either_way() {
    is_pair alpha beta || is_pair beta alpha
}

# How many hosts have a VM that may run: while a checkpoint is taken it is paused, which no status
# within the same turn of colod's main loop could tell from a secondary's but by the role.
active_hosts() {
    for host in alpha beta; do
        ! hosts_status_is "$host" role primary || echo $host
    done
}

pair_boot() {
    # A new guest, whoever ran one before.
    rm -f "$HOSTS_DIR/$primary/serial.log" "$HOSTS_DIR/arbiter/"*.owner
    node_start "$primary" primary
    HOSTS_WATCH=$(pid_of "$primary")
    need "the guest boots on $primary" \
        grep -q 'colo-guest: ready' "$HOSTS_DIR/$primary/serial.log"
    HOSTS_WATCH=''
}

pair_join() {
    node_start "$secondary" secondary
    need "$secondary joins: protected" is_pair "$primary" "$secondary"
}

pair_swap() {
    pair_old=$primary primary=$secondary secondary=$pair_old
}

# ---- Decisions ----

decisions() {
    find "$HOSTS_DIR/arbiter" -type f ! -name colo-arbiter-id ! -name '*.owner' -printf '%f\n' | sort
}

# decided_for NAME WHAT: since the mark the arbiter has made one decision, for that node.
decided_for() {
    decisions >"$HOSTS_DIR/decisions.new"
    new=$(comm -13 "$HOSTS_DIR/decisions" "$HOSTS_DIR/decisions.new")
    if [ "$(echo "$new" | wc -w)" = 1 ]; then
        is "$2: one decision, for $1" "$(sed -n 's/^granted-to //p' "$HOSTS_DIR/arbiter/$new")" "$1"
    else
        is "$2: one decision, for $1" "$new" "a single file"
    fi
}

not_decided() {
    decisions >"$HOSTS_DIR/decisions.new"
    is "$1: the arbiter has not been asked" \
        "$(comm -13 "$HOSTS_DIR/decisions" "$HOSTS_DIR/decisions.new")" ""
}

# ---- Output ----

# How many frames a host's colod has let out: what it wrote to its tap.
frames_sent() {
    hosts_exec "$1" cat /sys/class/net/colo0/statistics/rx_packets
}

# ---- Client ----

# CLIENT_HTTP=0: with no HTTP requests, of which each fails after ten seconds.
client_start() {
    client_out=$HOSTS_DIR/client/traffic.log
    hosts_start client traffic "$COLO_BUILD/tests/tools/traffic" \
        --every-ms 5 --http "${CLIENT_HTTP:-1}" --http-every-ms 50 --drain-s "$PATIENCE" "$HOSTS_GUEST_IP"
    client=$hosts_pid records=0
    need "the client is there" client_listens
    need "the client's connection" client_continues
}

# Takes SIGUSR1 (bit 9 of the blocked ones), which ends a process that doesn't expect it.
client_listens() {
    grep -q '^SigBlk:.*[2367abef]..$' "/proc/$client/status"
}

client_has_marked() {
    [ "$(wc -l <"$client_out")" -gt "$marks" ]
}

figure() { # JSON NAME
    echo "$1" | "$COLO_BUILD/tests/tools/json-get" "$2"
}

# The client's figures up to now, in $figures.
client_mark() {
    marks=$(wc -l 2>/dev/null <"$client_out" || echo 0)
    kill -USR1 "$client" 2>/dev/null &&
        hosts_wait 10 "the client's figures" client_has_marked 2>/dev/null &&
        figures=$(tail -n 1 "$client_out") &&
        gap_ms=$(figure "$figures" gap_ms | awk -v most="$gap_ms" '{ print ($1 > most) ? $1 : most }')
}

client_continues() {
    client_mark && [ "$(figure "$figures" records)" -gt "$records" ]
}

client_verdict() { # JSON
    for name in lost duplicated corrupted connection http_failed; do
        counted=$(figure "$1" $name) || [ "${CLIENT_HTTP:-1}" != 0 ] || counted=0
        printf '%s=%s ' $name "$counted"
    done
}

CLIENT_GOOD='lost=0 duplicated=0 corrupted=0 connection=kept http_failed=0 '

# What happens from here on counts.
mark() {
    for host in alpha beta; do
        [ ! -e "$HOSTS_DIR/$host/colod.log" ] ||
            echo $(($(wc -l <"$HOSTS_DIR/$host/colod.log") + 1)) >"$HOSTS_DIR/$host/marked"
    done
    decisions >"$HOSTS_DIR/decisions"
    [ -z "$client" ] || { client_mark && records=$(figure "$figures" records); }
    gap_ms=0
}

# client_unharmed WHAT: it got answers since it was last looked at and has lost nothing.
client_unharmed() {
    client_mark && records=$(figure "$figures" records)
    need "$1: the client goes on" client_continues
    is "$1: the client has lost nothing" "$(client_verdict "$figures")" "$CLIENT_GOOD"
    diag "$1: the client's longest gap: $gap_ms ms"
}

# ---- What must be true afterwards ----

# taken_over WHAT: the secondary goes on alone; it is $primary now.
taken_over() {
    pair_swap
    need "$1: $primary takes over" is_alone "$primary"
    client_unharmed "$1"
}

# continues_unprotected WHAT: the primary goes on unprotected.
continues_unprotected() {
    need "$1: $primary goes on unprotected" is_alone "$primary"
    client_unharmed "$1"
}

client_end() {
    kill -TERM "$client"
    need "the client ends" has_ended "$client"
    wait "$client"
    is "the client's exit status" $? 0
    figures=$(tail -n 1 "$client_out")
    is "the client's last word" "$(client_verdict "$figures")" "$CLIENT_GOOD"
    diag "its longest gap: $(figure "$figures" gap_ms) ms"
    client=''
}

guest_verifies() {
    verdict=$(hosts_guest verify) && [ "${verdict%% *}" = ok ]
}

# nothing_left: colods that are asked to end leave no process, no tap and no socket.
nothing_left() {
    for host in alpha beta; do
        pids=$(hosts_running $host colod)
        # One that was killed has left its socket.
        [ -n "$pids" ] || rm -f "$HOSTS_DIR/$host/control"
        # Not by a signal: the one would hand over to the other.
        # shellcheck disable=SC2086
        [ -z "$pids" ] || hosts_colo $host quit || kill -TERM $pids
    done
    for host in alpha beta; do
        wait_ok "$host: no process is left" is_empty $host
        is "$host: no tap is left" \
            "$(hosts_exec $host ls /sys/class/net | tr '\n' ' ')" "br0 lan0 lo sync0 "
        not_ok "$host: no control socket is left" test -e "$HOSTS_DIR/$host/control"
    done
    is "no draft is left with the arbiter" "$(find "$HOSTS_DIR/arbiter" -name '.?*')" ""
}

pair_end() {
    ok "the guest's memory is what it wrote" guest_verifies
    client_end
    nothing_left
    tap_done
}

# ---- Epochs, in the logs since the last mark (log-level=debug) ----

# Of the last checkpoint that the primary knows to be complete on the secondary.
completed_epoch() { # HOST
    tail -n "+$(cat "$HOSTS_DIR/$1/marked")" "$HOSTS_DIR/$1/colod.log" |
        sed -n 's/.*epoch=\([0-9]*\) checkpoint complete.*/\1/p' | tail -n 1
}

takeover_epoch() { # HOST
    tail -n "+$(cat "$HOSTS_DIR/$1/marked")" "$HOSTS_DIR/$1/colod.log" |
        sed -n 's/.*taken over from epoch \([0-9]*\) .*/\1/p' | tail -n 1
}
