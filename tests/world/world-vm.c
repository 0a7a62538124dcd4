/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU and its guest. The guest is a log: each request that it reads makes its history longer,
 * changes a page of RAM, and is answered. Its device state is its history and a digest of RAM. It
 * can be loaded into RAM of the same moment only. It can run only if RAM still is of that moment,
 * or is again.
 *
 * A load writes to pages, as QEMU's reset does: always the same ones, and rarely one more.
 */
#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "colo/node/node_internal.h"
#include "tests/world/world.h"

#define LOAD_PAGES 2u /* the last ones */

/* ---- History ---- */

static GHashTable *histories; /* id -> History* */

const History *history_find(guint64 id)
{
    return histories ? g_hash_table_lookup(histories, &id) : NULL;
}

static const History *intern(const History *like)
{
    const History *known = history_find(like->id);
    if (known)
        return known;
    if (!histories)
        histories = g_hash_table_new(g_int64_hash, g_int64_equal);
    History *history = g_new(History, 1);
    *history = *like;
    g_hash_table_insert(histories, &history->id, history);
    return history;
}

const History *history_boot(const guint64 *block)
{
    History boot = {.id = XXH3_64bits(block, sizeof(boot.block))};
    memcpy(boot.block, block, sizeof(boot.block));
    return intern(&boot);
}

const History *history_next(const History *parent, guint32 client, guint32 request, guint64 local)
{
    guint64 key[] = {parent->id, client, request, local};
    History next = {.parent = parent,
                    .position = parent->position + 1,
                    .client = client,
                    .request = request,
                    .local = local,
                    .id = XXH3_64bits(key, sizeof(key))};
    memcpy(next.block, parent->block, sizeof(next.block));
    next.block[next.position % WORLD_BLOCKS] = next.id;
    return intern(&next);
}

gboolean history_is_within(const History *earlier, const History *later)
{
    while (later && later->position > earlier->position)
        later = later->parent;
    return later == earlier;
}

/* ---- RAM ---- */

SimVm *sim_vm_of(const VmRam *ram)
{
    return (SimVm *)((char *)ram - G_STRUCT_OFFSET(SimVm, vm.ram));
}

guint64 sim_vm_digest(const SimVm *vm)
{
    return XXH3_64bits(vm->ram, sizeof(vm->ram));
}

void sim_vm_write(SimVm *vm, guint page, guint32 value)
{
    vm->ram[page] = value;
    gboolean was_dirty = vm->dirty >> page & 1;
    vm->dirty |= 1u << page;
    if (vm->capture && !was_dirty)
        world_capture_written(vm->capture);
}

/* ---- Operations ---- */

/* How long a slow QEMU takes for an order, at most. */
#define SLOW_US (G_GINT64_CONSTANT(4500) * 1000)

typedef struct {
    guint64 history, digest;
} SimState;

static SimVm *sim(Vm *vm)
{
    return (SimVm *)vm;
}

/* QEMU needs so long to read a frame, at most. */
#define READ_US 2000

gboolean sim_vm_is_read(const SimVm *vm)
{
    if (!vm->vm.running) /* it reads no more than it had */
        return vm->in_ram >= g_queue_get_length(vm->input);
    return g_queue_is_empty(vm->input) || world.now_us - vm->given_us >= READ_US;
}

static guint read_by_qemu(const SimVm *vm)
{
    return world.now_us - vm->given_us >= READ_US ? g_queue_get_length(vm->input) : 0;
}

/*
 * It stops. What QEMU has read by then and the guest has not handled is in RAM, where the next load ends it. QEMU
 * keeps what it reads later, until the VM runs: a `stop` of a VM that stands does nothing.
 */
static void stand(SimVm *vm)
{
    if (vm->vm.running)
        vm->in_ram = read_by_qemu(vm);
    vm->vm.running = FALSE;
}

typedef struct {
    SimVm *vm;
    VmOp op;
    GBytes *state;
} Work;

static void run_guest(SimVm *vm);

