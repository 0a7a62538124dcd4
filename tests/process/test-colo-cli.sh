#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The colo tool against a fake colod that serves a real control socket.
# shellcheck disable=SC2317 # functions are called by trap and by wait_for
set -u
# shellcheck source=tests/support/tap.sh
. "$COLO_TESTS/support/tap.sh"

colo=$COLO_BUILD/colo
dir=$(mktemp -d)
fake_pid='' script_pid=''
cleanup() {
    for pid in $fake_pid $script_pid; do
        kill -CONT "$pid" 2>/dev/null
        kill "$pid" 2>/dev/null
    done
    wait
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

COLO_SOCKET=$dir/web.sock
export COLO_SOCKET
unset NO_COLOR

cat >"$dir/colod.conf" <<CONF
[node]
name=alpha
listen=127.0.0.1:9000
[vm]
name=web
uuid=6f1c3c2e-3f5e-4a8a-9c3e-0a6b7d1f2e01
memory=64MiB
CONF
status() {
    printf '{"vm":{"name":"web","state":"running"},"role":"primary","state":"%s",
        "protected":true,"epoch":7}' "$1" >"$dir/status.new"
    mv "$dir/status.new" "$dir/status.json"
}
status colo

# wait_for COMMAND...: until it succeeds; the runner's time limit is the end of patience.
wait_for() {
    until "$@" >/dev/null 2>&1; do
        [ -z "$fake_pid" ] || kill -0 "$fake_pid" || return 1
        sleep 0.05
    done
}

start_fake() {
    "$COLO_BUILD/tests/tools/fake-colod" "$COLO_SOCKET" "$dir/colod.conf" "$dir/status.json" &
    fake_pid=$!
    wait_for "$colo" get
}

# run ARGUMENT...: the output in $out and $err, the exit status in $code
run() {
    code=0
    "$colo" "$@" >"$dir/out" 2>"$dir/err" || code=$?
    out=$(cat "$dir/out")
    err=$(cat "$dir/err")
}

# ---- Without a colod ----
run status
is "no colod: exit 3" $code 3
is "no colod: what to do" "$err" "colo: no colod serves $COLO_SOCKET (No such file or directory): \
is it running? colod --config FILE starts it, --socket names another"
run --socket "$dir/other.sock" status
has "--socket counts instead of COLO_SOCKET" "$err" "$dir/other.sock"
run status --socket="$dir/third.sock"
has "--socket=PATH, after the command" "$err" "$dir/third.sock"

# ---- Wrong usage ----
usage() {
    what=$1 message=$2
    shift 2
    run "$@"
    is "$what: exit 2" $code 2
    is "$what: message" "$err" "$message"
}
usage "unknown command" "colo: unknown command 'waltz': colo --help lists them" waltz
usage "unknown command, nearly right" "colo: unknown command 'stauts': did you mean 'status'?" stauts
usage "unknown option" "colo: unknown option '--fast': colo --help lists them" status --fast
usage "unknown option, nearly right" "colo: unknown option '--folow': did you mean '--follow'?" \
    events --folow
usage "no guess at what the command doesn't take" \
    "colo: unknown option '--folow': colo --help lists them" status --folow
usage "option of another command" "colo: status does not take that option: colo status --help" \
    status --follow
usage "too few arguments" "colo: usage: colo set NAME VALUE, or NAME=VALUE" set min-gap
usage "a value twice" "colo: usage: colo set NAME VALUE, or NAME=VALUE" set min-gap=1ms 2ms
usage "too many arguments" "colo: checkpoint: 'now' is too much: colo checkpoint --help" \
    checkpoint now
usage "--socket alone" "colo: --socket needs the path of a control socket" status --socket
run
is "no command: exit 2" $code 2
has "no command: usage on stderr" "$err" "Usage: colo"

# ---- Help: one table ----
run --help
is "--help: exit 0" $code 0
help=$out
for command in status watch get set checkpoint failover switchover continue cancel events capture fd arbiter quit; do
    has "--help lists $command" "$help" "  $command"
    run "$command" --help
    is "$command --help: exit 0" $code 0
    has "$command --help" "$out" "Usage: colo $command"
