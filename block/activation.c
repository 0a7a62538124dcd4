/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One transition at a time walks the disks: each step looks for the next disk that is not yet as
 * wanted and starts one operation on it. The opposite request replaces the wish at once, and its
 * waiters are called back. It takes effect when the operation in flight has answered. So nobody
 * ever waits for a lock, and two operations never meet on one disk.
 */
#include "block/activation.h"

#include "block/block.h"

typedef struct {
    char *name;
    const BlockDiskOps *ops;
    gpointer data;
    BlockDiskState state;
} Member;

typedef struct {
    BlockActivationDone done;
    gpointer user_data;
} Waiter;

/* An operation in flight; outlives the activation if it has to. */
typedef struct {
    BlockActivation *activation; /* NULL once that is freed */
    Member *disk;
    BlockDiskState target, before;
} Ticket;

struct BlockActivation {
    BlockFlag flag;
    GPtrArray *disks; /* of Member* */
    GArray *waiters;  /* of Waiter: for the transition in progress */
    gboolean busy;    /* a transition is in progress, towards `wanted` */
    BlockFlag wanted;
    Ticket *in_flight;
    gboolean stepping; /* step() is on the stack: a disk has answered at once */
    gboolean running;
    BlockRun run;
    BlockActivationChanged changed; /* or NULL */
    gpointer changed_data;
};

static void disk_free(gpointer data)
{
    Member *disk = data;
    g_free(disk->name);
    g_free(disk);
}

BlockActivation *block_activation_new(gboolean owner)
{
    BlockActivation *a = g_new0(BlockActivation, 1);
    a->flag = owner ? BLOCK_ACTIVE : BLOCK_INACTIVE;
    a->disks = g_ptr_array_new_with_free_func(disk_free);
    a->waiters = g_array_new(FALSE, FALSE, sizeof(Waiter));
    return a;
}

/* Tells everybody in `waiters` (consumed). They may ask for the next transition from there. */
static void tell_waiters(BlockActivation *a, GArray *waiters, const GError *error)
{
    for (guint i = 0; i < waiters->len; i++) {
        Waiter *w = &g_array_index(waiters, Waiter, i);
        if (w->done)
            w->done(a, error, w->user_data);
    }
    g_array_unref(waiters);
}

static GArray *take_waiters(BlockActivation *a)
{
    GArray *waiters = a->waiters;
    a->waiters = g_array_new(FALSE, FALSE, sizeof(Waiter));
    return waiters;
}

void block_activation_free(BlockActivation *a)
{
    if (!a)
        return;
    if (a->in_flight)
        a->in_flight->activation = NULL;
    g_autoptr(GError) error =
        g_error_new(BLOCK_ERROR, BLOCK_ERROR_ABANDONED, "the service gives up its disks");
    tell_waiters(a, take_waiters(a), error);
    g_ptr_array_unref(a->disks);
    g_array_unref(a->waiters);
    g_free(a);
}

void block_activation_add(BlockActivation *a, const char *name, const BlockDiskOps *ops,
                          gpointer data)
{
    g_assert(!a->busy);
    Member *disk = g_new0(Member, 1);
    disk->name = g_strdup(name);
    disk->ops = ops;
    disk->data = data;
    disk->state = a->flag == BLOCK_ACTIVE ? BLOCK_DISK_ACTIVE : BLOCK_DISK_INACTIVE;
    g_ptr_array_add(a->disks, disk);
}

void block_activation_watch(BlockActivation *a, BlockActivationChanged changed, gpointer user_data)
{
    a->changed = changed;
    a->changed_data = user_data;
}

static gboolean all_are_active(const BlockActivation *a)
{
    for (guint i = 0; i < a->disks->len; i++) {
        const Member *disk = a->disks->pdata[i];
        if (disk->state != BLOCK_DISK_ACTIVE)
            return FALSE;
    }
    return TRUE;
}

static void set_flag(BlockActivation *a, BlockFlag flag)
{
    g_assert(flag == BLOCK_INACTIVE || all_are_active(a));
    gboolean is_new = a->flag != flag;
    a->flag = flag;
    if (is_new && a->changed)
        a->changed(a, a->changed_data);
}

