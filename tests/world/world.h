/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A simulated world: two real nodes (colo/node/, colo/arbiter/, the comparator, the gate), on one
 * fake clock, in one thread, by one seed. The same seed gives the same story.
 *
 * What has threads, sockets or a QEMU of its own is replaced at link time, behind the same header:
 *
 *   world-loop.c     GLib's main loop and threads; the world advances the clock
 *   world-link.c     colo/link/: pairing, and heartbeats by reckoning; world-pipe.c: what is under way
 *                    between two ends, with delay, cuts of one way, and ends
 *   world-engine.c   checkpoint/: capture and apply as scheduled steps; world-guard.c: the load guard
 *   world-vm.c       QEMU and the guest: a machine that logs what its clients ask
 *   world-disk.c     block/: the disk server; world-disk-guest.c: what its guest does;
 *                    world-disk-stream.c: the stream between two; world-medium.c: what an image
 *                    and its files hold
 *   world-storage.c  storage that fails, and what a node must do then
 *   world-throttle.c writes that wait for the next epoch
 *   world-net.c      taps, the switch between hosts and clients, carrier
 *   world-host.c     colod: starts, ends and kills a node; the control socket; fault points
 *   world-client.c   clients, and the one history that they may see
 *   world-faults.c   what goes wrong
 *   world-stop.c     administrators who stop the guest and continue it
 *   world-power.c    guests that reboot, panic and power off by themselves
 *   world-liar.c     a peer that sends what is not true
 *   world-seeds.c    many stories in processes of their own, and what they have met
 *   world-case.c     a test case in a world of its own, without any chance faults
 *   waits.c          the table of all waits of a node (waits.h), whose rows are in waits-*.c
 *
 * tests/sim/test-world.c has how a story goes, and what must be true when all is well again. Real,
 * and not replaced: all of colo/node/, colo/arbiter/ with its files (in memory), the comparator,
 * the rewriter, the gate, the activation flag, generations, vm.c. RAM is 32 words, so that a lost
 * page is seen at the next load of device state. A disk is 8 numbers, each of which names its
 * writer.
 */
#ifndef COLO_TESTS_WORLD_H
#define COLO_TESTS_WORLD_H

#include <setjmp.h>

#include "block/server.h"
#include "colo/arbiter/arbiter.h"
#include "colo/control/control.h"
#include "colo/link/link.h"
#include "colo/node/node.h"
#include "netcompare/netcompare.h"
#include "vm/vm_internal.h"

#define WORLD_HOSTS  2
#define WORLD_PAGES  32u
#define WORLD_BLOCKS 8u

/* ---- History: what the guest has done. Equal histories are one and the same object. ---- */

typedef struct History History;
struct History {
    const History *parent; /* NULL: a guest that was just powered on */
    guint64 position;      /* how many requests it has seen */
    guint32 client, request;
    guint64 local; /* what only this copy of the guest knew: its own time, say */
    guint64 id;
    guint64 block[WORLD_BLOCKS]; /* its disk: each has the id of what wrote it last */
};

/* A guest that is powered on, with this on its disk. */
const History *history_boot(const guint64 *block);
const History *history_next(const History *parent, guint32 client, guint32 request, guint64 local);
const History *history_find(guint64 id);
gboolean history_is_within(const History *earlier, const History *later);

/* ---- The guest and its QEMU ---- */

typedef struct WorldHost WorldHost;

/* Some blocks. */
typedef struct {
    guint32 named; /* a bit for each */
    guint64 block[WORLD_BLOCKS];
} Changes;

static inline void changes_add(Changes *changes, guint block, guint64 value)
{
    changes->named |= 1u << block;
    changes->block[block] = value;
}

