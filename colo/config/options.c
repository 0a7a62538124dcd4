/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of options and the search in it; what values look like is in option-value.c. */
#include "colo/config/options.h"

#include <string.h>

#include "colo/config/config.h"
#include "common/guess.h"

#define IN(struct_type, owner_name, member)                                                        \
    .owner = (owner_name), .offset = G_STRUCT_OFFSET(struct_type, member),                         \
    .size = sizeof(((struct_type *)NULL)->member)
#define CONFIG(member) IN(Config, OPTION_OF_CONFIG, member)
#define VM(member)     IN(VmDescription, OPTION_OF_VM, member)
#define NIC(member)    IN(VmNic, OPTION_OF_VM_NIC, member)
#define OUR(member)    IN(ConfigNic, OPTION_OF_CONFIG_NIC, member)
#define DISK(member)   IN(VmDisk, OPTION_OF_VM_DISK, member)

#define MIB    (G_GUINT64_CONSTANT(1) << 20)
#define MIN_MS (60 * G_GUINT64_CONSTANT(1000))

/* Each in the order of its enum (config.h, vm/vm.h, common/log.h). */
static const char *const roles[] = {"", "primary", "secondary", "auto", NULL};
static const char *const sigterms[] = {"hand-over", "end", NULL};
static const char *const accels[] = {"auto", "kvm", "tcg", NULL};
static const char *const modes[] = {"colo", "buffered", "auto", NULL};
static const char *const dirty_methods[] = {"auto", "uffd", "soft-dirty", "compare", NULL};
static const char *const attaches[] = {"auto", "vhost-user", "redirector", NULL};
static const char *const compressions[] = {"auto", "off", "lz4", "zstd", NULL};
static const char *const formats[] = {"raw", "qcow2", NULL};
static const char *const on_errors[] = {"report", "stop", "enospc", NULL};
static const char *const caches[] = {"writeback", "direct", NULL};
static const char *const arbiters[] = {"none", "file", NULL};
static const char *const log_levels[] = {"error", "warning", "info", "debug", NULL};