done
commands=$(printf '%s\n' "$help" | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
page=$COLO_TESTS/../docs/man/colo.1
is "colo.1 has the commands of --help, in their order" \
    "$(sed -n '/^\.SH COMMANDS/,/^\.SH OPTIONS/{/^\.TP/{n;s/^\.BR* \([a-z]*\).*/\1/p;};}' "$page")" "$commands"
run set --help
has "set --help lists the live options" "$out" "heartbeat-timeout"
run --version
has "--version" "$out" "colo "

# ---- With a colod ----
start_fake
run status
is "status: exit 0" $code 0
has "status: a page" "$out" "web: PROTECTED (primary, state colo, mode -, VM running)"
run status --json
has "status --json" "$out" '"epoch": 7'
is "status --json is JSON" "$("$COLO_BUILD/tests/tools/json-get" vm.name <"$dir/out")" web

run get min-gap
is "get NAME" "$out" 10ms
run get
has "get: all options" "$out" "vm.memory                64MiB"
has "get: those of the pair" "$out" "min-gap                  10ms  (live, of the pair)"
has "get: those of the node" "$out" "log-level                info  (live, of this node)"
run get --json
has "get --json" "$out" '"heartbeat-timeout":'
run set min-gap 20ms
is "set: exit 0, and where it counts" "$code $out$err" "0 min-gap is 20ms on both nodes"
run get min-gap
is "set has set" "$out" 20ms
run set min-gap=30ms
is "set NAME=VALUE" "$code $out$err" "0 min-gap is 30ms on both nodes"
run set log-level debug
is "set, of the node" "$code $out$err" "0 log-level is debug on this node (alpha) only"
run set min-gap 20
is "set, wrong: exit 1" $code 1
is "set, wrong: colod's words" "$err" \
    "colo: min-gap: '20': the unit is missing (ms, s or min): write, say, 20ms"
for end in '' --; do
    # shellcheck disable=SC2086 # nothing, or --
    run set $end min-gap -5ms
    is "a value that begins with a minus${end:+, after $end}" "$err" \
        "colo: min-gap: '-5ms': expected a whole number with its unit such as 100ms"
done
run get period
is "get, unknown name" "$code $err" \
    "1 colo: unknown option 'period': did you mean 'checkpoint-period'?"

run failover
is "failover, refused: exit 1" "$code $err" "1 colo: failover: not in state none: wait for a peer"
run failover --force
is "failover --force, no terminal: it doesn't wait" "$code$out$err" 0
run failover --force --no-wait
is "failover --no-wait" "$code$out$err" 0

# Of a secondary that has lost its primary: waits until somebody has decided.
lost() { # STATE ROLE
    printf '{"node":"beta","role":"%s","state":"%s","peer":{"name":"alpha"},
        "waiting":{"for":"a decision which node continues"}}' "$2" "$1" >"$dir/status.new"
    mv "$dir/status.new" "$dir/status.json"
}
waits() { # OPTION...
    lost paused secondary
    "$colo" failover "$@" >"$dir/waited" 2>"$dir/waited-err" &
    script_pid=$!
    wait_for grep -q 'waiting for: a decision which node continues' "$dir/waited-err"
}
waited() {
    code=0
    wait "$script_pid" || code=$?
    script_pid=''
}
waits --force --wait
lost none primary
waited
is "failover --wait: it has happened: exit 0" $code 0
has "failover --wait: by whom, and how long it took" "$(cat "$dir/waited")" "taken over by beta in "
waits --force --wait --json
lost none secondary
waited
is "failover --wait: the other goes on: exit 1" $code 1
has "failover --wait: why" "$(cat "$dir/waited-err")" "colo: refused: the VM is alpha's"
if command -v script >/dev/null; then
    lost paused secondary
    script -qefc "$colo failover --force" "$dir/typescript" </dev/null >/dev/null 2>&1 &
    script_pid=$!
    wait_for grep -q 'waiting for' "$dir/typescript"
    lost none primary
    waited
    is "failover on a terminal waits" "$code" 0
    has "failover on a terminal says so" "$(cat "$dir/typescript")" "taken over by beta in "
else
    tap_skip "failover on a terminal" "script(1) is missing"
fi
status colo

run checkpoint
is "checkpoint" "$code$out$err" 0
run events
has "events" "$out" "CHECKPOINT"
run events --json
is "events --json: a line each" "$("$COLO_BUILD/tests/tools/json-get" event <"$dir/out")" CHECKPOINT

"$colo" events --follow >"$dir/followed" &
script_pid=$!
wait_for grep -q CHECKPOINT "$dir/followed"
run checkpoint
two_events() {
    [ "$(grep -c CHECKPOINT "$dir/followed")" = 2 ]
}
wait_for two_events
pass "events --follow shows the old and the new"
kill "$script_pid"
wait "$script_pid" 2>/dev/null
script_pid=''

