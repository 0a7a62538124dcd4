#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The README's first hour as it is written there, up to the start: its lines are read from the page and run
# on two hosts, which are folders and network namespaces. What differs: paths are those of the test's
# folders. The start and all after it are the procedures' first start: tests/vm/test-procedures.sh.
set -u
# shellcheck source=tests/support/tap.sh
. "$COLO_TESTS/support/tap.sh"

top=$(cd "$COLO_TESTS/.." && pwd)
page=$top/README.md
sample=$top/dist/web.conf
[ "$(id -u)" = 0 ] || tap_skip_all "needs root"
for program in ip unshare mountpoint nbdkit qemu-system-x86_64; do
    command -v $program >/dev/null || tap_skip_all "no $program"
done
unshare -mn true 2>/dev/null || tap_skip_all "needs the right to make namespaces"

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
PATH=$COLO_BUILD:$PATH
export PATH dir

# The code blocks before the start, one line each: HOST COMMAND, or - COMMAND on both.
awk '/^## The first hour/ { hour = 1 }
    /^\*\*6\. / { exit }
    /^```/ { inside = !inside && hour; ini = /ini/; next }
    inside && !ini' "$page" |
    sed 's/^\(alpha\|beta\)# */\1 /; t
        s/^/- /' >"$dir/lines"
awk '/^```ini/ { inside = 1; next }
    /^```/ { inside = 0 }
    inside' "$page" >"$dir/web.conf"
# The sample without its comments.
is "the README's configuration is the sample's" "$(grep . "$dir/web.conf")" \
    "$(grep -v '^#' "$sample" | grep .)"
ok "the hour has commands" test "$(wc -l <"$dir/lines")" -ge 6

# Plays one host; what it says is TAP's comment.
cat >"$dir/host" <<'HOST'
set -u
host=$1 number=$2
here=$dir/$host
cd "$here"
# The storage of a third host, and a card to the clients.
mount --bind "$dir/shared" "$here/arbiter"
ip link set lo up
ip addr add "10.99.0.$number/32" dev lo
ip link add eth1 type veth peer name lan1
while read -r whose line; do
    case $whose in - | "$host") ;; *) continue ;; esac
    case $line in
    "./configure "*) continue ;; # tests/process/test-install.sh does that
    esac
    echo "# $host: $line"
    sh -c "$(echo "$line" | sed "s|/etc/colo|$here/etc|g; s|/var/lib/colo|$here/state|g; s|/mnt/arbiter|$here/arbiter|g")" \
        2>&1 </dev/null || { echo "# it has failed: $line" && exit 1; }
done <"$dir/lines"
HOST

mkdir "$dir/shared"
for host in alpha beta; do
    number=1 other=2
    [ $host = alpha ] || number=2 other=1
    mkdir -p "$dir/$host/etc" "$dir/$host/arbiter" "$dir/$host/state"
    truncate -s 10G "$dir/$host/guest.img"
    sed "s|^name = alpha|name = $host|; s|^listen = .*|listen = 10.99.0.$number:9000|
        s|^peer = .*|peer = 10.99.0.$other:9000|; s|/var/lib/colo|$dir/$host/state|
        s|/mnt/arbiter|$dir/$host/arbiter|
        /^\[arbiter\]/i [disks]\nstate-dir = $dir/$host/state/web\n" \
        "$dir/web.conf" >"$dir/$host/etc/web.conf"
    unshare -mn sh "$dir/host" $host $number >"$dir/$host/said" 2>&1
    is "$host: each command does what it should" $? 0
    diag "$(cat "$dir/$host/said")"
    has "$host: it has all that a start needs" "$(cat "$dir/$host/said")" \
        "the configuration is right, and this host has what it needs"
done
ok "the images are of one size" test "$(stat -c %s "$dir/alpha/state/images/web.img")" = \
    "$(stat -c %s "$dir/beta/state/images/web.img")"

# Storage that isn't mounted: nothing is made at the mount point.
arbiter_line=$(sed -n 's/^[a-z-]* \(.*colo arbiter init.*\)/\1/p' "$dir/lines" |
    sed "s|/mnt/arbiter|$dir/alpha/arbiter|g")
not_ok "without the storage, no arbiter is made" sh -c "$arbiter_line"
is "nor a folder on the bare mount point" "$(ls "$dir/alpha/arbiter")" ""

# What the page says that one can do is there to be done.
sed -n 's/^| `\(colo [a-z]*\).*/\1/p' "$page" >"$dir/commands"
ok "there are commands" test "$(wc -l <"$dir/commands")" -ge 5
while read -r command; do
    # shellcheck disable=SC2086 # two words
    ok "$command is a command" $command --help
done <"$dir/commands"
tap_done
