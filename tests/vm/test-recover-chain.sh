#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A pair whose link goes over two proxies, without an arbiter. The second one dies, comes back and
# stands still; administrators pause and recover the link from both sides, over it and around it.
#
#     beta -> src.sock -> socat (a) -> TCP -> socat (b) -> dst.sock -> alpha
#
# Its disks are a raw and a qcow2 one: only what differs is compared and sent, of them and of RAM.
# Then over two proxies of our own, each of which can cut, or hold up, one of the link's connections only. No clock
# is read: what `pause` does is done when it answers, and an attempt that fails by itself is waited for.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u

# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"

command -v socat >/dev/null || tap_skip_all "no socat"
PORT=9001
RAM_MIB=256 DISK_MIB=16
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

# The same by tests/tools/chaos-proxy; the file "orders" is a pipe to each.
chaos_way() { # HOST LISTEN TARGET
    mkfifo "$HOSTS_DIR/$1/orders"
    hosts_start "$1" chaos sh -c "exec '$COLO_BUILD/tests/tools/chaos-proxy' '$2' '$3' <'$HOSTS_DIR/$1/orders'"
}

# The second one's, which is answered.
chaos() { # ORDER...
    chaos_lines=$(wc -l <"$HOSTS_DIR/alpha/chaos.log")
    echo "$*" >&8
    need "$what: $*" chaos_has_answered
}

chaos_has_answered() {
    [ "$(wc -l <"$HOSTS_DIR/alpha/chaos.log")" -gt "$chaos_lines" ] &&
        [ "$(tail -n 1 "$HOSTS_DIR/alpha/chaos.log")" = ok ]
}

# Somebody has connected to a socket there.
is_dialled() { # HOST SOCKET
    hosts_exec "$1" ss -Hx state established | grep -q -F "$2"
}

is_not_dialled() { # HOST SOCKET
    ! is_dialled "$@"
}

# With those of its connections.
way_ends() { # HOST
    # shellcheck disable=SC2046
    kill -KILL $(hosts_running "$1" socat) 2>/dev/null
}

# How many have failed on beta, so far.
failures() {
    hosts_colo beta events --json | grep -c RECOVER_FAILED
}