# ---- watch ----
"$colo" watch >"$dir/watched" &
script_pid=$!
wait_for grep -q 'state colo' "$dir/watched"
status paused
wait_for grep -q 'state paused' "$dir/watched"
pass "watch, no terminal: a new page when something has changed"
kill -TERM "$script_pid"
code=0
wait "$script_pid" || code=$?
script_pid=''
is "watch ends well on SIGTERM" $code 0
not_ok "watch, no terminal: no escape sequences" grep -q "$(printf '\033')" "$dir/watched"

if command -v script >/dev/null; then
    # The terminal's modes before and after, and what was drawn between; q ends it.
    mkfifo "$dir/keys"
    script -qefc "stty -a >$dir/before; $colo watch; stty -a >$dir/after" "$dir/typescript" \
        <"$dir/keys" >/dev/null 2>&1 &
    script_pid=$!
    exec 3>"$dir/keys"
    wait_for grep -q 'state paused' "$dir/typescript"
    status colo
    wait_for grep -q 'state colo' "$dir/typescript"
    pass "watch, terminal: redrawn"
    printf q >&3
    wait_for test -s "$dir/after"
    exec 3>&-
    wait "$script_pid"
    script_pid=''
    pass "watch, terminal: q ends it"
    is "watch, terminal: the modes are as before" "$(cat "$dir/after")" "$(cat "$dir/before")"
    has "watch, terminal: the cursor and the screen are back" "$(cat "$dir/typescript")" \
        "$(printf '\033[?25h\033[?1049l')"

    # On a screen that is too small for the page: nothing scrolls, nothing wraps.
    printf '{"vm":{"name":"web"},"state":"small","last-error":{"text":"%0200d"}}' 0 >"$dir/status.new"
    mv "$dir/status.new" "$dir/status.json"
    rm "$dir/keys" "$dir/after"
    mkfifo "$dir/keys"
    script -qefc "stty rows 8 cols 40; $colo watch; touch $dir/after" "$dir/typescript" \
        <"$dir/keys" >/dev/null 2>&1 &
    script_pid=$!
    exec 3>"$dir/keys"
    wait_for grep -q 'lines more: colo status' "$dir/typescript"
    printf q >&3
    wait_for test -e "$dir/after"
    exec 3>&-
    wait "$script_pid"
    script_pid=''
    # One frame: from cursor home to clearing below.
    esc=$(printf '\033')
    frame=$(tr -d '\r' <"$dir/typescript" | awk -v home="${esc}[H" -v end="${esc}[J" '
        index($0, home) { inside = 1; sub(/.*\033\[H/, "") }
        inside { last = index($0, end); gsub(/\033\[[0-9;?]*[A-Za-z]/, ""); print }
        inside && last { exit }')
    is "watch, a small terminal: as many lines as fit" "$(echo "$frame" | wc -l)" 8
    is "watch, a small terminal: none is too long" "$(echo "$frame" | awk 'length > 40')" ""
else
    tap_skip "watch on a terminal" "script(1) is missing"
fi
status colo

# ---- The end ----
"$colo" events --follow >/dev/null 2>"$dir/err-follow" &
script_pid=$!
wait_for "$colo" get min-gap
# ---- Captures ----
run capture on cap.pcapng --last 3
is "capture on: an absolute path, a number" "$code $err" \
    "1 colo: capture-on {\"file\":\"$PWD/cap.pcapng\",\"last\":3}"
run capture on /tmp/cap.pcapng
is "capture on, as many as colod wants" "$code $err" '1 colo: capture-on {"file":"/tmp/cap.pcapng"}'
run capture off
is "capture off" "$code$out$err" 0
mkdir "$dir/arbiter"
run arbiter init "$dir/arbiter"
is "arbiter init" $code 0
has "arbiter init: what it is, and where" "$out" "$dir/arbiter is an arbiter's folder now, named"
has "arbiter init: what is mounted there" "$out" ", mounted on /"
name=$(cat "$dir/arbiter/colo-arbiter-id")
run arbiter init "$dir/arbiter"
is "arbiter init, again" $code 1
has "arbiter init, again: it says so" "$err" "already, named $name"
is "arbiter init, again: nothing is changed" "$(cat "$dir/arbiter/colo-arbiter-id")" "$name"
run arbiter init "$dir/arbiter/missing"
is "arbiter init, no folder" $code 1
ok "arbiter init, no folder: none is made" [ ! -e "$dir/arbiter/missing" ]
usage "arbiter, no init" "colo: arbiter: 'make' is not init" arbiter make "$dir/arbiter"
usage "arbiter init, no path" "colo: usage: colo arbiter init PATH" arbiter init

usage "capture, neither" "colo: capture: 'maybe' is neither on nor off" capture maybe
usage "capture on, no file" "colo: capture on: needs a FILE" capture on
usage "capture off, a file" "colo: capture off: takes no FILE" capture off x
usage "capture off, --last" "colo: capture off: takes no --last" capture off --last 1
usage "capture on, --last 0" "colo: --last 0: not a number from 1 to 10000" capture on x --last 0
usage "capture on, --last without" "colo: --last needs a value" capture on x --last
usage "quit --last" "colo: quit does not take that option: colo quit --help" quit --last 3

# ---- Descriptors ----
run fd list
is "fd list: none" "$code$out$err" 0
echo kept >"$dir/kept"
run fd add "$dir/kept" --opaque "a file" --set 7
is "fd add" "$code$err" 0
has "fd add: where it is" "$out" "fdset:7 has it as "
fd=${out##* }
is "fd add: colod has that file" "$(cat "/proc/$fake_pid/fd/$fd")" kept
run fd add - <"$dir/status.json"
has "fd add -: in the first free set" "$out" "fdset:0 has it as "
is "fd add -: standard input" "$(readlink "/proc/$fake_pid/fd/${out##* }")" "$dir/status.json"
run fd add "$COLO_SOCKET" --json
has "fd add of a socket: a connection" "$(readlink "/proc/$fake_pid/fd/$(printf '%s' "$out" |
    "$COLO_BUILD/tests/tools/json-get" fd)")" socket:
run fd list
is "fd list: lines" "$(printf '%s\n' "$out" | wc -l)" 3
has "fd list: the word" "$(printf '%s\n' "$out" | tail -n 1)" "a file"
run fd remove 7 "$fd"
is "fd remove of one" "$code$out$err" 0
ok "fd remove: colod has closed it" [ ! -e "/proc/$fake_pid/fd/$fd" ]
run fd remove 7
is "fd remove, not there: exit 1" $code 1
has "fd remove, not there: what to do" "$err" "there is no set 7 (query-fdsets lists them)"
run fd remove 0
is "fd remove of a set" "$code$out$err" 0
run fd add "$dir/missing"
is "fd add of nothing" "$code $err" "1 colo: $dir/missing: No such file or directory"
usage "fd, nothing of it" "colo: fd: 'take' is neither add, list nor remove" fd take
usage "fd add, no path" "colo: fd add: needs a PATH, or -" fd add
usage "fd add, two" "colo: fd add: needs a PATH, or -" fd add a b
usage "fd add, no number" "colo: fd: 'x' is not a number from 0 to 2147483647" fd add - --set x
usage "fd add, --set without" "colo: --set needs a value" fd add - --set
usage "fd list, --set" "colo: fd list: takes neither --set nor --opaque" fd list --set 1
usage "fd list, more" "colo: fd list: takes nothing more" fd list 1
usage "fd remove, no set" "colo: fd remove: needs the number of a SET" fd remove
usage "fd remove, no number" "colo: fd: '-1' is not a number from 0 to 2147483647" fd remove -1

run quit
is "quit" "$code$out$err" 0
wait "$fake_pid"
fake_pid=''
code=0
wait "$script_pid" || code=$?
script_pid=''
is "events --follow: exit 3 when colod ends" $code 3
is "events --follow: why" "$(cat "$dir/err-follow")" "colo: the colod that served $COLO_SOCKET has ended"
run status
is "after quit: exit 3" $code 3

# A socket that a killed colod has left.
start_fake
kill -KILL "$fake_pid"
wait "$fake_pid" 2>/dev/null
fake_pid=''
run status
is "stale socket: exit 3" $code 3
has "stale socket: why" "$err" "(Connection refused)"

# A stopped colod: a clear end instead of a wait for ever.
start_fake
kill -STOP "$fake_pid"
run status
is "stopped colod: exit 3" $code 3
is "stopped colod: why" "$err" \
    "colo: the colod that serves $COLO_SOCKET does not answer (greeting): is it stopped?"
tap_done