/* clang-format off */
static const Option table[] = {
    {"node", "name", OPTION_NAME, CONFIG(name), .required = TRUE,
     .help = "This node's name, unique in the pair."},
    {"node", "role", OPTION_CHOICE, CONFIG(role), .choices = roles,
     .help = "What this node starts as. auto: primary, unless the arbiter has the VM on record as the "
             "other node's. May be left out if colod is started with --role, which also overrides the "
             "file."},
    {"node", "listen", OPTION_ADDRESS, CONFIG(listen), .required = TRUE,
     .help = "Where the peer reaches this node. unix:/PATH is for a proxy on this host that leads to the peer's. "
             "fd:NAME is a listening socket that colod was started with, as by a systemd socket unit with FileDescriptorName=NAME."},
    {"node", "peer", OPTION_ADDRESS, CONFIG(peer),
     .help = "Where this node reaches the peer: the peer's listen. All but a primary need it."},
    {"node", "control-socket", OPTION_SOCKET, CONFIG(control_socket),
     .fallback = "/run/colo/NAME.sock",
     .help = "The unix socket for colo(1) and other QMP clients. NAME in the default is that of "
             "the VM."},
    {"node", "realtime", OPTION_YES_NO, CONFIG(realtime), .fallback = "yes",
     .help = "Whether colod and the first thread of its QEMU, which move the guest's frames, run with "
             "real-time priority (the lowest of SCHED_RR). It needs CAP_SYS_NICE, and is left out "
             "without. On a busy host each frame otherwise waits for its turn several times."},
    {"node", "announce-rounds", OPTION_COUNT, CONFIG(announce_rounds), .fallback = "5", .live = TRUE,
     .min = 1, .max = 1000,
     .help = "How many times the guest's addresses are announced to the network after a takeover, or "
             "when a frame shows that the network has learnt another way. The first round is at once. A change "
             "counts from the next first round on."},
    {"node", "announce-initial", OPTION_TIME, CONFIG(announce_initial_ms), .fallback = "50ms", .live = TRUE,
     .min = 1, .max = MIN_MS, .help = "The time until the second round."},
    {"node", "announce-step", OPTION_TIME, CONFIG(announce_step_ms), .fallback = "100ms", .live = TRUE,
     .max = MIN_MS, .help = "Each wait is so much longer than the one before."},
    {"node", "announce-max", OPTION_TIME, CONFIG(announce_max_ms), .fallback = "550ms", .live = TRUE,
     .min = 1, .max = MIN_MS, .help = "No wait is longer than this."},

    {"node", "on-sigterm", OPTION_CHOICE, CONFIG(on_sigterm), .fallback = "hand-over", .live = TRUE,
     .choices = sigterms,
     .help = "What the primary of a protected VM does at SIGTERM or SIGINT, which the shutdown of its "
             "host sends. hand-over: the secondary takes over, then colod ends. If that is refused or "
             "takes more than half a minute, or at a second signal, it ends as after colo quit. But "
             "once the VM is the secondary's to take, it waits until that has taken it or given it "
             "back. end: it ends at once like that, and with it the VM on both hosts."},

    {"vm", "name", OPTION_NAME, VM(name), .required = TRUE,
     .help = "The VM's name, in logs and for people. The same on both hosts, like all of this section "
             "but qemu, accel and serial."},
    {"vm", "uuid", OPTION_TEXT, VM(uuid), .required = TRUE,
     .help = "The VM's identity. uuidgen(1) makes a new one."},
    {"vm", "machine", OPTION_TEXT, VM(machine), .fallback = "pc",
     .help = "QEMU's machine: pc, q35, microvm or a versioned name, with options after a comma."},
    {"vm", "cpu", OPTION_TEXT, VM(cpu),
     .help = "QEMU's CPU model, with features after a comma. Without it QEMU chooses."},
    {"vm", "cpus", OPTION_COUNT, VM(cpus), .fallback = "1", .min = 1, .max = 255,
     .help = "How many virtual CPUs."},
    {"vm", "memory", OPTION_SIZE, VM(memory_bytes), .required = TRUE, .min = MIB,
     .max = MIB << 20, .help = "The guest's RAM, in whole MiB."},
    {"vm", "kernel", OPTION_PATH, VM(kernel), .help = "A kernel to boot directly."},
    {"vm", "initrd", OPTION_PATH, VM(initrd), .help = "Its initial RAM disk."},
    {"vm", "append", OPTION_TEXT, VM(append), .help = "Its command line."},
    {"vm", "extra", OPTION_ARGUMENTS, VM(extra),
     .help = "Further arguments for QEMU, quoted as for a shell (and as in all values, a backslash is "
             "written as two). They come before the VM's disks and network cards."},
    {"vm", "qemu", OPTION_TEXT, VM(qemu), .fallback = "qemu-system-x86_64",
     .help = "This host's QEMU: a path, or a name to be found in PATH."},
    {"vm", "accel", OPTION_CHOICE, VM(accel), .fallback = "auto", .choices = accels,
     .help = "The accelerator; auto is kvm where it is usable, else tcg. What is chosen must be the "
             "same on both hosts."},
    {"vm", "serial", OPTION_TEXT, VM(serial), .fallback = "none",
     .help = "The guest's serial port: none, file:PATH or unix:PATH (a socket that QEMU makes). The file is "
             "begun anew when QEMU starts, also on the secondary's host: it has what the guest has printed "
             "there since. What came before a takeover is in the other host's file."},

    {"vm", "accept-other-qemu", OPTION_YES_NO, VM(other_qemu), .fallback = "no",
     .help = "Whether the hosts' QEMUs may be of different versions. It must be yes on both, and machine "
             "a versioned one that both have (pc-q35-7.2). For the time of an upgrade: the VM can move to "
             "the newer QEMU, and perhaps not back."},
    {"vm", "guest-agent", OPTION_YES_NO, VM(guest_agent), .fallback = "no",
     .help = "Whether the VM has a port for the guest agent (org.qemu.guest_agent.0; extra must have "
             "none). colod uses it to set the guest's clock, and for nothing else. The guest needs "
             "qemu-guest-agent, and both hosts the right time."},

    {"vm", "qemu-timeout", OPTION_TIME, CONFIG(qemu_timeout_ms), .fallback = "3s", .min = 100,
     .max = 10 * MIN_MS,
     .help = "A QEMU that does not answer for this long is lost. It may take as long to load or save "
             "the state of the VM's devices."},

    {"vm", "resume-patience", OPTION_TIME, CONFIG(resume_patience_ms), .live = TRUE,
     .of_pair = TRUE, .fallback = "3s", .max = 60 * MIN_MS,
     .help = "If the primary of a protected VM can't resume it after a checkpoint for this long (its "
             "disks refuse), the secondary takes over. 0ms waits for an administrator. A VM that exists "
             "on one host only is always kept, and the resume is tried again."},
    {"vm", "qemu-growth-limit", OPTION_SIZE, CONFIG(qemu_growth_limit_bytes), .live = TRUE,
     .fallback = "512MiB", .max = MIB << 20,
     .help = "QEMU loses up to 0.8 KB with each checkpoint that a secondary loads. When its own memory "
             "has grown by this much since the VM was protected, the secondary starts a new QEMU and "
             "joins again. The VM runs on, unprotected until it is synchronised. 0B: never. With tcg, "
             "what QEMU translates counts too."},
    {"vm", "time-step", OPTION_TIME, CONFIG(time_step_ms), .live = TRUE, .of_pair = TRUE,
     .fallback = "500ms", .max = 60 * MIN_MS,
     .help = "With guest-agent, colod sets the guest's clock to this host's after a takeover. It also "
             "sets it when the guest's pauses since the last time add up to this, at most once a "
             "second. In colo mode each time takes a checkpoint. 0ms: never."},

    {"nic", "model", OPTION_TEXT, NIC(model), .fallback = "virtio-net-pci",
     .help = "QEMU's device."},
    {"nic", "mac", OPTION_TEXT, NIC(mac), .required = TRUE, .help = "The card's address."},
    {"nic", "attach", OPTION_CHOICE, NIC(attach), .fallback = "auto", .choices = attaches,
     .help = "How the guest's frames get to colod. vhost-user: colod reads and fills the card's rings in "
             "the guest's RAM itself, for virtio-net-pci only; a checkpoint then loses no frame, and QEMU "
             "has none to move. redirector: through QEMU, for every card. auto: redirector, for now. What "
             "is chosen must be the same on both hosts."},
    {"nic", "bridge", OPTION_INTERFACE, OUR(bridge),
     .help = "The bridge of this host that the card is attached to. Without it the tap is made and "
             "left alone."},
    {"nic", "uplink", OPTION_INTERFACE, OUR(uplink),
     .help = "The interface whose carrier tells whether clients can reach the guest by this host. "
             "Default: those ports of the bridge that lead out of the host; one with a carrier is "
             "enough. A host without carrier hands the VM over if the other host has one."},
    {"nic", "ifname", OPTION_INTERFACE, OUR(ifname), .fallback = "colo%d",
     .help = "The name of the tap; the kernel puts the first free number for %d."},
    {"nic", "tap", OPTION_INHERITED, OUR(tap),
     .help = "A tap that colod was started with under this name, as sd_listen_fds(3) has it, instead of one "
             "that colod makes. bridge and ifname can't be given with it: whoever made it puts it into a "
             "bridge, brings it up and removes it. It must be of colod's network namespace and opened with "
             "IFF_VNET_HDR and IFF_NO_PI. Without uplink, the ports of the bridge that it is in count, and "
             "of a macvtap its own carrier. While it is down or gone it has none."},

    {"disk", "path", OPTION_PATH, DISK(path), .required = TRUE,
     .help = "This host's image, a file or a block device, of the same size on both hosts. For qcow2 it "
             "must have room for all that the guest may write, see colod(8)."},
    {"disk", "format", OPTION_CHOICE, DISK(format), .fallback = "raw", .choices = formats,
     .help = "The format of the image."},
    {"disk", "model", OPTION_TEXT, DISK(model), .fallback = "virtio-blk-pci",
     .help = "QEMU's device: virtio-blk-pci, ide-hd, scsi-hd (with a controller in extra)."},
    {"disk", "on-error", OPTION_CHOICE, DISK(on_error), .fallback = "report", .choices = on_errors,
     .help = "What an I/O error does to the guest. report: the guest gets the error. stop: the guest is "
             "stopped until the request succeeds when it is tried again (io-retry, colo cont). enospc: "
             "the guest is stopped for a full file system only."},

    {"disks", "state-dir", OPTION_PATH, CONFIG(state_dir), .fallback = "/var/lib/colo/NAME",
     .help = "The folder for what this node must know after a reboot, also of a VM without disks: which "
             "arbiter is the pair's, and what is known about the disks. The secondary also keeps data "
             "of the disks there, up to twice what the guest writes between two checkpoints. On this "
             "host's own disk, not on tmpfs. NAME in the default is that of the VM."},
    {"disks", "nbdkit", OPTION_TEXT, CONFIG(nbdkit), .fallback = "nbdkit",
     .help = "This host's nbdkit: a path, or a name to be found in PATH."},
    {"disks", "cache", OPTION_CHOICE, CONFIG(disk_cache), .fallback = "writeback",
     .choices = caches,
     .help = "How the images are used: writeback, through the page cache, or direct, past it (O_DIRECT)."},
    {"disks", "sync-rate", OPTION_SIZE, CONFIG(sync_rate_bytes), .live = TRUE, .of_pair = TRUE,
     .fallback = "0B", .max = MIB << 20,
     .help = "How much is read and compared a second while the secondary's disks are synchronised; 0B "
             "sets no limit."},
    {"disks", "stage-memory", OPTION_SIZE, CONFIG(stage_memory_bytes), .fallback = "64MiB",
     .min = MIB, .max = MIB << 16,
     .help = "The secondary keeps what the guest has written since a checkpoint in memory up to this "
             "size for each disk, and the rest in a file."},
    {"disks", "disk-timeout", OPTION_TIME, CONFIG(disk_timeout_ms), .live = TRUE, .of_pair = TRUE,
     .fallback = "30s", .min = 100, .max = 60 * MIN_MS,
     .help = "Disks that take longer for an order are lost. An order is to apply what a checkpoint "
             "brought, or to make all that was written durable at a takeover. A VM that is handed over "
             "is given back if it does not run in this time. QEMU has as long as it is when QEMU is "
             "started, for what needs its disks."},
    {"disks", "io-retry", OPTION_TIME, CONFIG(io_retry_ms), .live = TRUE, .of_pair = TRUE,
     .fallback = "1s", .max = 60 * MIN_MS,
     .help = "A guest that an I/O error has stopped (on-error) is continued after this time, again and "
             "again until the request succeeds; 0ms leaves that to colo cont."},

    {"checkpoint", "mode", OPTION_CHOICE, CONFIG(mode), .live = TRUE, .of_pair = TRUE,
     .fallback = "colo", .choices = modes,
     .help = "colo: the secondary VM runs too, and output is released as soon as both VMs have produced "
             "it. buffered: the secondary VM is paused, and output is held until the next checkpoint is "
             "complete there. auto: colo, but buffered for a while when the VMs differ too often."},
    {"checkpoint", "compare-timeout", OPTION_TIME, CONFIG(compare_timeout_ms), .live = TRUE,
     .of_pair = TRUE, .fallback = "150ms", .min = 1, .max = MIN_MS,
     .help = "In colo mode, output that the secondary VM has not produced for this long asks for a "
             "checkpoint. Bare TCP acknowledgements, which a guest may delay, are given 250ms at least."},
    {"checkpoint", "checkpoint-period", OPTION_TIME, CONFIG(checkpoint_period_ms), .live = TRUE,
     .of_pair = TRUE, .fallback = "1s", .min = 1, .max = 60 * MIN_MS,
     .help = "A checkpoint is taken at least this often. Output does not wait for it: in buffered mode "
             "output asks for a checkpoint itself, in colo mode it needs none. Under TCG, each "
             "checkpoint in colo mode makes QEMU translate the secondary's code anew."},
    {"checkpoint", "min-gap", OPTION_TIME, CONFIG(min_gap_ms), .live = TRUE, .of_pair = TRUE,
     .fallback = "10ms", .max = 60 * MIN_MS,
     .help = "The guest runs at least this long between two checkpoints, whatever asks for one. Not "
             "longer than checkpoint-period."},
    {"checkpoint", "answer-timeout", OPTION_TIME, CONFIG(answer_timeout_ms), .live = TRUE,
     .of_pair = TRUE, .fallback = "2s", .min = 100, .max = 60 * MIN_MS,
     .help = "A secondary is unfit if it answers, but for this long makes no progress with what the "
             "guest's output waits for (its storage or its QEMU hangs). The VM then runs unprotected."},
    {"checkpoint", "dirty-limit", OPTION_COUNT, CONFIG(dirty_limit_pages), .live = TRUE,
     .of_pair = TRUE, .fallback = "16384 pages", .max = G_GUINT64_CONSTANT(1) << 28, .unit = "pages",
     .help = "This many dirty pages of 4 KiB ask for a checkpoint; 0 sets no limit."},
    {"checkpoint", "ram-sync-rate", OPTION_SIZE, CONFIG(ram_sync_bytes_per_s), .live = TRUE,
     .of_pair = TRUE, .fallback = "0B", .max = MIB << 20,
     .help = "The first synchronisation of RAM takes no more of the link than this in each second; 0B sets "
             "no limit. Checkpoints are not bounded. If the guest writes faster than this, the pair is "
             "never protected."},
    {"checkpoint", "dirty-method", OPTION_CHOICE, CONFIG(dirty_method), .fallback = "auto",
     .choices = dirty_methods,
     .help = "How dirty pages are found: userfaultfd (Linux 6.7), soft-dirty bits, or comparison of "
             "all pages; auto is the first of them that works."},
    /* A full gate fits into a checkpoint (checkpoint.h). */
    {"checkpoint", "output-limit", OPTION_SIZE, CONFIG(output_limit_bytes), .fallback = "16MiB",
     .min = MIB, .max = MIB << 7,
     .help = "How much output may be held for a checkpoint. At three quarters of it a checkpoint is "
             "taken at once; output beyond it is dropped, or waits in the guest if its card is "
             "attached by vhost-user."},

    {"switchover", "switchover-timeout", OPTION_TIME, CONFIG(switchover_timeout_ms), .live = TRUE,
     .of_pair = TRUE, .fallback = "30s", .max = 60 * MIN_MS,
     .help = "A switchover for which the VM has not been paused after this long fails, and the VM runs "
             "on. The error names what it waited for. 0ms: no limit."},
    {"switchover", "downtime-limit", OPTION_TIME, CONFIG(downtime_limit_ms), .live = TRUE,
     .of_pair = TRUE, .fallback = "100ms", .max = 60 * MIN_MS,
     .help = "A switchover pauses the VM when what is left to send would pause it for no longer than "
             "this. It goes back if its last checkpoint then takes ten seconds more. 0ms: at once, for "
             "as long as it takes."},
    {"switchover", "pause-before-switchover", OPTION_YES_NO, CONFIG(pause_before_switchover),
     .live = TRUE, .of_pair = TRUE, .fallback = "no",
     .help = "Whether each switchover waits in pre-switchover, with the VM paused, for colo continue."},
    {"switchover", "abort-on-error", OPTION_YES_NO, CONFIG(abort_on_error), .live = TRUE,
     .of_pair = TRUE, .fallback = "yes",
     .help = "Whether a switchover fails if the guest panics, reboots or has an I/O error before it is "
             "paused for it. If the guest powers off, it fails in any case."},

    {"link", "heartbeat-interval", OPTION_TIME, CONFIG(heartbeat_interval_ms), .live = TRUE,
     .fallback = "100ms", .min = 10, .max = MIN_MS,
     .help = "How often the nodes send each other a heartbeat."},
    {"link", "heartbeat-timeout", OPTION_TIME, CONFIG(heartbeat_timeout_ms), .live = TRUE,
     .fallback = "1s", .min = 20, .max = 10 * MIN_MS,
     .help = "A peer from which nothing comes for this long is lost. At least twice heartbeat-interval."},

    {"link", "recover-timeout", OPTION_TIME, CONFIG(recover_timeout_ms), .live = TRUE,
     .fallback = "5s", .min = 10, .max = 10 * MIN_MS,
     .help = "How long an attempt to link may take: its handshake, and all of what 'colo recover' orders."},

    {"link", "compress", OPTION_CHOICE, CONFIG(compress), .live = TRUE, .fallback = "auto",
     .choices = compressions,
     .help = "How the pages of a checkpoint are compressed while this node is the primary. auto: as is "
             "fastest, by what is measured of the link and the CPU; so not at all where the link is faster "
             "than the CPU. lz4 takes little CPU, zstd makes fewer bytes. While pages "
             "are compressed, both nodes keep up to an eighth of the guest's RAM for it, 128 MiB at most. A "
             "peer of an older colo gets them as they are. status tells what is done (bytes)."},

    {"arbiter", "type", OPTION_CHOICE, CONFIG(arbiter), .fallback = "none", .choices = arbiters,
     .help = "Who decides which node continues alone after the link is lost: file (a folder that both "
             "hosts see) or none (an administrator, with colo failover)."},
    {"arbiter", "path", OPTION_PATH, CONFIG(arbiter_path),
     .help = "The folder for type = file: a directory that both hosts see. colo arbiter init makes it "
             "an arbiter's folder, once."},
    {"arbiter", "timeout", OPTION_TIME, CONFIG(arbiter_timeout_ms), .fallback = "5s", .min = 100,
     .max = 10 * MIN_MS,
     .help = "An arbiter that does not answer for this long counts as one that can't be asked, and colo "
             "failover --force no longer waits for it. An answer that comes later still counts."},
    {"arbiter", "check-period", OPTION_TIME, CONFIG(arbiter_check_ms), .fallback = "5s", .min = 50,
     .max = 60 * MIN_MS,
     .help = "How often colod looks whether the arbiter is there. If it isn't, status and an event "
             "report it; nothing else is done, and nothing is written."},

    {"log", "log-level", OPTION_CHOICE, CONFIG(log_level), .live = TRUE, .fallback = "info",
     .choices = log_levels, .help = "The least important lines to log."},
    {.section = NULL}};