static void load(SimVm *vm, GBytes *bytes, GError **error)
{
    const SimState *state = g_bytes_get_data(bytes, NULL);
    if (state->digest != sim_vm_digest(vm) && !world.lied) {
        world_fail("%s: device state is loaded into RAM of another moment", vm->host->name);
        g_set_error_literal(error, VM_ERROR, VM_ERROR_DEVICE_STATE, "RAM of another moment");
        return;
    }
    vm->history = history_find(state->history);
    if (world_chance(3)) /* it leaves some behind: of many loads, together */
        vm->private_bytes += (guint64)world_between(100, 400) << 20;
    for (; vm->in_ram > 0 && !g_queue_is_empty(vm->input); vm->in_ram--)
        g_bytes_unref(g_queue_pop_head(vm->input));
    vm->stale = g_queue_get_length(vm->input);
    if (vm->stale && vm->stopped_itself) {
        /* Nothing could wait for QEMU to read it (docs/ARCHITECTURE.md). */
        world_sometimes("a guest is loaded that gets what one that stopped had not read");
        vm->stale = 0;
    }
    vm->digest = sim_vm_digest(vm);
    vm->loaded = vm->booted = TRUE;
    vm->left = FALSE;
    vm->kept = (Changes){0};
    vm->off = FALSE;
    if (world.knows_room) /* what it has left in its ring was there */
        while (!g_queue_is_empty(vm->output))
            g_bytes_unref(g_queue_pop_head(vm->output));
    for (guint i = 1; i <= LOAD_PAGES; i++)
        sim_vm_write(vm, WORLD_PAGES - i, (guint32)world_random(G_MAXUINT32));
    if (world_chance(5))
        sim_vm_write(vm, WORLD_PAGES - LOAD_PAGES - 1 - (guint)world_random(4),
                     (guint32)world_random(G_MAXUINT32));
}

static void check_disk(const SimVm *vm)
{
    if (!world.disks || world_disk_is_final(vm->host))
        return;
    for (guint i = 0; i < WORLD_BLOCKS; i++)
        if (world_disk_read(vm->host, i) != vm->history->block[i] &&
            !world_disk_may_differ(vm->host, i))
            world_fail("%s: the VM runs, and block %u of its disk isn't that of its RAM",
                       vm->host->name, i);
}

/* The guest's first instruction. */
static void boot_if_new(SimVm *vm)
{
    if (vm->booted)
        return;
    vm->booted = TRUE;
    if (world.disks) {
        guint64 block[WORLD_BLOCKS];
        for (guint i = 0; i < WORLD_BLOCKS; i++)
            block[i] = world_disk_read(vm->host, i);
        vm->history = history_boot(block);
        world_disk_is_read_anew(vm->host);
        world_client_check_disk(vm->host, block, "is booted from");
    }
    world_client_cold_boot(vm->host);
    world_begin_reign(vm->host);
}

static void resume(SimVm *vm)
{
    if (vm->left)
        world_fail("%s: the VM runs, and it is the one that has moved", vm->host->name);
    if (vm->loaded && vm->digest != sim_vm_digest(vm))
        world_fail("%s: the VM runs, and RAM isn't that of its device state", vm->host->name);
    world_disk_takes_back(vm->host);
    boot_if_new(vm);
    check_disk(vm);
    g_clear_pointer(&vm->host->trouble, g_free);
    vm->loaded = vm->stopped_itself = FALSE;
    vm->host->ran_in_takeover = TRUE;
    vm->vm.running = TRUE; /* it handles what waits from now on */
    run_guest(vm);
}

/* `cont` opens what QEMU has given up, if it caches. */
static gboolean cannot_open_disks(const SimVm *vm)
{
    return vm->vm.inactivated && !strcmp(world.disks, "qcow2") &&
           world_storage_error(vm->host, STORAGE_NEEDS_ROOM) != 0;
}