static void set_disk(BlockActivation *a, Member *disk, BlockDiskState state)
{
    if (!block_disk_may(disk->state, state))
        g_error("disk %s: %s -> %s", disk->name, block_disk_state_name(disk->state),
                block_disk_state_name(state));
    gboolean is_new = disk->state != state;
    disk->state = state;
    if (is_new && a->changed)
        a->changed(a, a->changed_data);
}

/* The next disk to work on, and what to make of it; NULL if all are as wanted. */
static Member *next_disk(BlockActivation *a, BlockDiskState *ret_target)
{
    BlockDiskState wanted = a->wanted == BLOCK_ACTIVE ? BLOCK_DISK_ACTIVE : BLOCK_DISK_INACTIVE;
    /* Unknown disks first get a known state, by the operation that is safe in every state. */
    for (guint i = 0; i < a->disks->len; i++) {
        Member *disk = a->disks->pdata[i];
        if (disk->state == BLOCK_DISK_UNKNOWN && !disk->ops->runs) {
            *ret_target = BLOCK_DISK_ACTIVE;
            return disk;
        }
    }
    for (guint i = 0; i < a->disks->len; i++) {
        guint index = a->wanted == BLOCK_ACTIVE ? i : a->disks->len - 1 - i;
        Member *disk = a->disks->pdata[index];
        if (disk->state != wanted) {
            *ret_target = wanted;
            return disk;
        }
    }
    return NULL;
}

static void step(BlockActivation *a);

static void finish(BlockActivation *a, const GError *error)
{
    a->busy = FALSE;
    if (!error && a->wanted == BLOCK_ACTIVE) {
        set_flag(a, BLOCK_ACTIVE);
        a->run = BLOCK_RUN_ACTIVE;
    }
    tell_waiters(a, take_waiters(a), error);
}

static void op_done(gpointer data, const GError *op_error)
{
    Ticket *ticket = data;
    BlockActivation *a = ticket->activation;
    if (!a) {
        g_free(ticket);
        return;
    }
    g_assert(a->in_flight == ticket);
    a->in_flight = NULL;
    Member *disk = ticket->disk;
    BlockDiskState target = ticket->target, before = ticket->before;
    g_free(ticket);
    if (!op_error)
        set_disk(a, disk, target);
    else if (g_error_matches(op_error, BLOCK_ERROR, BLOCK_ERROR_INACTIVE))
        set_disk(a, disk, before); /* it was not touched */
    /* A wish that was replaced meanwhile has no use for the error: the new one starts over. */
    gboolean for_this = target == BLOCK_DISK_ACTIVE || a->wanted == BLOCK_INACTIVE;
    if (op_error && for_this) {
        g_autoptr(GError) error =
            g_error_new(BLOCK_ERROR, BLOCK_ERROR_DISK, "disk %s: can't %s it: %s", disk->name,
                        target == BLOCK_DISK_ACTIVE ? "activate" : "inactivate", op_error->message);
        finish(a, error);
        return;
    }
    if (!a->stepping)
        step(a);
}

/* Starts operations until one is in flight or nothing is left to do. */
static void step(BlockActivation *a)
{
    a->stepping = TRUE;
    while (a->busy && !a->in_flight) {
        BlockDiskState target;
        Member *disk = next_disk(a, &target);
        if (!disk)
            break;
        Ticket *ticket = g_new0(Ticket, 1);
        *ticket = (Ticket){.activation = a, .disk = disk, .target = target, .before = disk->state};
        a->in_flight = ticket;
        /* Whatever becomes of it, from now on nobody knows until it has answered. */
        set_disk(a, disk, BLOCK_DISK_UNKNOWN);
        (target == BLOCK_DISK_ACTIVE ? disk->ops->activate
                                     : disk->ops->inactivate)(disk->data, op_done, ticket);
    }
    a->stepping = FALSE;
    if (a->busy && !a->in_flight)
        finish(a, NULL);
}

static void request(BlockActivation *a, BlockFlag wanted, BlockActivationDone done,
                    gpointer user_data)
{
    g_autoptr(GArray) abandoned = NULL;
    if (a->busy && a->wanted != wanted)
        abandoned = take_waiters(a);
    Waiter waiter = {.done = done, .user_data = user_data};
    g_array_append_val(a->waiters, waiter);
    a->wanted = wanted;
    if (!a->busy) {
        a->busy = TRUE;
        if (!a->stepping)
            step(a);
    }
    if (abandoned) {
        g_autoptr(GError) error =
            g_error_new(BLOCK_ERROR, BLOCK_ERROR_ABANDONED, "%s the disks was abandoned",
                        wanted == BLOCK_ACTIVE ? "inactivating" : "activating");
        tell_waiters(a, g_steal_pointer(&abandoned), error);
    }
}

