# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every folder of C sources is a static library; the programs, tests, fuzzers and benchmarks link all
# of them. A new source file is picked up by being there. Objects go to $(O)/obj.

.DEFAULT_GOAL := all
-include config.mk
srcdir ?= .
O ?= build
S := $(srcdir)

# A fresh machine: install what is missing and configure with the defaults.
config.mk: $(S)/configure
	@if test -e config.mk; then echo "configure has changed: run it again"; touch config.mk; \
	else $(S)/scripts/install-deps --if-missing && $(S)/configure $(CONFIGURE_FLAGS); fi

ROOMS := $(addprefix colo/,config control link arbiter node cli)
LIBS := common vm checkpoint netcompare block $(ROOMS) colo
# Sources with a main(), or for a shared object: in no library.
PROGRAM_SRCS := colo/colod.c colo/colo.c colo/colo-compare.c
PRELOAD_SRC := vm/preload.c
PLUGIN_SRC := block/plugin.c

lib_srcs = $(filter-out $(PROGRAM_SRCS) $(PRELOAD_SRC) $(PLUGIN_SRC),$(patsubst $(S)/%,%,$(wildcard $(S)/$(1)/*.c)))
lib_objs = $(patsubst %.c,$(O)/obj/%.o,$(call lib_srcs,$(1)))
LIB_FILES := $(foreach lib,$(LIBS) tests/support,$(O)/obj/$(lib)/lib$(notdir $(lib)).a)
PRODUCT_LIBS := $(filter-out $(O)/obj/tests/%,$(LIB_FILES))

PROGRAMS := $(patsubst $(S)/colo/%.c,$(O)/%,$(wildcard $(addprefix $(S)/,$(PROGRAM_SRCS))))
PRELOAD := $(patsubst $(S)/vm/preload.c,$(O)/colo-uffd.so,$(wildcard $(S)/$(PRELOAD_SRC)))

PLUGIN := $(O)/colo-disk.so

progs_in = $(patsubst $(S)/%.c,$(O)/%,$(wildcard $(S)/tests/$(1)/*.c))
TEST_PROGRAMS := $(foreach kind,unit sim process vm,$(call progs_in,$(kind)))
FUZZERS := $(call progs_in,fuzz)
BENCHES := $(call progs_in,bench)
TOOLS := $(call progs_in,tools)
LATER := $(O)/colod-later

VERSION := $(shell cat $(S)/VERSION)
pkglibdir = $(libdir)/colo
docdir ?= $(datarootdir)/doc/colo
systemdunitdir ?= $(prefix)/lib/systemd/system
BASE_CFLAGS = -std=gnu11 -D_GNU_SOURCE -DG_LOG_DOMAIN=\"colo\" -I$(S) -I$(O) -pthread \
    -DCOLO_VERSION=\"$(VERSION)\" -DCOLO_PKGLIBDIR=\"$(pkglibdir)\"
ALL_CFLAGS = $(BASE_CFLAGS) $(PKG_CFLAGS) $(CFLAGS) $(WARNINGS) $(SANITIZE)
ALL_LIBS = -Wl,--start-group $(1) -Wl,--end-group $(PKG_LIBS) -lpthread

all: $(PROGRAMS) $(PRELOAD) $(PLUGIN) $(TOOLS) $(LATER)

# What is made is said in a word; V=1 shows the command lines, -s nothing.
V ?= 0
ifneq ($(V),0)
say =
else ifneq ($(findstring s,$(firstword -$(MAKEFLAGS))),)
say = @
else
say = @echo '  $(1)$(patsubst $(O)/%,	%,$(filter $(O)/%,$@))';
endif

$(O)/obj/%.o: $(S)/%.c config.mk
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

define library
$(O)/obj/$(1)/lib$(notdir $(1)).a: $(call lib_objs,$(1)) $(S)/$(1)
	@mkdir -p $$(@D)
	@rm -f $$@
	$$(call say,AR)$(AR) rcs $$@ $$(filter %.o,$$^)
endef
$(foreach lib,$(LIBS) tests/support,$(eval $(call library,$(lib))))

$(PROGRAMS): $(O)/%: $(O)/obj/colo/%.o $(PRODUCT_LIBS)
	$(call say,LD)$(CC) $(CFLAGS) $(SANITIZE) $(LDFLAGS) -o $@ $< $(call ALL_LIBS,$(PRODUCT_LIBS))

# Position-independent, so from the sources and not from the libraries; without the service's end of it.
$(PLUGIN): $(filter-out $(S)/block/server.c,$(wildcard $(S)/block/*.[ch] $(S)/common/*.[ch])) config.mk
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(BASE_CFLAGS) $(PKG_CFLAGS) $(CFLAGS) $(WARNINGS) -fPIC -fvisibility=hidden -shared \
	    -o $@ $(filter %.c,$^) $(PKG_LIBS) -lpthread

$(O)/colo-uffd.so: $(S)/$(PRELOAD_SRC) config.mk
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(BASE_CFLAGS) $(CFLAGS) $(WARNINGS) -fPIC -shared -o $@ $<

# A colod that names a later version in its hello: another build of the same protocol, for tests.
$(O)/obj/later/link.o: $(S)/colo/link/link.c config.mk
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(filter-out -DCOLO_VERSION=%,$(ALL_CFLAGS)) -DCOLO_VERSION=\"99.0\" -MMD -MP -c -o $@ $<

$(LATER): $(O)/obj/colo/colod.o $(O)/obj/later/link.o $(PRODUCT_LIBS)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(CFLAGS) $(SANITIZE) $(LDFLAGS) -o $@ $(filter %.o,$^) $(call ALL_LIBS,$(PRODUCT_LIBS))

# The simulated world stands in for rooms and engines: its objects come before the libraries.
WORLD_OBJS := $(patsubst $(S)/%.c,$(O)/obj/%.o,$(wildcard $(S)/tests/world/*.c))
WORLD_TESTS := $(filter $(O)/tests/sim/test-world%,$(TEST_PROGRAMS))
$(WORLD_TESTS): $(WORLD_OBJS)
$(WORLD_TESTS): INSTEAD = $(WORLD_OBJS)

MODEL_OBJS := $(patsubst $(S)/%.c,$(O)/obj/%.o,$(wildcard $(S)/tests/model/*.c))
$(O)/tests/sim/test-failover-model: $(MODEL_OBJS)
$(O)/tests/sim/test-failover-model: INSTEAD = $(MODEL_OBJS)

$(TEST_PROGRAMS) $(BENCHES) $(TOOLS): $(O)/%: $(O)/obj/%.o $(LIB_FILES)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(CFLAGS) $(SANITIZE) $(LDFLAGS) -o $@ $< $(INSTEAD) $(call ALL_LIBS,$(LIB_FILES))

-include $(shell find $(O) -name '*.d' -type f 2>/dev/null)

deps:
	$(S)/scripts/install-deps

# Tests mostly wait: more than a core's worth runs at once, but of VM tests no more than two (run-test).
UNIT_JOBS ?= 2
TEST_JOBS ?= 4
MUTANT_JOBS ?= 4

check-unit: $(filter $(O)/tests/unit/% $(O)/tests/sim/%,$(TEST_PROGRAMS))
	$(S)/tests/run --jobs $(UNIT_JOBS) $(O) unit sim

# Everything there is to test; what is missing is installed or fetched first. Without the other QEMU
# (no network, say) the VM tests run on the installed one only.
check: all $(TEST_PROGRAMS)
	$(S)/scripts/install-deps --if-missing
	$(MAKE) guest guest-full
	-$(MAKE) qemu-10
	$(S)/tests/run --jobs $(TEST_JOBS) $(O) unit sim process vm

# The same with the tests that tests/deep names, and after a look whether the tests find bugs that are put
# in: before an important change is said to be done.
check-deep:
	$(S)/tests/mutants/run --jobs $(MUTANT_JOBS) $(S) $(O)/mutants
	SIM_SEEDS=3000 DEEP=yes $(MAKE) check

# Guests under KVM. Where there is none a host that has it is emulated: slow, but the same code (tests/kvm/run).
check-kvm: all $(TEST_PROGRAMS) $(TOOLS)
	$(S)/scripts/install-deps --if-missing
	$(MAKE) guest qemu-10
	$(S)/tests/kvm/run $(O) $(KVM_JOBS)
	KVM_KERNEL=debian $(S)/tests/kvm/run $(O) exactness:pc/1cpu

# A VM that survives the death of its host, shown: DEMO_KILLS=N, DEMO_DEATH=power.
demo: all
	$(S)/scripts/install-deps --if-missing
	$(MAKE) guest
	@$(S)/tests/demo $(O)

# Measures, and writes $(O)/bench.json: BENCH='name...' makes a part of it.
bench: all $(BENCHES)
	$(S)/scripts/install-deps --if-missing
	$(MAKE) guest
	$(S)/tests/bench/run $(O)

# The test guest: with Debian's cloud kernel, and with the full one, for devices the first can't drive.
# The root file system is for both.
guest:
	$(S)/scripts/build-guest $(O)/guest
	$(S)/scripts/build-guest-root $(O)/guest

guest-full:
	$(S)/scripts/build-guest --kernel linux-image-amd64 $(O)/guest-full

# Debian's backported QEMU, unpacked: QEMU=$(O)/qemu-10/qemu-system-x86_64
qemu-10:
	$(S)/scripts/fetch-qemu $(O)/qemu-10

# Fuzzers: clang's libFuzzer with the sanitizers, compiled in a folder of their own. FUZZ='name...'
# runs some, FUZZ_SECONDS each.
FUZZ_SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
fuzz:
	$(MAKE) O=$(O)/fuzz CC=clang CFLAGS='-O1 -g' WARNINGS=-Wall \
	    SANITIZE='$(FUZZ_SANITIZE) -fsanitize=fuzzer-no-link' fuzzers
	$(S)/tests/fuzz/run $(S)/tests/fuzz $(O)/fuzz

fuzzers: $(FUZZERS)

$(FUZZERS): $(O)/%: $(O)/obj/%.o $(LIB_FILES)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(CFLAGS) $(SANITIZE) -fsanitize=fuzzer $(LDFLAGS) -o $@ $< $(call ALL_LIBS,$(LIB_FILES))

# The documents keep their places to each other, so that their links work.
PAGES = $(wildcard $(S)/docs/man/*.[1-8])
SECTIONS = $(sort $(patsubst .%,%,$(suffix $(PAGES))))
install: all
	@install -d $(DESTDIR)$(sbindir) $(DESTDIR)$(bindir) $(DESTDIR)$(pkglibdir) $(DESTDIR)$(docdir)/docs \
	    $(DESTDIR)$(docdir)/examples $(DESTDIR)$(systemdunitdir) $(DESTDIR)$(sysconfdir)/colo \
	    $(SECTIONS:%=$(DESTDIR)$(mandir)/man%)
	$(call say,INSTALL colod)install -m 755 $(O)/colod $(DESTDIR)$(sbindir)
	$(call say,INSTALL colo)install -m 755 $(filter-out $(O)/colod,$(PROGRAMS)) $(DESTDIR)$(bindir)
	$(call say,INSTALL libraries)install -m 755 $(PRELOAD) $(PLUGIN) $(DESTDIR)$(pkglibdir)
	$(call say,INSTALL manual pages)for page in $(PAGES); do \
	    install -m 644 $$page $(DESTDIR)$(mandir)/man$${page##*.} || exit 1; done
	$(call say,INSTALL documents)install -m 644 $(addprefix $(S)/,README.md CONTRIBUTING.md LICENSE) \
	    $(DESTDIR)$(docdir)
	@install -m 644 $(wildcard $(S)/docs/*.md) $(DESTDIR)$(docdir)/docs
	$(call say,INSTALL examples/web.conf)install -m 644 $(S)/dist/web.conf $(DESTDIR)$(docdir)/examples
	$(call say,INSTALL colod@.service)sed 's|@sbindir@|$(sbindir)|; s|@sysconfdir@|$(sysconfdir)|' \
	    $(S)/dist/colod@.service.in >$(DESTDIR)$(systemdunitdir)/colod@.service

# What install has put there, and folders that are empty then; no configuration and no state.
uninstall:
	$(call say,UNINSTALL)rm -f $(DESTDIR)$(sbindir)/colod \
	    $(patsubst $(O)/%,$(DESTDIR)$(bindir)/%,$(filter-out $(O)/colod,$(PROGRAMS))) \
	    $(patsubst $(O)/%,$(DESTDIR)$(pkglibdir)/%,$(PRELOAD) $(PLUGIN)) \
	    $(foreach page,$(PAGES),$(DESTDIR)$(mandir)/man$(patsubst .%,%,$(suffix $(page)))/$(notdir $(page))) \
	    $(addprefix $(DESTDIR)$(docdir)/,README.md CONTRIBUTING.md LICENSE examples/web.conf) \
	    $(patsubst $(S)/docs/%,$(DESTDIR)$(docdir)/docs/%,$(wildcard $(S)/docs/*.md)) \
	    $(DESTDIR)$(systemdunitdir)/colod@.service
	@for folder in $(pkglibdir) $(docdir)/docs $(docdir)/examples $(docdir) $(sysconfdir)/colo; do \
	    rmdir $(DESTDIR)$$folder 2>/dev/null || true; done

# Format, clang-tidy, cppcheck and shellcheck, each if it is installed; in CI (CI=true) all must be.
lint: all
	$(S)/scripts/lint $(S) -- $(BASE_CFLAGS) $(PKG_CFLAGS)

format:
	git -C $(S) ls-files '*.c' '*.h' | sed 's|^|$(S)/|' | xargs clang-format -i

clean:
	rm -rf $(O)/obj $(O)/tests $(PROGRAMS) $(PRELOAD) $(PLUGIN) $(O)/bench.json $(O)/fuzz $(O)/guest \
	    $(O)/guest-full $(O)/qemu-10 $(O)/kvm
ifneq ($(O),$(CURDIR))
	rm -rf $(O)
endif

# Keep the objects of programs between builds.
.SECONDARY:

.PHONY: all deps guest guest-full qemu-10 check check-deep check-kvm check-unit demo bench fuzz fuzzers install uninstall lint format \
    clean