static gboolean on_work(gpointer data)
{
    Work *work = data;
    SimVm *vm = work->vm;
    g_autoptr(GBytes) state = NULL;
    g_autoptr(GError) error = NULL;
    VmOp op = work->op;
    gint64 drains_us = op == VM_OP_PAUSE ? world_disk_drains_us(vm) : 0;

    world_source_clear(&vm->source);
    if (drains_us) {
        vm->source = world_after(vm->host, drains_us, on_work, work);
        return G_SOURCE_REMOVE;
    }
    vm->work = NULL;
    g_autoptr(GBytes) given = work->state;
    g_free(work);
    if (vm->die_in[op]) {
        sim_vm_die(vm);
        return G_SOURCE_REMOVE;
    }
    if (vm->refuse[op] > 0) {
        vm->refuse[op]--;
        world_sometimes("QEMU refuses something");
        error = g_error_new(VM_ERROR, VM_ERROR_QMP, "GenericError: refused (%s)", vm_op_name(op));
    } else if (op == VM_OP_RESUME && vm->off) {
        error = g_error_new_literal(VM_ERROR, VM_ERROR_QMP, "GenericError: a reset is required");
    } else if (op == VM_OP_RESUME && cannot_open_disks(vm)) {
        error = g_error_new_literal(VM_ERROR, VM_ERROR_QMP, "GenericError: can't open the disks");
        world_sometimes("storage refuses to let QEMU open its disks again");
        /* A copy waits for its next checkpoint. */
        if (fsm_is_primary(vm->host->node->state) || fsm_is_taking_over(vm->host->node->state))
            world_storage_refused(vm->host, "cont");
    } else if (op == VM_OP_INACTIVATE && world.disks && !world_disk_release(vm->host)) {
        error = g_error_new_literal(VM_ERROR, VM_ERROR_QMP, "GenericError: can't write to a disk");
    } else if (op == VM_OP_LOAD) {
        load(vm, given, &error);
    } else if (op == VM_OP_SAVE) {
        world_disk_write_kept(vm->host);
        SimState now = {vm->history->id, sim_vm_digest(vm)};
        state = g_bytes_new(&now, sizeof(now));
    } else if (op == VM_OP_RESUME) {
        resume(vm);
    } else if (op == VM_OP_PAUSE) {
        stand(vm);
        if (world_disk_write_kept(vm->host) != 0)
            world_sometimes("QEMU can't write what it keeps of an image, and pauses the VM");
    }
    vm_finish(&vm->vm, state, error);
    return G_SOURCE_REMOVE;
}

static gboolean on_hung(gpointer data)
{
    Work *work = data;
    SimVm *vm = work->vm;
    g_autoptr(GError) error =
        g_error_new(VM_ERROR, VM_ERROR_TIMEOUT, "%s: QEMU does not answer", vm_op_name(work->op));
    world_source_clear(&vm->source);
    vm->host->takes_us[work->op] = 0; /* the next one is well */
    if (work->state)
        g_bytes_unref(work->state);
    g_free(work);
    vm->work = NULL;
    vm->stuck = TRUE;
    vm_finish(&vm->vm, NULL, error);
    return G_SOURCE_REMOVE;
}

/* It has its own limit (vm/qmp.c), which is as long as colod.c makes it. */
static void hang(SimVm *vm, Work *work)
{
    const Config *config = vm->host->config;
    guint64 limit_ms = config->qemu_timeout_ms + (world.disks ? config->disk_timeout_ms : 0);
    guint64 ms = vm->stuck ? 0 : limit_ms;
    vm->source = world_after(vm->host, (gint64)ms * COLO_US_PER_MS, on_hung, work);
}

void sim_vm_answer(SimVm *vm)
{
    Work *work = vm->work;
    vm->host->takes_us[work->op] = 0;
    world_source_clear(&vm->source);
    vm->source = world_after(vm->host, 0, on_work, work);
}

