#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A guest with Debian's qemu-guest-agent, whose clock is put wrong: it is right again after a takeover,
# and while the guest stands again and again it falls behind no further than it should. The primary dies
# while the agent is in the middle of an answer; the agent is absent, stopped and started; a program of
# the guest floods its port.
# shellcheck disable=SC2317 # functions are called by need() and ok()
set -u
# shellcheck source=tests/support/pair.sh
. "$COLO_TESTS/support/pair.sh"
# shellcheck source=tests/support/disks.sh
. "$COLO_TESTS/support/disks.sh"

root=$COLO_BUILD/guest/root.ext4
[ -e "$root" ] || tap_skip_all "no root file system for the test guest (make guest)"
far_ms=3600000 near_ms=5000 # wrong, and right

runs() { # COMMAND: of the guest's shell
    hosts_guest "run $1" >/dev/null
}

guest_has() { # PROGRAM: that runs
    case $(hosts_guest "run busybox pidof $1") in
    [0-9]*) return 0 ;;
    *) return 1 ;;
    esac
}

agent_starts() {
    runs '/sbin/qemu-ga -d -t /tmp -f /tmp/agent.pid -p /dev/vport*p1' && guest_has qemu-ga
}

agent_ends() {
    runs 'busybox killall qemu-ga' && ! guest_has qemu-ga
}

# The guest's clock is behind by so much at least, and at most, in ms: behind_from, behind_to.
look_at_clock() {
    asked=$(date +%s%N)
    guest=$(hosts_guest clock) || return 1
    behind_from=$(((asked - guest) / 1000000))
    behind_to=$((($(date +%s%N) - guest) / 1000000))
}

is_right() {
    look_at_clock && [ "$behind_from" -lt "$near_ms" ] && [ "$behind_to" -gt "-$near_ms" ]
}

# Far behind; of both copies of the guest, for it is told over the network.
put_wrong() {
    runs "busybox date -s @$(($(date +%s) - far_ms / 1000))"
    not_ok "$1: the guest's clock is wrong" is_right
}

has_corrected() {
    [ "$(hosts_status "$primary" blocktime.corrections)" -ge 1 ]
}

clock_is_put_right() { # WHAT
    need "$1: the guest's clock is right again" is_right
    diag "$1: it is behind by $behind_from to $behind_to ms"
    need "$1: colod knows that it has set it" has_corrected
}

time_step() { # VALUE
    ok "time-step is $1" hosts_colo "$primary" set time-step "$1"
}

kill_primary() { # WHAT
    mark
    hosts_kill "$primary"
    pair_swap
    need "$1: $primary takes over" is_alone "$primary"
}

was_paused_for() { # MS: since the VM is on this host
    [ "$(hosts_status "$primary" blocktime.total-ms)" -ge "$1" ]
}

is_behind_by_less_than() { # MS
    look_at_clock && [ "$behind_to" -lt "$1" ]
}

has_taken() { # CHECKPOINTS
    [ "$(hosts_status "$primary" checkpoints.total)" -ge "$1" ]
}

# The agent answers when hwclock has ended: this one lasts for as long as there is a file hold.
change_hwclock() {
    for line in '#!/bin/sh' \
        'while [ -e /tmp/hold ]; do busybox touch /tmp/held; busybox sleep 0.1; done'; do
        runs "echo '$line' >>/tmp/hwclock"
    done
    runs 'busybox chmod 755 /tmp/hwclock && busybox mv /tmp/hwclock /sbin/hwclock'
}

in_the_middle() {
    hosts_guest 'run busybox ls /tmp/held' | grep -q '^/tmp/held$'
}

GUEST_ARGS="root=vda"
# shellcheck disable=SC2119 # the options are set below, for each host
pair_setup
for host in alpha beta; do
    truncate -s 64M "$(image_of $host root)"
    hosts_config $host log.log-level=debug checkpoint.checkpoint-period=50ms vm.guest-agent=yes \
        vm.time-step=60s "disk root.path=$(image_of $host root)" \
        "disks.state-dir=$HOSTS_DIR/$host/disks"
done
cp "$root" "$(image_of alpha root)"
pair_boot
need "the agent starts" agent_starts

for mode in colo buffered; do
    pair_join
    ok "mode $mode" hosts_colo "$primary" set mode $mode
    put_wrong "$mode, takeover"
    kill_primary "$mode, takeover"
    clock_is_put_right "$mode, takeover"
done

# What it falls behind by pauses is made up for: else it would be all of it.
pair_join
time_step 100ms
paused=$(hosts_status "$primary" blocktime.total-ms)
need "small steps: the guest stands for 2 s in all" was_paused_for $((paused + 2000))
need "small steps: the clock is behind by less than half of it" is_behind_by_less_than 1000
diag "small steps: it is behind by $behind_from to $behind_to ms; set $(hosts_status "$primary" \
    blocktime.corrections) times"

change_hwclock
for mode in buffered colo; do
    what="$mode, in the middle of an answer"
    ok "mode $mode" hosts_colo "$primary" set mode $mode
    runs 'busybox rm -f /tmp/held; busybox touch /tmp/hold'
    need "$what: it is" in_the_middle
    put_wrong "$what"
    kill_primary "$what"
    not_ok "$what: nobody has set the clock" is_right
    runs 'busybox rm /tmp/hold'
    clock_is_put_right "$what"
    pair_join
done

what="an agent that comes late"
ok "$what: it ends" agent_ends
put_wrong "$what"
kill_primary "$what"
need "$what: that is told" logged "$primary" "the guest's clock can't be set: nobody in the guest"
ok "$what: it starts" agent_starts
clock_is_put_right "$what"

what="a flood"
pair_join
ok "$what: the agent ends" agent_ends
# shellcheck disable=SC2016 # the guest's shell expands it
runs 'busybox ln -s busybox /bin/cat; cat /dev/zero >$(echo /dev/vport*p1) 2>/dev/null &'
ok "$what: it is there" guest_has cat
need "$what: many checkpoints" has_taken $(($(hosts_status "$primary" checkpoints.total) + 400))
ok "$what: the VM is protected" is_pair "$primary" "$secondary"
ok "$what: it goes on until it is ended" guest_has cat
runs 'busybox killall cat'
put_wrong "$what"
ok "$what: the agent starts again" agent_starts
clock_is_put_right "$what"
ok "the guest's memory is what it wrote" guest_verifies
nothing_left
tap_done