failed_are() {
    [ "$(failures)" = "$1" ]
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

# What the hosts' files name is compared, and nothing else of the disks.
disks_by_difference() { # WHAT
    need "$1: so are the disks" hosts_status_is alpha disks.in-sync true
    is "$1: all of the disks is compared" "$(hosts_status alpha disks.sync.full)" false
    disk_bytes=$(hosts_status alpha disks.sync.total-bytes)
    ok "$1: $disk_bytes bytes of them are" test "$disk_bytes" -le $((DISK_MIB * 1024 * 1024 / 10))
}

both_written() { # WHAT
    for disk in vda vdb; do
        ok "$1: the guest writes to $disk" guest_writes $disk 4
    done
}

protected_again() { # WHAT BYTES-BEFORE
    need "$1: protected" is_pair alpha beta
    disks_by_difference "$1"
    both_written "$1"
    ok "$1: less than 5 % of RAM was sent" sends_little "$2"
    client_unharmed "$1"
}

# shellcheck disable=SC2119 # the options are set below, for each host
pair_setup
for host in alpha beta; do
    truncate -s ${DISK_MIB}M "$(image_of $host raw)"
    qemu-img create -q -f qcow2 "$(image_of $host cow)" ${DISK_MIB}M
    truncate -s $((DISK_MIB + 4))M "$(image_of $host cow)" # the file doesn't grow
    peer=''
    [ $host = alpha ] || peer="node.peer=unix:$src"
    hosts_config $host arbiter.type=none arbiter.path= vm.memory=${RAM_MIB}MiB ${peer:+"$peer"} \
        "disk raw.path=$(image_of $host raw)" \
        "disk cow.path=$(image_of $host cow)" "disk cow.format=qcow2" \
        "disks.state-dir=$HOSTS_DIR/$host/disks"
done
way_a
pair_boot
ok "alpha listens on a socket, too" hosts_colo alpha recover "unix:$dst"
way_b
client_start
pair_join
need "so are the disks" hosts_status_is alpha disks.in-sync true
is "all of them was compared" "$(hosts_status alpha disks.sync.full)" true
both_written "protected"

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

what='the secondary stands still as it is linked'
paused beta "$what"
failed=$(failures)
kill -STOP "$way_b"
ok "$what: recover" hosts_colo beta recover "unix:$src"
ok "$what: it hangs" tries_at "unix:$src"
need "$what: it has dialled" is_dialled beta "$src"
kill -STOP "$(pid_of beta)"
kill -CONT "$way_b"
need "$what: the primary has its connection" is_dialled alpha "$dst"
ok "$what: pause on the primary" hosts_colo alpha pause
ok "$what: the primary is paused" is_in alpha primary paused
need "$what: and has ended the connection" is_not_dialled alpha "$dst"
kill -CONT "$(pid_of beta)"
ok "$what: pause there, too" hosts_colo beta pause
need "$what: it is told" failed_are $((failed + 1))
before=$(sent)
ok "$what: recover on the primary" hosts_colo alpha recover "unix:$dst"
ok "$what: and on the secondary" hosts_colo beta recover "unix:$src"
protected_again "$what" "$before"

what='around the proxies'
paused beta "$what"
before=$(sent)
way_ends alpha
way_ends beta
ok "$what: recover" hosts_colo beta recover "tcp:$alpha_ip:$HOSTS_SYNC_PORT"
protected_again "$what" "$before"
is "$what: that address counts" "$(hosts_status beta peer.address)" "tcp:$alpha_ip:$HOSTS_SYNC_PORT"
# One connection of the link only, over a chain of which each half can do that.
rm -f "$src"
chaos_way beta "unix:$src" "$alpha_ip:$PORT"
chaos_way alpha "$alpha_ip:$PORT" "unix:$dst"
exec 7<>"$HOSTS_DIR/beta/orders" 8<>"$HOSTS_DIR/alpha/orders"
for host in alpha beta; do
    need "$host: the proxy listens" grep -q '^listening' "$HOSTS_DIR/$host/chaos.log"
done
what='over the other proxies'
paused beta "$what"
before=$(sent)
ok "$what: the primary listens there again" hosts_colo alpha recover "unix:$dst"
ok "$what: recover" hosts_colo beta recover "unix:$src"
protected_again "$what" "$before"
for channel in control checkpoint packets disks; do
    what="$channel is cut"
    mark
    before=$(sent)
    chaos cut $channel
    need "$what: the link is lost" logged alpha 'the link to the peer is lost'
    need "$what: on both" logged beta 'the link to the peer is lost'
    protected_again "$what" "$before"

    what="$channel stands still"
    failed=$(failures)
    chaos blackhole $channel
    mark
    ok "$what: pause" hosts_colo beta pause
    ok "$what: on the primary" hosts_colo alpha pause
    need "$what: both are paused" held_by beta
    need "$what: output is held" holds_output
    ok "$what: recover on the primary" hosts_colo alpha recover "unix:$dst"
    ok "$what: recover" hosts_colo beta recover "unix:$src"
    ok "$what: it hangs" tries_at "unix:$src"
    need "$what: the primary has a connection" is_dialled alpha "$dst"
    ok "$what: pause on the primary" hosts_colo alpha pause
    ok "$what: pause" hosts_colo beta pause
    need "$what: it is told" failed_are $((failed + 1))
    need "$what: as before" held_by beta
    chaos pass $channel
    before=$(sent)
    ok "$what: recover on the primary again" hosts_colo alpha recover "unix:$dst"
    ok "$what: recover again" hosts_colo beta recover "unix:$src"
    protected_again "$what" "$before"
done
is "nobody has taken over" "$(hosts_status beta takeovers)" 0

ok "the guest's memory is what it wrote" guest_verifies
client_end
for host in alpha beta; do
    hosts_colo $host quit >/dev/null
    need "$host's colod ends" has_ended "$(pid_of $host)"
done
ok "the raw images are equal" cmp "$(image_of alpha raw)" "$(image_of beta raw)"
ok "the qcow2 images are" qemu-img compare -q "$(image_of alpha cow)" "$(image_of beta cow)"
for host in alpha beta; do
    ok "$host's qcow2 image is whole" qemu-img check -q "$(image_of $host cow)"
done
for host in alpha beta; do
    # shellcheck disable=SC2046
    kill -KILL $(hosts_running $host chaos-proxy)
done
nothing_left
tap_done
