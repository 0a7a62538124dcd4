#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# colod --check-config looks at the host for all that a start needs, and tells everything that is
# wrong at once; --offline looks at the file only.
set -u
# shellcheck source=tests/support/tap.sh
. "$COLO_TESTS/support/tap.sh"

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/arbiter" "$dir/bare" "$dir/state"
"$COLO_BUILD/colo" arbiter init "$dir/arbiter" >/dev/null
truncate -s 1M "$dir/root.img"
printf 'QFI\373\000\000\000\003' | dd of="$dir/root.img" conv=notrunc status=none
truncate -s 1M "$dir/data.img"
# A QEMU and an nbdkit that are there: they say their version and do nothing else.
program() { # NAME WORDS
    printf '#!/bin/sh\necho "%s"\n' "$2" >"$dir/$1"
    chmod +x "$dir/$1"
}
program qemu 'QEMU emulator version 7.2.22 (Debian)'
program nbdkit 'nbdkit 1.32.5'

# config [SED-SCRIPT]: a good configuration, changed
config() {
    cat >"$dir/good.conf" <<CONF
[node]
name=alpha
role=auto
listen=127.0.0.1:9000
peer=127.0.0.2:9000
control-socket=$dir/alpha.sock
[vm]
name=web
uuid=6f1c3c2e-3f5e-4a8a-9c3e-0a6b7d1f2e01
memory=64MiB
kernel=$dir/qemu
accel=tcg
qemu=$dir/qemu
extra=-device virtio-rng-pci
[disk root]
path=$dir/root.img
format=qcow2
[disk data]
path=$dir/data.img
[disks]
nbdkit=$dir/nbdkit
state-dir=$dir/state/web
[arbiter]
type=file
path=$dir/arbiter
CONF
    sed "${1:-}" "$dir/good.conf" >"$dir/colod.conf"
}

# check [OPTION]...: colod --check-config; its words in $out and $err, its exit status in $code
check() {
    code=0
    timeout 60 "$COLO_BUILD/colod" --config "$dir/colod.conf" --check-config "$@" >"$dir/out" \
        2>"$dir/err" || code=$?
    out=$(cat "$dir/out")
    err=$(cat "$dir/err")
}

config
check
is "a good one: exit 0" "$code $err" "0 "
has "a good one: it says so" "$out" "the configuration is right, and this host has what it needs"

# finds WHAT SED-SCRIPT PART...: a problem of the host, which --offline doesn't look for
finds() {
    what=$1
    config "$2"
    shift 2
    check
    is "$what: exit 2" $code 2
    is "$what: the only problem" "$(echo "$err" | wc -l)" 1
    for part; do
        has "$what: it says '$part'" "$err" "$part"
    done
    check --offline
    is "$what: --offline doesn't look" "$code $err" "0 "
}
finds "no image" "s|/root.img|/rout.img|" "disk root" "$dir/rout.img" "No such file"
finds "an image that is a folder" "s|/root.img|/state|" "neither a file nor a block device"
finds "qcow2 called raw" 's/^format=qcow2/format=raw/' "disk root" "would be destroyed" "format = qcow2" \
    "convert -f raw"
truncate -s 1M "$dir/plain.img"
finds "raw called qcow2" "s|/root.img|/plain.img|" "disk root" "no qcow2 image" "format = raw"
finds "no kernel to boot" "s|^kernel=.*|kernel=$dir/none|" "boot files" "$dir/none"
finds "no QEMU" "s|^qemu=.*|qemu=$dir/none|" "QEMU" "$dir/none" "qemu-system-x86" "'qemu'"
program old 'QEMU emulator version 5.2.0'
finds "an old QEMU" "s|^qemu=.*|qemu=$dir/old|" "5.2.0 is too old"
finds "no nbdkit" "s|^nbdkit=.*|nbdkit=$dir/none|" "$dir/none" "the package nbdkit" "'nbdkit'"
finds "no state folder" "s|^state-dir=.*|state-dir=$dir/qemu/x|" "$dir/qemu" "no folder"
finds "no arbiter" "s|^path=.*/arbiter|path=$dir/none|" "arbiter" "$dir/none"
finds "a bare mount point" "s|^path=.*/arbiter|path=$dir/bare|" "arbiter" "$dir/bare" "colo arbiter init"
finds "an address of another host" "s/^listen=.*/listen=192.0.2.77:9000/" "192.0.2.77" \
    "no address of this host"