/* clang-format on */

const Option *options_table(void)
{
    return table;
}

const Option *options_find(const char *section, const char *name)
{
    for (const Option *o = table; o->section; o++)
        if (!strcmp(o->section, section) && !strcmp(o->name, name))
            return o;
    return NULL;
}

gboolean options_section_is_named(const char *section)
{
    return !strcmp(section, "nic") || !strcmp(section, "disk");
}

/* ---- The nearest name ---- */

const char *options_nearest_section(const char *section)
{
    Guess guess = guess_new(section);
    for (const Option *o = table; o->section; o++)
        guess_consider(&guess, o->section);
    return guess.best;
}

const char *options_nearest_key(const char *section, const char *name)
{
    Guess guess = guess_new(name);
    for (const Option *o = table; o->section; o++)
        if (!strcmp(o->section, section))
            guess_consider(&guess, o->name);
    return guess.best;
}

const char *options_nearest_live(const char *name)
{
    Guess guess = guess_new(name);
    for (const Option *o = table; o->section; o++)
        if (o->live)
            guess_consider(&guess, o->name);
    return guess.best;
}

/* ---- Lists ---- */

/* "a, b and c" */
static char *join_words(const GPtrArray *words)
{
    GString *text = g_string_new(NULL);
    for (guint i = 0; i < words->len; i++) {
        if (i > 0)
            g_string_append(text, i + 1 == words->len ? " and " : ", ");
        g_string_append(text, g_ptr_array_index(words, i));
    }
    return g_string_free(text, FALSE);
}

