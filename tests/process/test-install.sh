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
    share/doc/colo/docs/PROCEDURES.md lib/systemd/system/colod@.service; do
    ok "$file is there" test -s "$work/usr/$file"
done
for page in "$source"/docs/man/*.[1-8]; do
    [ -e "$page" ] || continue
    name=$(basename "$page")
    ok "$name is in its section" test -s "$work/usr/share/man/man${name##*.}/$name"
done
has "the unit runs the installed colod" "$(cat "$work/usr/lib/systemd/system/colod@.service")" \
    "ExecStart=/usr/sbin/colod --config /usr/etc/colo/%i.conf"
ok "a folder for configurations is there" test -d "$work/usr/etc/colo"
sample=$work/usr/share/doc/colo/examples/web.conf
ok "the sample configuration is right" "$work/usr/sbin/colod" --config "$sample" --check-config --offline

# Each link of a document to another leads to one that is installed.
find "$work/usr/share/doc/colo" -name '*.md' >"$work/documents"
links=0
while read -r document; do
    grep -o ']([^)#]*[)#]' "$document" | sed 's/^](//; s/[)#]$//' >"$work/links"
    while read -r link; do
        case $link in '' | *://*) continue ;; esac
        links=$((links + 1))
        ok "${document#"$work"} links to $link" test -s "$(dirname "$document")/$link"
    done <"$work/links"
done <"$work/documents"
ok "there are links" test $links -ge 10
rm "$work/documents" "$work/links"

is "nothing is outside the prefix" "$(ls "$work")" usr
is "nothing belongs to the build" "$(find "$work" -name '*.[oad]')" ""

# What is the administrator's own stays.
echo mine >"$work/usr/etc/colo/web.conf"
ok "make uninstall" make -s -C "$top" uninstall DESTDIR="$work" prefix=/usr
is "uninstalled: only what was not installed is left" "$(cd "$work" && find . -type f)" ./usr/etc/colo/web.conf
rm "$work/usr/etc/colo/web.conf"
ok "make uninstall again" make -s -C "$top" uninstall DESTDIR="$work" prefix=/usr
is "uninstalled: no folder of ours is left" "$(find "$work" -name colo)" ""

# What make says: a line for each thing that is made; the command alone with V=1.
said() { # ARGUMENT...
    make -n -C "$top" -W config.mk "$@" all 2>/dev/null | grep "colo/colo\.[co]"
}
has "make says what it makes" "$(said)" "echo '  CC	obj/colo/colo.o'"
said V=1 >"$work/said"
not_ok "V=1 shows the command only" grep -q echo "$work/said"
has "V=1 shows the command" "$(said V=1)" "-c -o "
tap_done