static void begin(Vm *vm, VmOp op, GBytes *state, gint64 most_us)
{
    SimVm *self = sim(vm);
    Work *work = g_new(Work, 1);
    *work = (Work){self, op, state ? g_bytes_ref(state) : NULL};
    self->work = work;
    if (self->stuck || self->host->takes_us[op] == WORLD_FOREVER) {
        hang(self, work);
        return;
    }
    if (world.now_us < self->host->qemu_slow_until_us) {
        most_us += SLOW_US;
        world_sometimes("QEMU answers late");
    }
    gint64 known_us = self->host->takes_us[op], us = world_between(50, most_us);
    self->source = world_after(self->host, known_us ? known_us : us, on_work, work);
}

static void op_start(Vm *vm)
{
    begin(vm, VM_OP_START, NULL, 500 * 1000);
}

static void op_pause(Vm *vm)
{
    begin(vm, VM_OP_PAUSE, NULL, 1000);
}

static void op_resume(Vm *vm)
{
    world_stop_check_run(sim(vm)->host);
    world_storage_tried(sim(vm)->host);
    begin(vm, VM_OP_RESUME, NULL, 2000);
}

static void op_save(Vm *vm)
{
    begin(vm, VM_OP_SAVE, NULL, 5000);
}

static void op_load(Vm *vm, GBytes *state)
{
    begin(vm, VM_OP_LOAD, state, 20000);
}

static void op_inactivate(Vm *vm, gboolean of_copy)
{
    (void)of_copy;
    begin(vm, VM_OP_INACTIVATE, NULL, 5000);
}

static guint64 op_private_bytes(const Vm *vm)
{
    return ((const SimVm *)vm)->private_bytes;
}

static void op_kill(Vm *vm)
{
    SimVm *self = sim(vm);
    world_source_clear(&self->source);
    world_source_clear(&self->guest);
    world_source_clear(&self->reader);
    if (self->work) {
        Work *work = self->work;
        if (work->state)
            g_bytes_unref(work->state);
        g_free(work);
        self->work = NULL;
    }
    if (self->host->vm == self)
        self->host->vm = NULL;
}

static void op_free(Vm *vm)
{
    SimVm *self = sim(vm);
    g_queue_free_full(self->input, (GDestroyNotify)g_bytes_unref);
    g_queue_free_full(self->output, (GDestroyNotify)g_bytes_unref);
    g_free(self);
}

void sim_vm_die(SimVm *vm)
{
    op_kill(&vm->vm);
    world_tell("%s: QEMU dies", vm->host->name);
    vm_died(&vm->vm, "was killed by signal 9");
}

void sim_vm_is_left(SimVm *vm)
{
    vm->left = TRUE;
    vm->loaded = FALSE;
    world_stop_new_vm(vm->host);
}

Vm *sim_vm_new(const VmDescription *description, const VmHandler *handler, WorldHost *host)
{
    static const VmOps ops = {.start = op_start,
                              .pause = op_pause,
                              .resume = op_resume,
                              .save = op_save,
                              .load = op_load,
                              .inactivate = op_inactivate,
                              .private_bytes = op_private_bytes,
                              .kill = op_kill,
                              .free = op_free};
    static int next_fd = -1000;
    SimVm *vm = g_new0(SimVm, 1);
    vm_init(&vm->vm, &ops, description, handler);
    vm->host = host;
    vm->private_bytes = 1 << 20;
    vm->fd = next_fd--;
    g_array_append_val(vm->vm.nic_fds, vm->fd);
    vm->vm.ram.id = "pc.ram";
    vm->vm.ram.size_bytes = WORLD_PAGES * VM_PAGE_SIZE;
    vm->vm.ram.pid = 1;
    vm->vm.qemu_version = g_strdup("7.2.0");
    vm->vm.machine_name = g_strdup("pc");
    vm->vm.accel = g_strdup("tcg");
    vm->history = history_boot((guint64[WORLD_BLOCKS]){0});
    vm->input = g_queue_new();
    vm->output = g_queue_new();
    host->vm = vm;
    world_stop_new_vm(host);
    return &vm->vm;
}

/* ---- The guest ---- */

static gboolean on_output(gpointer data)
{
    SimVm *vm = data;
    world_source_clear(&vm->reader);
    world_port_read(vm);
    return G_SOURCE_REMOVE;
}

