#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A pair whose link goes over two proxies, without an arbiter. The second one dies, comes back and
# stands still; administrators pause and recover the link from both sides, over it and around it.
#
#     beta -> src.sock -> socat (a) -> TCP -> socat (b) -> dst.sock -> alpha
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u

# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"

command -v socat >/dev/null || tap_skip_all "no socat"
PORT=9001
RAM_MIB=256
src=$HOSTS_DIR/src.sock dst=$HOSTS_DIR/dst.sock
alpha_ip=$(hosts_sync_address alpha)

way_a() {
    hosts_start beta way-a socat "UNIX-LISTEN:$src,unlink-early,fork" "TCP:$alpha_ip:$PORT"
    need "the first proxy listens" test -S "$src"
}

b_listens() {
    hosts_exec alpha ss -Hltn "sport = :$PORT" | grep -q .
}

way_b() {
    hosts_start alpha way-b socat "TCP-LISTEN:$PORT,bind=$alpha_ip,reuseaddr,fork" "UNIX:$dst"
    way_b=$hosts_pid
    need "the second proxy listens" b_listens
}

# With those of its connections.
way_ends() { # HOST
    # shellcheck disable=SC2046
    kill -KILL $(hosts_running "$1" socat) 2>/dev/null
}

# So many have failed on beta, so far.
failed_are() {
    [ "$(hosts_colo beta events --json | grep -c RECOVER_FAILED)" = "$1" ]
}

held_by() { # HOST
    is_in alpha primary paused && is_in beta secondary paused && hosts_status_is "$1" peer.paused true
}

# Nothing of the guest leaves: it waits.
holds_output() {
    [ "$(hosts_status alpha held.frames)" -gt 0 ]
}

tries_at() { # URI
    hosts_status_is beta peer.recovering "$1"
}

paused() { # HOST WHAT
    mark
    ok "$2: colo pause on $1" hosts_colo "$1" pause
    need "$2: both are paused" held_by "$1"
    need "$2: output is held" holds_output
}

sent() {
    hosts_status alpha bytes.total
}

# Beta has kept its RAM: what is the same is not sent again.
sends_little() { # BYTES-BEFORE
    sent_since=$(($(sent) - $1))
    diag "$sent_since bytes were sent"
    [ "$sent_since" -lt $((RAM_MIB * 1024 * 1024 / 20)) ]
}

protected_again() { # WHAT BYTES-BEFORE
    need "$1: protected" is_pair alpha beta
    ok "$1: less than 5 % of RAM was sent" sends_little "$2"
    client_unharmed "$1"
}

pair_setup arbiter.type=none arbiter.path= vm.memory=${RAM_MIB}MiB
hosts_config beta arbiter.type=none arbiter.path= vm.memory=${RAM_MIB}MiB "node.peer=unix:$src"
way_a
pair_boot
ok "alpha listens on a socket, too" hosts_colo alpha recover "unix:$dst"
way_b
client_start
pair_join

what='the second proxy dies'
paused beta "$what"
way_ends alpha
for i in 1 2 3; do
    ok "$what: recover, time $i" hosts_colo beta recover "unix:$src"
    need "$what: it fails, time $i" failed_are "$i"
    need "$what: as before, time $i" held_by beta
done

what='the second proxy stands still'
way_b
kill -STOP "$way_b"
ok "$what: recover" hosts_colo beta recover "unix:$src"
ok "$what: it hangs" tries_at "unix:$src"
ok "$what: pause" hosts_colo beta pause
not_ok "$what: it has ended" tries_at "unix:$src"
need "$what: it is told" failed_are 4
ok "$what: a shorter limit" hosts_colo beta set recover-timeout 1s
ok "$what: recover again" hosts_colo beta recover
need "$what: its time ends" failed_are 5
need "$what: as before" held_by beta

what='the second proxy goes on'
before=$(sent)
kill -CONT "$way_b"
ok "$what: the old limit" hosts_colo beta set recover-timeout 5s
ok "$what: recover" hosts_colo beta recover "unix:$src"
protected_again "$what" "$before"

what='from the primary'
paused alpha "$what"
before=$(sent)
ok "$what: recover there" hosts_colo alpha recover "unix:$dst"
protected_again "$what" "$before"

what='around the proxies'
paused beta "$what"
before=$(sent)
way_ends alpha
way_ends beta
ok "$what: recover" hosts_colo beta recover "tcp:$alpha_ip:$HOSTS_SYNC_PORT"
protected_again "$what" "$before"
is "$what: that address counts" "$(hosts_status beta peer.address)" "tcp:$alpha_ip:$HOSTS_SYNC_PORT"
is "nobody has taken over" "$(hosts_status beta takeovers)" 0

pair_end