void block_activate(BlockActivation *a, BlockActivationDone done, gpointer user_data)
{
    request(a, BLOCK_ACTIVE, done, user_data);
}

void block_inactivate(BlockActivation *a, BlockActivationDone done, gpointer user_data)
{
    if (a->running && a->run == BLOCK_RUN_ACTIVE) {
        g_autoptr(GError) error =
            g_error_new(BLOCK_ERROR, BLOCK_ERROR_RUNNING,
                        "disks can't be inactivated under a running VM (pause it first)");
        if (done)
            done(a, error, user_data);
        return;
    }
    /* First the flag, then the try: see the header. */
    set_flag(a, BLOCK_INACTIVE);
    request(a, BLOCK_INACTIVE, done, user_data);
}

/* Why the VM may not run on the disks: names the first disk that prevents it. */
static void explain_inactive(const BlockActivation *a, GError **error)
{
    for (guint i = 0; i < a->disks->len; i++) {
        const Member *disk = a->disks->pdata[i];
        if (disk->state != BLOCK_DISK_ACTIVE) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_INACTIVE,
                        "the VM can't run: disk %s is %s (activate the disks first)", disk->name,
                        block_disk_state_name(disk->state));
            return;
        }
    }
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_INACTIVE,
                "the VM can't run: its disks are inactive (activate them first)");
}

gboolean block_activation_resume(BlockActivation *a, BlockRun run, GError **error)
{
    if (a->busy) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_INACTIVE,
                    "the VM can't run: its disks are being %s",
                    a->wanted == BLOCK_ACTIVE ? "activated" : "inactivated");
        return FALSE;
    }
    if (run == BLOCK_RUN_ACTIVE && a->flag != BLOCK_ACTIVE) {
        explain_inactive(a, error);
        return FALSE;
    }
    if (run == BLOCK_RUN_OVERLAY) {
        for (guint i = 0; i < a->disks->len; i++) {
            const Member *disk = a->disks->pdata[i];
            if (a->flag == BLOCK_INACTIVE && disk->state == BLOCK_DISK_INACTIVE)
                continue;
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_INACTIVE,
                        "the VM can't run on an overlay: disk %s is %s", disk->name,
                        block_disk_state_name(disk->state));
            return FALSE;
        }
    }
    a->running = TRUE;
    a->run = run;
    return TRUE;
}

void block_activation_paused(BlockActivation *a)
{
    a->running = FALSE;
}

BlockFlag block_activation_flag(const BlockActivation *a)
{
    return a->flag;
}

gboolean block_activation_is_activating(const BlockActivation *a)
{
    return a->busy && a->wanted == BLOCK_ACTIVE;
}

gboolean block_activation_is_busy(const BlockActivation *a)
{
    return a->busy;
}

guint block_activation_disks(const BlockActivation *a)
{
    return a->disks->len;
}

BlockDiskState block_activation_disk(const BlockActivation *a, guint index, const char **ret_name)
{
    g_assert(index < a->disks->len);
    const Member *disk = a->disks->pdata[index];
    if (ret_name)
        *ret_name = disk->name;
    return disk->state;
}

#define TO(name) (1u << (name))

gboolean block_disk_may(BlockDiskState from, BlockDiskState to)
{
    static const guint may[BLOCK_DISK_STATES] = {
        [BLOCK_DISK_ACTIVE] = TO(BLOCK_DISK_UNKNOWN),
        [BLOCK_DISK_INACTIVE] = TO(BLOCK_DISK_UNKNOWN),
        [BLOCK_DISK_UNKNOWN] = TO(BLOCK_DISK_ACTIVE) | TO(BLOCK_DISK_INACTIVE),
    };
    return from == to || (may[from] & TO(to)) != 0;
}

const char *block_disk_state_name(BlockDiskState state)
{
    static const char *const names[BLOCK_DISK_STATES] = {
        [BLOCK_DISK_ACTIVE] = "active",
        [BLOCK_DISK_INACTIVE] = "inactive",
        [BLOCK_DISK_UNKNOWN] = "unknown",
    };
    return names[state];
}