static void send_output(SimVm *vm)
{
    if (!g_queue_is_empty(vm->output) && !vm->reader)
        vm->reader = world_after(vm->host, world_between(10, 500), on_output, vm);
}

void sim_vm_stops(SimVm *vm)
{
    send_output(vm);
    world_disk_stops(vm);
    vm->in_ram = read_by_qemu(vm);
    vm->stopped_itself = TRUE;
}

void sim_vm_output(SimVm *vm)
{
    if (vm->host->vm == vm) /* it lives */
        send_output(vm);
}

/*
 * Storage fails what the guest is about to write. TRUE: QEMU has stopped it, and that is reported.
 */
static gboolean stops_at_error(SimVm *vm, int failed)
{
    gboolean stops =
        !strcmp(world.on_error, "stop") || (!strcmp(world.on_error, "enospc") && failed == ENOSPC);
    if (!stops) {
        world_sometimes("a guest gets an error of its disk");
        g_bytes_unref(g_queue_pop_head(vm->input));
        return FALSE;
    }
    world_sometimes("an error of its disk stops a guest");
    sim_vm_stops(vm);
    vm->in_ram = MAX(1, vm->in_ram); /* with what it has begun to handle */
    world_guest_stalls(vm->host);
    vm_emit(&vm->vm, VM_EVENT_STOPPED, "io-error");
    return TRUE;
}

static gboolean on_guest(gpointer data);

/* FALSE: QEMU has stopped it in the middle, and it may be gone. */
static gboolean handle_input(SimVm *vm)
{
    while (!g_queue_is_empty(vm->input)) {
        if (world.disks && !world_disk_admits(vm)) {
            vm->guest = world_after(vm->host, vm->turn_us - world.now_us, on_guest, vm);
            return TRUE;
        }
        int failed = world.disks ? world_storage_error(vm->host, STORAGE_NEEDS_ROOM) : 0;
        if (failed)
            world_disk_refuses(vm->host);
        if (failed && stops_at_error(vm, failed))
            return FALSE;
        if (failed)
            continue;
        g_autoptr(GBytes) frame = g_queue_pop_head(vm->input);
        gsize len;
        const guint8 *bytes = g_bytes_get_data(frame, &len);
        WorldGuest does = world_power_next(vm);
        if (does == WORLD_GUEST_STOPS)
            return FALSE;
        if (does == WORLD_GUEST_BOOTS)
            continue;
        if (vm->stale)
            world_fail("%s: the guest gets a frame that was given to it before it was loaded",
                       vm->host->name);
        GBytes *answer = world_guest_answer(vm, bytes, len);
        if (answer)
            g_queue_push_tail(vm->output, answer);
    }
    return TRUE;
}

static gboolean on_guest(gpointer data)
{
    SimVm *vm = data;
    world_source_clear(&vm->guest);
    if (!vm->vm.running)
        return G_SOURCE_REMOVE;
    if (world.disks && !world_disk_takes_io(vm->host)) {
        vm->guest = world_after(vm->host, world_between(500, 5000), on_guest, vm);
        return G_SOURCE_REMOVE;
    }
    check_disk(vm);
    if (handle_input(vm))
        send_output(vm);
    return G_SOURCE_REMOVE;
}

void sim_vm_let_through(SimVm *vm)
{
    if (!vm->turn_us || !vm->guest)
        return;
    world_source_clear(&vm->guest);
    vm->guest = world_after(vm->host, 0, on_guest, vm);
}

static void run_guest(SimVm *vm)
{
    if (!vm->guest && !g_queue_is_empty(vm->input))
        vm->guest = world_after(vm->host, world_between(50, 2000), on_guest, vm);
}

void sim_vm_input(SimVm *vm, const guint8 *data, gsize len)
{
    g_queue_push_tail(vm->input, g_bytes_new(data, len));
    vm->given_us = world.now_us;
    if (vm->vm.running)
        run_guest(vm);
}