typedef struct {
    Vm vm;
    WorldHost *host;
    int fd; /* of its card: no real one */
    const History *history;
    guint32 ram[WORLD_PAGES];
    guint32 dirty;           /* a bit for each page */
    struct Capture *capture; /* of its pages; or NULL */
    gboolean loaded;         /* and not run since: RAM must be that of the state */
    guint64 digest;          /* then */
    GQueue *input;           /* of GBytes*: frames that the guest has not handled */
    gint64 given_us;         /* the last of them was */
    guint in_ram;            /* of them, when it was paused */
    guint stale;             /* of them: given to a copy that was loaded since */
    GQueue *output;          /* of GBytes*: frames that nobody has read */
    struct Port *port;       /* or NULL */
    guint refuse[8];         /* by VmOp: so many of the next ones fail */
    gboolean die_in[8];      /* by VmOp: QEMU dies in the next one */
    gboolean booted;         /* its guest, from power on */
    gboolean stopped_itself; /* and it has not run since */
    guint64 private_bytes;   /* QEMU's own memory: each load may leave some behind */
    gboolean off;            /* it has powered off: it can't run until it is loaded */
    gboolean left;  /* what it has is of a time when its node was a primary: it must not run */
    gpointer work;  /* the operation under way */
    gboolean stuck; /* it has not answered in time, and is not asked again */
    gint64 turn_us; /* a write waits for the next epoch, at most until then; 0: none does */
    gboolean others_wait; /* besides the one that it has stopped at */
    Changes kept;         /* of a qcow2 image: QEMU has it in memory, until a flush */
    GSource *source, *guest, *reader;
} SimVm;

/* As `takes_us`: it doesn't answer. After qemu-timeout, and disk-timeout with disks, it counts as hung. */
#define WORLD_FOREVER G_MAXINT64

Vm *sim_vm_new(const VmDescription *description, const VmHandler *handler, WorldHost *host);
SimVm *sim_vm_of(const VmRam *ram);
guint64 sim_vm_digest(const SimVm *vm);
void sim_vm_write(SimVm *vm, guint page, guint32 value);
/* QEMU answers what it has not answered for WORLD_FOREVER. */
void sim_vm_answer(SimVm *vm);
/* QEMU dies. */
void sim_vm_die(SimVm *vm);
/* Its node, which was a primary, becomes the other's secondary: it is of no use until it is loaded. */
void sim_vm_is_left(SimVm *vm);
/* What its guest has sent is read soon. */
void sim_vm_output(SimVm *vm);
/* Its guest stops by itself, in the middle of what it does: to be reported next. */
void sim_vm_stops(SimVm *vm);
void sim_vm_input(SimVm *vm, const guint8 *data, gsize len);
/* QEMU has read what it was given. */
gboolean sim_vm_is_read(const SimVm *vm);
/* Writes of its guest that have waited may pass. */
void sim_vm_let_through(SimVm *vm);
/* A page of the VM has become dirty. */
void world_capture_written(struct Capture *capture);
/* Its output goes to whoever reads its card. */
void world_port_read(SimVm *vm);

/* ---- Hosts ---- */

/* A checkpoint that was taken, and how far the guest was. */
#define WORLD_TAKEN 64u
typedef struct {
    guint64 epoch, position;
} WorldTaken;

struct WorldHost {
    guint index;
    const char *name;
    GMainContext *context; /* of the process that runs; a new one each time */
    GArray *sources;       /* of that context */
    gint64 due_us;         /* nothing of it is due before; 0: unknown */
    sigjmp_buf death;      /* where a process that dies in the middle of something ends */
    gboolean lives, ended; /* colod does; has reported its end */
    gboolean told_to_end;  /* by an administrator, or a signal */
    guint insistence;      /* likewise: a signal counts for one, a command for two */
    guint unanswered;      /* commands, */
    gint64 asked_us;       /* since then */
    gboolean failed;
    guint starts;
    gint64 frozen_until_us; /* paused until then; 0: isn't */
    gboolean carrier;       /* of its uplink */
    gboolean out_of_bridge; /* its tap is in none */
    Node *node;
    Config *config;
    char *dir, *arbiter_path;
    Link *link;
    struct Medium *medium; /* what its disks hold, and keep */
    DiskServer *disk_server;
    gint64 disk_hangs_until_us;    /* its storage */
    gint64 storage_fails_until_us; /* of the disks; G_MAXINT64: until it is mended */
    int storage_errno;
    gint64 syncs_fail_until_us; /* fdatasync does, of the disks */
    int syncs_errno;
    gboolean syncs_fail_once;
    guint disk_starts;             /* of its disk server */
    gboolean unsynced_told;        /* since its disk server runs, the node has reported that */
    guint tries;                   /* of what storage can refuse to a node */
    char *switchover;              /* the status of its last one */
    char *trouble;                 /* the node's last error since its VM ran */
    gboolean discards;             /* its disks at the next start: --discard-this-side */
    gboolean split;                /* its disks are of a VM that may run beside the other host's */
    gboolean denied;               /* the VM, by the arbiter's last word */
    WorldTaken taken[WORLD_TAKEN]; /* by epoch */
    guint64 proven; /* how far the guest was, of which its peer has reported that it has it */
    gint64 qemu_slow_until_us; /* its QEMU answers late */
    gboolean notes_hang;       /* its own storage does, in what its node notes there */
    gint64 takes_us[8];        /* by VmOp: what its QEMU takes for it; 0: that is by chance */
    const char *disk_holds; /* an order that its disk server doesn't end, or "start"; NULL: none */
    SimVm *vm;
    Uplink *uplink;
    CarrierWatch *carriers;
    const ControlCommand *commands;
    gpointer command_data;
    json_object *status;      /* the last answer of the control socket */
    char *refusal;            /* the last error of it */
    guint reign;              /* since it runs the VM for clients: later ones have higher numbers */
    guint fault_in;           /* it dies at the n-th fault point from now on; 0: doesn't */
    gint64 restart_us;        /* is to be started then; 0: no */
    guint state;              /* its node's, that was seen last */
    guint64 states;           /* a bit for each that was seen: a test clears them */
    gint64 gone_us;           /* its VM was, or its process */
    gboolean ran_in_takeover; /* the VM, in the one that is under way or was last */
    gboolean ended_unheard;   /* it was ended in that, or lost its VM, before that has run */
    gboolean died_unrun;      /* likewise, with a copy that nobody can have heard */
    gboolean died_in_doubt; /* its last process, while it was open who continues, or just decided */
    gboolean guest_stopped; /* its node has accepted `stop`, and no `cont` since */
    gboolean cut_short;     /* a checkpoint was, on its way to it, as its last session ended */
    gboolean was_left;      /* its VM has moved, and it becomes the other's secondary */
    gboolean copy_stopped;  /* the last checkpoint that it has is of a guest that is stopped */
    gint64 storage_hangs_until_us;
    gboolean
        storage_is_another; /* then: what waits for it waits on, though it is at the same path */
    gint64 storage_bad_until_us; /* it may not have been able to ask */
};

