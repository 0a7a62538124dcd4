#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The test hosts: they reach each other as drawn, killing and cutting does what it says, and nothing of
# them stays, however the script that made them ends.
set -u
# shellcheck source=tests/support/tap.sh
. "$COLO_TESTS/support/tap.sh"
# shellcheck source=tests/support/hosts.sh
. "$COLO_TESTS/support/hosts.sh"
why=$(hosts_missing) || tap_skip_all "$why"

left_of() { # PID: what is there of the hosts of a script
    find /run/netns /tmp -maxdepth 1 \( -name "colo-$1-*" -o -name "colo-hosts-$1" \) 2>/dev/null
    pgrep -f "colo-player-$1" || true
    grep "colo-hosts-$1/" /proc/self/mounts || true
}

wait_for_line() { # FILE TEXT
    hosts_wait 30 "$2" grep -qs "$2" "$1"
}

work=$(mktemp -d)
hosts_setup || exit 1
# Not before: the hosts' own clean-up is to come first.
hosts_at_exit="rm -rf $work"

for ending in end fail INT TERM HUP KILL; do
    script="$work/$ending"
    cat >"$script" <<EOF2
set -eu
COLO_BUILD=$COLO_BUILD
. "$COLO_TESTS/support/hosts.sh"
hosts_setup
hosts_start alpha player sh -c 'sleep 1000; : colo-player-\$0' \$\$
touch \$HOSTS_DIR/client/file
mkdir \$HOSTS_DIR/beta/small
mount -t tmpfs tmpfs \$HOSTS_DIR/beta/small
touch \$HOSTS_DIR/beta/small/file
mount -t tmpfs tmpfs \$HOSTS_DIR/beta/small
echo there >"$work/there"
case $ending in
end) exit 0 ;;
fail) false ;;
*) while :; do sleep 0.05; done ;;
esac
EOF2
    rm -f "$work/there"
    # A shell's background commands ignore SIGINT, which a script can't undo for itself.
    # shellcheck disable=SC2016 # perl's
    setsid perl -e '$SIG{INT} = "DEFAULT"; exec @ARGV' sh "$script" 2>/dev/null &
    player=$!
    wait_for_line "$work/there" there || exit 1
    case $ending in
    end | fail) ;;
    *) kill -s $ending $player ;;
    esac
    wait $player
    if [ $ending = KILL ]; then
        has "after SIGKILL something is left" "$(left_of $player)" "colo-$player-alpha"
        hosts_sweep
    fi
    is "after $ending nothing is left" "$(left_of $player)" ""
done

# A wait whose command waits, too.
cat >"$work/nested" <<EOF2
. "$COLO_TESTS/support/hosts.sh"
HOSTS_QUIET=yes
both() { hosts_wait 1 "the inner one" true; false; }
hosts_wait 1 "the outer one" both
EOF2
is "a wait ends in its own time, though its command waits" "$(timeout 20 sh "$work/nested" 2>&1)" \
    "waited in vain for the outer one"

ip -n "$hosts_prefix-alpha" addr add "$HOSTS_GUEST_IP/24" dev br0
ip -n "$hosts_prefix-alpha" addr add "$HOSTS_GUEST_IP6/64" dev br0
# shellcheck disable=SC2317 # called by name
talk() { # FROM ADDRESS: whether something at the address takes a connection to port 80
    hosts_exec "$1" timeout 5 socat -u OPEN:/dev/null "TCP:$2:80,connect-timeout=3" 2>/dev/null
}
hosts_start alpha web socat TCP6-LISTEN:80,fork,ipv6only=0,reuseaddr OPEN:/dev/null
hosts_wait 20 "the server" talk client "$HOSTS_GUEST_IP" || exit 1
pass "the client reaches what is on alpha's bridge"
ok "over IPv6, too" talk client "[$HOSTS_GUEST_IP6]"
ok "beta reaches alpha over the sync link" talk beta 10.99.0.1
hosts_cut alpha lan0
not_ok "with its LAN cut the client doesn't reach it" talk client "$HOSTS_GUEST_IP"
ok "the sync link still works then" talk beta 10.99.0.1
hosts_cut alpha
not_ok "with all cut nobody reaches it" talk beta 10.99.0.1
hosts_mend alpha
ok "mended, the client reaches it again" talk client "$HOSTS_GUEST_IP"
hosts_start beta bystander sleep 1000
bystander=$hosts_pid
hosts_kill alpha
is "after a kill nothing runs there" "$(ip netns pids "$hosts_prefix-alpha")" ""
ok "elsewhere what runs lives on" kill -0 "$bystander"

HOSTS_QUIET=1
not_ok "a wait that is in vain fails" hosts_wait 0 "what never is" false
HOSTS_WATCH=$bystander
kill -KILL "$bystander"
wait "$bystander"
has "a wait fails at once when what it needs is gone" "$(hosts_wait 600 "it" false 2>&1)" "has ended"
HOSTS_WATCH=''

hosts_config alpha vm.cpus=2 vm.accel= checkpoint.min-gap=5ms
config=$(cat "$HOSTS_DIR/alpha/colod.conf")
has "a configuration has what was set" "$config" "cpus=2"
has "and new sections" "$config" "[checkpoint]
min-gap=5ms"
not_ok "and not what was removed" grep -q accel "$HOSTS_DIR/alpha/colod.conf"
is "every section is there once" "$(grep '^\[' "$HOSTS_DIR/alpha/colod.conf" | sort | uniq -d)" ""
ok "colod accepts it" "$COLO_BUILD/colod" --check-config --offline \
    --config "$HOSTS_DIR/alpha/colod.conf" --role primary
tap_done