printf '[nic lan]\nmac=52:54:00:12:34:56\nbridge=nobridge\n' >"$dir/nic"
true >"$dir/plain"
finds "a file where the socket should be" "s|^listen=.*|listen=unix:$dir/plain|" "unix:$dir/plain" "no socket"
finds "no folder for the socket" "s|^listen=.*|listen=unix:$dir/none/deep/link|" "unix:$dir/none/deep/link" \
    "no socket can be made there"
finds "no bridge" "\$r $dir/nic" "nic lan" "'nobridge'" "ip link add"

# One of them may be the way to a proxy.
config "s|^listen=.*|listen=unix:$dir/link|; s/^peer=.*/peer=tcp:[::1]:9000/"
check
is "a unix socket: exit 0" "$code $err" "0 "

# What the file alone tells is found offline, too.
config 's/^listen=.*/listen=[::1]:9000/; s/^extra=.*/extra=-device VGA -vga std/'
check --offline
is "families, VGA: exit 2" $code 2
has "families: it says so" "$err" "listen is an IPv6 address"
has "VGA: it says so, and the way out" "$err" "'-device VGA' can't be protected: remove the display"
for device in qxl-vga,id=v cirrus-vga driver=ramfb nvme vfio-pci,host=1; do
    config "s/^extra=.*/extra=-device $device/"
    check --offline
    is "$device: exit 2" $code 2
    has "$device: named" "$err" "$device"
done

# ---- The file itself ----
whole() { # WHAT FILE PART
    code=0
    err=$(timeout 60 "$COLO_BUILD/colod" --config "$2" --check-config 2>&1) || code=$?
    is "$1: exit 2" $code 2
    has "$1: why" "$err" "$3"
}
whole "a file without an end" /dev/zero "/dev/zero: more than 65536 bytes"
{
    printf '\357\273\277'
    cat "$dir/good.conf"
} >"$dir/mark.conf"
whole "a byte order mark" "$dir/mark.conf" "mark.conf:1: begins with a byte order mark: save it as UTF-8"
printf '\377\376[\000n\000' >"$dir/wide.conf"
whole "UTF-16" "$dir/wide.conf" "byte order mark (of UTF-16)"
code=0
err=$("$COLO_BUILD/colod" --config "$dir/good.conf" --offline 2>&1) || code=$?
is "--offline alone" "$code $err" "2 colod: --offline belongs to --check-config"

# ---- A takeover that can't be exact is noted ----
config
check
if echo "$out" | grep -q 'wrong bytes'; then
    tap_skip "a right that takeovers want" "it isn't here at all"
elif [ "$(cat /proc/sys/vm/unprivileged_userfaultfd 2>/dev/null)" != 0 ] || ! command -v setpriv >/dev/null; then
    tap_skip "a right that takeovers want" "it can't be taken away here"
else
    out=$(setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace \
        timeout 60 "$COLO_BUILD/colod" --config "$dir/colod.conf" --check-config 2>&1)
    is "a right that takeovers want: no problem" $? 0
    has "a right that takeovers want: it is noted" "$out" \
        "note: Linux: a takeover may leave wrong bytes in the guest's RAM"
    has "a right that takeovers want: which" "$out" "it needs CAP_SYS_PTRACE"
fi

# ---- Storage that hangs: each look at it ends, and is named ----
# hangs WHAT PATH PART...: one problem, in time; the others are looked at all the same
hangs() {
    what=$1
    mkfifo "$dir/ready"
    "$COLO_BUILD/tests/tools/hang-opens" "$2" >"$dir/ready" 2>"$dir/err" &
    holder=$!
    read -r word <"$dir/ready" || word=
    rm "$dir/ready"
    shift 2
    if [ "$word" != hangs ]; then
        tap_skip "$what" "$(cat "$dir/err")"
        return
    fi
    config
    code=0
    # Whoever reads what it says isn't kept waiting by what it has left behind.
    err=$(timeout 60 "$COLO_BUILD/colod" --config "$dir/colod.conf" --check-config 2>&1) || code=$?
    is "$what: exit 2" $code 2
    is "$what: the only problem" "$(echo "$err" | grep -c '^colod:')" 1
    for part; do
        has "$what: it says '$part'" "$err" "$part"
    done
    kill $holder
    wait $holder 2>/dev/null
}
hangs "an image that hangs" "$dir/root.img" "disks: disk root: image $dir/root.img: no answer"
hangs "an arbiter that hangs" "$dir/arbiter" "arbiter: $dir/arbiter: no answer within"
hangs "a QEMU on storage that hangs" "$dir/qemu" "QEMU: '$dir/qemu --version'"
tap_done