char *options_list_keys(const char *section)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    for (const Option *o = table; o->section; o++)
        if (section ? !strcmp(o->section, section) : o->live)
            g_ptr_array_add(words, (gpointer)o->name);
    return join_words(words);
}

char *options_list_sections(void)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
    const char *last = "";
    for (const Option *o = table; o->section; o++) {
        if (strcmp(o->section, last))
            g_ptr_array_add(
                words, g_strdup_printf(options_section_is_named(o->section) ? "[%s NAME]" : "[%s]",
                                       o->section));
        last = o->section;
    }
    return join_words(words);
}

char *options_help(gboolean live_only)
{
    GString *text = g_string_new(NULL);
    const char *last = "";
    for (const Option *o = table; o->section; o++) {
        if (live_only && !o->live)
            continue;
        if (!live_only && strcmp(o->section, last))
            g_string_append_printf(
                text, options_section_is_named(o->section) ? "[%s NAME]\n" : "[%s]\n", o->section);
        last = o->section;
        g_autofree char *type = option_type_text(o);
        g_string_append_printf(text, "  %-20s %s%s%s%s\n", o->name, type,
                               o->fallback ? "; default " : "", o->fallback ? o->fallback : "",
                               o->required ? "; required" : "");
    }
    return g_string_free(text, FALSE);
}
