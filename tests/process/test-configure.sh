#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# configure: names the package that is missing, builds out of tree, knows its options.
set -u
# shellcheck source=tests/support/tap.sh
. "$COLO_TESTS/support/tap.sh"
source=$(cd "$(dirname "$COLO_TESTS")" && pwd)
unset MAKEFLAGS MAKELEVEL MFLAGS
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/build" "$work/tree"

run() { # ARGUMENT...: configure in the folder build
    output=$(cd "$work/build" && "$source/configure" "$@" 2>&1)
    status=$?
}

# What make sees.
variable() {
    (cd "$work/build" && printf 'include config.mk\nprint: ; @echo "%s"\n' "\$($1)" |
        make -s -f - print)
}

run --help
is "--help succeeds" "$status" 0
for option in --prefix --enable-sanitizers --enable-werror --libdir --mandir; do
    has "--help tells of $option" "$output" "$option"
done
not_ok "--help writes nothing" test -e "$work/build/config.mk"

run --enable-nonsense
is "an unknown option fails" "$status" 1
has "an unknown option is named" "$output" "--enable-nonsense"
run CC=no-such-compiler
is "a compiler that isn't there fails" "$status" 1
has "a compiler that isn't there: which package" "$output" "Debian package gcc"

# A pkg-config to which one module is unknown.
cat >"$work/bin/pkg-config" <<'FAKE'
#!/bin/sh
for module; do
    [ "$module" != "$MISSING" ] || exit 1
done
case $1 in --modversion) echo 1.0 ;; esac
FAKE
chmod +x "$work/bin/pkg-config"
while read -r module package; do
    MISSING=$module PKG_CONFIG=$work/bin/pkg-config
    export MISSING PKG_CONFIG
    run
    is "without $module it fails" "$status" 1
    has "without $module it names $package" "$output" "missing: $module; install the Debian packages $package "
done <<EOF2
$(sed -n 's/^\([a-z0-9.-]*\) \(lib[a-z0-9.-]*-dev\)$/\1 \2/p' "$source/configure")
EOF2
PKG_CONFIG=$work/bin/none run
is "without pkg-config it fails" "$status" 1
has "without pkg-config it says which package" "$output" "Debian package pkg-config"
unset MISSING PKG_CONFIG
not_ok "a failed configure leaves no config.mk" test -e "$work/build/config.mk"

run --prefix=/opt/colo --libdir=/opt/lib64 --enable-werror --enable-sanitizers CFLAGS=-O1
is "out of tree it succeeds" "$status" 0
is "--prefix is kept" "$(variable prefix)" /opt/colo
is "a folder follows the prefix" "$(variable bindir)" /opt/colo/bin
is "--libdir is kept" "$(variable libdir)" /opt/lib64
is "CFLAGS are kept" "$(variable CFLAGS)" -O1
has "--enable-werror" "$(variable WARNINGS)" -Werror
has "--enable-sanitizers" "$(variable SANITIZE)" -fsanitize=address,undefined
library=$(cd "$work/build" && pwd -P)/obj/common/libcommon.a
ok "make builds in the build folder" make -s -C "$work/build" SANITIZE= "$library"
ok "the objects are in the build folder" test -e "$library"
run
is "the default has no sanitizers" "$(variable SANITIZE)" ""
is "the default has the usual prefix" "$(variable prefix)" /usr/local

# In the source folder: a copy with nothing but what configure and make read.
cp -r "$source/configure" "$source/Makefile" "$source/VERSION" "$source/common" "$work/tree"
ok "in tree it succeeds" sh -c "cd '$work/tree' && ./configure"
ok "in tree make builds in build/" sh -c "cd '$work/tree' && make -s build/obj/common/libcommon.a"
ok "in tree the objects are in build/" test -e "$work/tree/build/obj/common/libcommon.a"
tap_done