/* The report of a failed check of the world; the seed is printed. */
G_NORETURN void world_fail(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* A line of the story, if it is to be printed (WORLD_TRACE). */
void world_tell(const char *format, ...) G_GNUC_PRINTF(1, 2);

typedef struct {
    guint64 seed, random;
    gint64 now_us;
    gboolean traces;
    char *dir;
    WorldHost host[WORLD_HOSTS];
    WorldHost outside; /* clients, and what isn't a host; its context always runs */
    WorldHost *current;

    /* The network between the hosts: [from]. */
    gboolean cut[WORLD_HOSTS];
    guint delay_us;    /* one way */
    int port_of_guest; /* where the switch has learnt the guest to be; -1: nowhere */

    guint arbiter_hangs_per_mille; /* of questions: they may be answered late */
    gboolean guests_are_calm;      /* they neither reboot nor panic nor power off */
    gboolean is_case;              /* nothing happens by world_chance() */
    guint diverges_per_mille;      /* of requests: each copy of the guest answers them otherwise */
    gint64 calm_us;                /* between two questions of a client */
    gboolean ended_on_purpose;     /* the VM, since it was booted */
    gboolean lost;                 /* the only host that had it has died */
    const WorldHost *sole;         /* who runs the VM, unprotected; NULL: two hosts have it */
    guint64 period_ms;
    guint reigns, takeovers, boots;
    const char *mode, *arbiter;
    const char *disks;  /* the format of the VM's disk; NULL: it has none */
    guint dirty_limit;  /* in pages; 0: none */
    guint epoch_writes; /* so many an epoch may have; 0: any number */
    guint held_message; /* messages of this type don't arrive until world_link_let(); 0: all do */
    WorldHost *liar;    /* whose node may lie; NULL: none does */
    gboolean lies;      /* it does now */
    gboolean lied;      /* and not all is well since */
    gboolean awaits_start; /* what an administrator has begun: a host is to start for it */
    gboolean split;        /* an administrator has let both hosts' VMs continue */
    gboolean left;         /* and it has reported that the other one may continue */
    gint64 page_us;        /* of a page, in a first synchronisation; 0: all of that is by chance */
    const char *on_error;  /* what an I/O error of it does to the guest */
    gboolean knows_room;   /* the guest's card tells what it has room for (vhost-user) */
    gsize output_limit;    /* 0: what the option says */

    GHashTable *sometimes; /* name -> count */
} World;

extern World world;

/* ---- world-loop.c ---- */

void world_clock_init(void);
/* A process begins: nothing of the one before runs any more. */
void world_loop_init(WorldHost *host);
guint64 world_random(guint64 below);
gboolean world_chance(guint per_mille);
/* Between the two. */
gint64 world_between(gint64 least, gint64 most);
/* Calls `func` on a host (NULL: outside) after a time; the source is the caller's to destroy. */
GSource *world_after(WorldHost *host, gint64 us, GSourceFunc func, gpointer data);
/* The same, and nobody keeps it. */
void world_later(WorldHost *host, gint64 us, GSourceFunc func, gpointer data);
void world_source_clear(GSource **source);
void world_run_until(gint64 us);
WorldHost *world_enter(WorldHost *host); /* the one before */
/* Code of a host: `func` doesn't return if the host dies in it. */
void world_call(WorldHost *host, void (*func)(gpointer data), gpointer data);
gboolean world_is_awake(const WorldHost *host);

/* ---- world-host.c ---- */

/* An empty world; its story's constants are by the seed. */
void world_init(guint64 seed);
void world_end(void);
void world_start(WorldHost *host, const char *role);
/*
 * The process dies. `power`: the whole host, and nobody is told. Does not return on the host
 * itself.
 */
void world_die(WorldHost *host, gboolean power);
/* It is paused for so long. */
void world_freeze(WorldHost *host, gint64 us);
/* From here on this host runs the VM for the clients, and the other one doesn't any more. */
void world_begin_reign(WorldHost *host);
/* Runs a command of the control socket; FALSE: refused. */
gboolean world_command(WorldHost *host, const char *name, json_object *arguments);
json_object *world_status(WorldHost *host);
void world_sometimes(const char *what);
void world_print_sometimes(void);

/* ---- world-handed.c ---- */

/* Its node was made. */
void world_handed_begins(WorldHost *host);
/* SIGTERM. */
void world_handed_terminate(WorldHost *host);
/* A node has moved from `before` by `event`: what a hand-over means there, and what fails then. */
void world_handed_moved(WorldHost *host, guint before, const char *event);
/* It silences its card, with so many frames in the tap that nobody has read. */
void world_handed_closes(const WorldHost *host, guint unread);
/* An administrator is to have a frozen VM continue: fails if it should by itself. */
void world_handed_needs_person(const WorldHost *host);

/* ---- world-link.c ---- */

/* Something about the hosts or the way between them has changed. */
void world_link_look(void);
/* A process has died; `silently`: its peer isn't told. */
void world_link_death(WorldHost *host, gboolean silently);
/* An engine on this host has ended its connection. */
void world_link_engine_ends(WorldHost *host);
/* What was held arrives, and nothing is held any more. */
void world_link_let(void);
/* All connections end, as by a reset. */
void world_link_reset(void);
/* The stream of checkpoints, or of the disks: that of the session's end with this descriptor. */
typedef struct Stream Stream;
Stream *world_stream(int fd);
typedef void (*StreamFunc)(gpointer item, gpointer user_data); /* item NULL: it has ended */
void world_stream_listen(Stream *stream, StreamFunc func, gpointer user_data);
/* FALSE: it has ended. `item` is freed by `destroy` if it never arrives. */
gboolean world_stream_send(Stream *stream, gpointer item, GDestroyNotify destroy, gint64 us);
gboolean world_stream_is_up(const Stream *stream);
/* Something is on its way to this end. */
gboolean world_stream_is_under_way(const Stream *stream);
/* Nothing is read any more, and the other end finds it ended. */
void world_stream_close(Stream *stream);

/* ---- world-disk.c ---- */

void world_disk_init(WorldHost *host);
/* The process of the host's disks dies with the node's, or the whole host does. */
void world_disk_death(WorldHost *host, gboolean power);
/* It ends what it was not to end (WorldHost.disk_holds). */
void world_disk_let(WorldHost *host);
/* Its disk server dies; colod lives. */
void world_disk_kill(WorldHost *host);
/* A VM can be started from what is here. */
gboolean world_disk_may_boot(const WorldHost *host);
/* Its disks have all that the other host's have, though the VM may have run there. */
gboolean world_disk_is_in_step(const WorldHost *host);
/* Of the guest. FALSE: not now, it waits. */
gboolean world_disk_takes_io(const WorldHost *host);
/* The guest is over, and what it wrote last is here: a copy that still runs is of no use. */
gboolean world_disk_is_final(const WorldHost *host);
/* It is there, and its process lives. */
gboolean world_disk_serves(const WorldHost *host);
guint64 world_disk_read(const WorldHost *host, guint block);
void world_disk_write(WorldHost *host, guint block, guint64 value);
/*
 * QEMU writes what it keeps of a qcow2 image in its memory: in a flush, a pause, a save and a
 * release. 0, or the errno by which it can't: it keeps it then.
 */
int world_disk_write_kept(WorldHost *host);
/* Something that QEMU was to write was refused. */
void world_disk_refuses(WorldHost *host);
/* 0, or an errno: what was written may not be durable. */
int world_disk_flush(WorldHost *host);
/* An fdatasync of its disk server has failed, by this errno; 0: none has. */
int world_disk_sync_error(const WorldHost *host);
/*
 * QEMU gives its disks up, which writes to them. FALSE: it can't, and says so. QEMU 10 does not say so:
 * then nobody may take the disks for given up. And QEMU has them again.
 */
gboolean world_disk_release(WorldHost *host);
void world_disk_takes_back(WorldHost *host);
/* The block needn't be what the guest wrote: a failed fdatasync has lost that, and it is known. */
gboolean world_disk_may_differ(const WorldHost *host, guint block);
/* A guest boots: it takes what is there. */
void world_disk_is_read_anew(WorldHost *host);

/* ---- world-storage.c ---- */

/* The arbiter's storage hangs on a host until then. */
void world_storage_hang(WorldHost *host, gint64 until_us);
typedef enum {
    STORAGE_IN_PLACE,   /* a state file, say */
    STORAGE_NEEDS_ROOM, /* data */
} StorageUse;

/* Writes fail by this error for so long, G_MAXINT64: until somebody mends it. */
void world_storage_fail(WorldHost *host, int error, gint64 us);
/* All storage. TRUE: some would never have been well by itself. */
gboolean world_storage_mend(void);
/* fdatasync fails, for so long; 0: once. What it should have made durable may be lost then. */
void world_storage_fail_syncs(WorldHost *host, int error, gint64 us);
/* Of an fdatasync now; 0: none. */
int world_storage_sync_error(WorldHost *host);
/* The same of a state file: nothing is lost, whoever tries again writes all of it. */
int world_storage_state_error(WorldHost *host);
/* What the guest wrote may be lost: fails later if nobody is told. */
void world_storage_unsynced(WorldHost *host);
/* Of a write now; 0: none. */
int world_storage_error(const WorldHost *host, StorageUse use);
/* The node tries again what storage can refuse to it. */
void world_storage_tried(WorldHost *host);
/* It was refused: fails later if that is not reported, or it is not tried again. */
void world_storage_refused(WorldHost *host, const char *what);
/*
 * A node has entered FSM_FAILED: fails if it has given up the only copy of the VM for no good
 * reason.
 */
/* Of a VM that is handed over, or runs elsewhere: the disks were given up before. */
void world_storage_check_disks(const WorldHost *host);
void world_storage_check_given_up(const WorldHost *host, guint before);

/* ---- world-throttle.c ---- */

/* The guest is about to write. FALSE: it waits, until sim_vm_let_through() or its turn. */
gboolean world_disk_admits(SimVm *vm);
/* QEMU is drained now (0), or is to look again in a while. */
gint64 world_disk_drains_us(const SimVm *vm);
/* QEMU has stopped the guest: it may have other writes under way. */
void world_disk_stops(SimVm *vm);

/* ---- world-power.c ---- */

typedef enum {
    WORLD_GUEST_WORKS,
    WORLD_GUEST_BOOTS, /* again: what it was about to handle is lost */
    WORLD_GUEST_STOPS, /* QEMU has stopped it, and that is reported: the VM may be gone */
} WorldGuest;

/* What a guest does instead of the next thing that it is asked for. */
WorldGuest world_power_next(SimVm *vm);

/* ---- world-net.c ---- */

/* From a client, at the switch. */
void world_net_to_guest(const guint8 *data, gsize len);
void world_net_look(void);

/* Whose output is taken from its guest only if `takes` says so. */
void world_port_set_takes(struct Port *port, gboolean (*takes)(gsize len, gpointer user_data));

/* ---- world-card.c ---- */

/* A host mirrors a frame to its peer. */
void world_card_mirrored(const WorldHost *host, guint64 epoch, const guint8 *data, gsize len);
/* At the end of each turn. */
void world_card_check(const WorldHost *host);

/* ---- world-client.c ---- */

void world_clients_start(void);
/* They ask often for a moment. */
void world_clients_hurry(void);
/* At the switch, for clients. */
void world_client_frame(WorldHost *host, const guint8 *data, gsize len);
/* What the guest does with a request: its answer; NULL: that is no request. */
GBytes *world_guest_answer(SimVm *vm, const guint8 *data, gsize len);
/* By itself, which is part of its history: nobody has asked for it. */
void world_guest_acts(SimVm *vm);
/* When a client was answered last, and how often clients were. */
gint64 world_client_reached_us(void);
guint64 world_client_answers(void);
/* What clients have received does not count any more. */
void world_client_forget(void);
/*
 * From here on there may be two VMs: nothing is promised of what clients are told, but what they
 * were told before to be on disk is on both. Until one of them is the VM again.
 */
void world_client_split(void);
void world_client_unite(const WorldHost *host);
/* The last host's that clients received. */
guint world_client_reached_reign(void);
/* Fails if there is not all that clients were told to be on disk. */
void world_client_check_disk(const WorldHost *host, const guint64 *block, const char *what);
/* It has the VM, in this state of its node, and the VM could continue. */
gboolean world_holds_the_vm(const WorldHost *host, guint state);
/* The VM boots anew on a host: fails if the other one holds a copy. */
void world_client_cold_boot(WorldHost *host);

/* ---- world-stop.c ---- */

/* Commands, to a host that may refuse them. */
void world_stop_guest(WorldHost *host);
void world_continue_guest(WorldHost *host);
/* Wherever the VM is, and its guest is stopped. */
void world_continue_the_stopped(void);
/* The host has another VM, or its own is the other side's; its secondary has a checkpoint. */
void world_stop_new_vm(WorldHost *host);
void world_stop_received(WorldHost *host, GBytes *attachment);
/* QEMU is told to run its VM; it is about to take over, from this state. */
void world_stop_check_run(const WorldHost *host);
void world_stop_check_takeover(const WorldHost *host, guint before);

/* ---- world-liar.c ---- */

/* The liar begins to lie, for a while. */
void world_lie(void);
/* TRUE: a message is not to be sent as it is. */
gboolean world_liar_sends(const Link *link, guint type, const void *payload, gsize len);
/* All is well: from now on nobody has lied. */
void world_truth(void);
/* None of its commands has waited for an answer for too long. */
void world_check_answers(const WorldHost *host);
/* Of the state that a node has just entered, by which event. */
void world_check_state(WorldHost *host, guint before, const char *event);
void world_note_checkpoint(WorldHost *host, guint64 epoch, guint64 position);
void world_note_received(WorldHost *host, GBytes *bytes);
/* An answer of its guest is about to leave. */
void world_check_output(const WorldHost *host, guint64 position);

/* ---- world-faults.c ---- */

/* Hosts that are dead are started again by then, and the ways are whole. */
#define WORLD_HEAL_US (20 * G_USEC_PER_SEC)

gboolean world_has_arbiter(void);
/* Orders of an administrator, to a host that takes some. `where`: 0 as configured, 1 a detour, 2 in
 * vain. */
void world_pause_link(WorldHost *host);
void world_recover_link(WorldHost *host, guint where);
/* The host's way to the arbiter's storage is away for a while. */
void world_unmount(WorldHost *host);
/* QEMU has stopped its guest. Of a copy, the primary is perhaps not told: the link is lost. */
void world_guest_stalls(const WorldHost *host);
/* One fault, by chance. */
void world_something_happens(void);

/* ---- world-seeds.c ---- */

typedef void (*WorldStory)(guint64 seed, gint64 hours);
/*
 * Runs the stories that the environment names, each in a process of its own. Fails if one of the
 * `rare` states (a list that NULL ends) is not met in many hours, if these have few takeovers, or if a
 * seed is told in two ways. Returns main()'s value.
 */
int world_tell_stories(WorldStory tell_story, const char *const *rare);

/* ---- world-case.c ---- */

/* Runs `body` in a process of its own, in a world by `seed` with both hosts off. Fails as it does. */
void world_case(guint64 seed, const char *mode, void (*body)(gconstpointer data),
                gconstpointer data);
/* Time passes in steps of a millisecond until `holds`. Fails, by `what`, if it takes `most_us`. */
void world_await(gboolean (*holds)(void), const char *what, gint64 most_us);
/* Alpha is the primary, beta its secondary, and they are protected. */
void world_start_pair(void);
gboolean world_is_protected(void);
/* The host's way to the arbiter's storage is there, or away. */
void world_mount(const WorldHost *host, gboolean there);

#endif
