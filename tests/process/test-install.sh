#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# make install puts the files where configure was told, under DESTDIR, and they run from there.
set -u
# shellcheck source=tests/support/tap.sh
. "$COLO_TESTS/support/tap.sh"
source=$(cd "$(dirname "$COLO_TESTS")" && pwd)
unset MAKEFLAGS MAKELEVEL MFLAGS
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ -x "$COLO_BUILD/colod" ] || tap_skip_all "colod is not built"
# Where make was run: the build folder out of tree, the source folder in tree.
top=$source
[ ! -e "$COLO_BUILD/config.mk" ] || top=$COLO_BUILD

ok "make install" make -s -C "$top" install DESTDIR="$work" prefix=/usr
for file in sbin/colod bin/colo; do
    ok "$file is there and runs" "$work/usr/$file" --version
    is "$file: mode" "$(stat -c %a "$work/usr/$file")" 755
done
for file in lib/colo/colo-uffd.so lib/colo/colo-disk.so share/doc/colo/README.md share/doc/colo/LICENSE \
    lib/systemd/system/colod@.service; do
    ok "$file is there" test -s "$work/usr/$file"
done
for page in "$source"/docs/man/*.[1-8]; do
    [ -e "$page" ] || continue
    name=$(basename "$page")
    ok "$name is in its section" test -s "$work/usr/share/man/man${name##*.}/$name"
done
has "the unit runs the installed colod" "$(cat "$work/usr/lib/systemd/system/colod@.service")" \
    "ExecStart=/usr/sbin/colod --config /usr/etc/colo/%i.conf"
is "nothing is outside the prefix" "$(ls "$work")" usr
is "nothing belongs to the build" "$(find "$work" -name '*.[oad]')" ""
tap_done
