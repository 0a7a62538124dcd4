/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/fake-vm.h"

#include "common/endian.h"
#include "common/fd.h"
#include "vm/vm_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xxhash.h>

#define STATE_MAGIC "fakestat"
/* magic, steps, generator, RAM digest, checksum of what precedes it; padded to look like a state */
#define STATE_BYTES    8192u
#define VNET_HDR_BYTES 12u
#define FRAME_MAX      (256u * 1024u)
#define LOST_STEPS     G_MAXUINT64

typedef struct {
    Vm vm;
    guint8 *guest; /* the guest's own mapping of RAM */
    int memfd;
    guint64 random, steps;
    GArray *guest_fds;     /* of int */
    GPtrArray *guest_read; /* of GByteArray: bytes of frames not complete yet */
    int agent_fd;
    struct {
        FakeVmFault fault;
        unsigned countdown, begun;
        gboolean refused;
    } injected[FAKE_VM_OPERATIONS];
    gboolean inactivated; /* its disks: perhaps only in part */
    gboolean held;
    GBytes *held_state;
    gboolean loaded; /* and not run since: RAM must still be that of the state */
    guint64 loaded_digest;
    guint64 private_bytes;
    unsigned load_writes, autorun_steps;
    guint autorun_source;
    void (*wrote)(guint64 page, gpointer user_data);
    gpointer wrote_data;
    FakeVmGuest guest_does;
    void (*guest_changed)(FakeVmGuest guest, gpointer user_data);
    gpointer guest_data;
} FakeVm;

/* A load writes to the same pages every time, as QEMU's does. */
#define LOAD_WRITES_SEED 1

static FakeVm *fake(const Vm *vm)
{
    return (FakeVm *)vm;
}

/* splitmix64: one word of state, good enough to look random. */
static guint64 next_random(guint64 *state)
{
    guint64 z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

VmDescription *fake_vm_description(guint64 memory_bytes, unsigned nics)
{
    VmDescription *d = vm_description_new();
    d->name = g_strdup("fake");
    d->uuid = g_strdup("6ba7b810-9dad-11d1-80b4-00c04fd430c8");
    d->machine = g_strdup("pc");
    d->memory_bytes = memory_bytes;
    for (unsigned i = 0; i < nics; i++) {
        g_autofree char *mac = g_strdup_printf("52:54:00:12:34:%02x", i);
        vm_description_add_nic(d, "virtio-net-pci", mac);
    }
    return d;
}

/* ---- The guest ---- */

static void write_page(FakeVm *self)
{
    guint64 pages = self->vm.ram.size_bytes / VM_PAGE_SIZE;
    guint64 page = next_random(&self->random) % pages;
    guint64 *words = (guint64 *)(self->guest + page * VM_PAGE_SIZE);

    if (next_random(&self->random) % 8 == 0)
        memset(words, 0, VM_PAGE_SIZE);
    else
        for (unsigned i = 0; i < VM_PAGE_SIZE / sizeof(*words); i += 16)
            words[i] = next_random(&self->random);
    if (self->wrote)
        self->wrote(page, self->wrote_data);
}

void fake_vm_step(Vm *vm, unsigned steps)
{
    FakeVm *self = fake(vm);

    g_assert(vm->running);
    for (unsigned i = 0; i < steps; i++)
        write_page(self);
    self->steps += steps;
}

void fake_vm_on_write(Vm *vm, void (*wrote)(guint64 page, gpointer user_data), gpointer user_data)
{
    fake(vm)->wrote = wrote;
    fake(vm)->wrote_data = user_data;
}

static gboolean autorun(gpointer user_data)
{
    FakeVm *self = user_data;
    if (self->vm.running)
        fake_vm_step(&self->vm, self->autorun_steps);
    return G_SOURCE_CONTINUE;
}

void fake_vm_autorun(Vm *vm, unsigned interval_ms, unsigned steps)
{
    FakeVm *self = fake(vm);

    if (self->autorun_source)
        g_source_remove(self->autorun_source);
    self->autorun_steps = steps;
    self->autorun_source = interval_ms ? g_timeout_add(interval_ms, autorun, self) : 0;
}

static void set_guest(FakeVm *self, FakeVmGuest guest)
{
    if (guest == self->guest_does)
        return;
    self->guest_does = guest;
    if (self->guest_changed)
        self->guest_changed(guest, self->guest_data);
}

void fake_vm_on_guest(Vm *vm, void (*changed)(FakeVmGuest guest, gpointer user_data),
                      gpointer user_data)
{
    fake(vm)->guest_changed = changed;
    fake(vm)->guest_data = user_data;
}

guint64 fake_vm_steps(const Vm *vm)
{
    return fake(vm)->steps;
}

guint64 fake_vm_ram_digest(const Vm *vm)
{
    static const guint8 zeroes[VM_PAGE_SIZE];
    XXH3_state_t *state = XXH3_createState();
    off_t size = (off_t)vm->ram.size_bytes, at = 0;

    XXH3_64bits_reset(state);
    while (at < size && (at = lseek(vm->ram.memfd, at, SEEK_DATA)) >= 0) {
        off_t end = lseek(vm->ram.memfd, at, SEEK_HOLE);
        for (; at < end; at += VM_PAGE_SIZE) {
            guint64 number = (guint64)at;
            if (!memcmp(vm->ram.base + at, zeroes, VM_PAGE_SIZE))
                continue;
            XXH3_64bits_update(state, &number, sizeof(number));
            XXH3_64bits_update(state, vm->ram.base + at, VM_PAGE_SIZE);
        }
    }
    guint64 digest = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return digest;
}

/* ---- The network ---- */

int fake_vm_card_fd(const Vm *vm, unsigned nic)
{
    const GArray *fds = fake(vm)->guest_fds;
    return nic < fds->len ? g_array_index(fds, int, nic) : -1;
}

void fake_vm_send_frame(Vm *vm, unsigned nic, const void *data, gsize len)
{
    g_autofree guint8 *out = g_malloc0(8 + VNET_HDR_BYTES + len);
    int fd = fake_vm_card_fd(vm, nic);
    g_autoptr(GError) error = NULL;

    colo_put_be32(out, (guint32)len + VNET_HDR_BYTES);
    colo_put_be32(out + 4, VNET_HDR_BYTES);
    memcpy(out + 8 + VNET_HDR_BYTES, data, len);
    if (!colo_fd_write_all(fd, out, 8 + VNET_HDR_BYTES + len, &error))
        g_error("fake VM: sending a frame: %s", error->message);
}

GBytes *fake_vm_receive_frame(Vm *vm, unsigned nic)
{
    FakeVm *self = fake(vm);
    GByteArray *in = g_ptr_array_index(self->guest_read, nic);
    int fd = fake_vm_card_fd(vm, nic);
    guint8 buf[65536];
    ssize_t got;

    while ((got = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
        g_byte_array_append(in, buf, (guint)got);
    if (in->len < 8)
        return NULL;
    guint32 len = colo_get_be32(in->data), hdr = colo_get_be32(in->data + 4);
    g_assert_cmpuint(len, <=, FRAME_MAX);
    g_assert_cmpuint(hdr, <=, len);
    if (in->len < 8 + len)
        return NULL;
    GBytes *frame = g_bytes_new(in->data + 8 + hdr, len - hdr);
    g_byte_array_remove_range(in, 0, 8 + len);
    return frame;
}

/* ---- The operations ---- */

static gboolean make_ram(FakeVm *self)
{
    Vm *vm = &self->vm;
    gsize size = vm->description->memory_bytes;
    COLO_AUTO_FD memfd =
        vm->kept_ram >= 0 ? colo_fd_steal(&vm->kept_ram) : memfd_create("fake-ram", MFD_CLOEXEC);

    if (memfd < 0 || ftruncate(memfd, (off_t)size) < 0)
        return FALSE;
    void *ours = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    void *theirs = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    g_assert(ours != MAP_FAILED && theirs != MAP_FAILED);
    self->guest = theirs;
    self->memfd = colo_fd_steal(&memfd);
    vm->ram = (VmRam){
        .id = "pc.ram",
        .base = ours,
        .size_bytes = size,
        .memfd = self->memfd,
        .pid = getpid(),
        .remote_base = (guint64)(guintptr)theirs,
        .uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK),
        .uffd_sync = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK),
    };
    if (vm->ram.uffd < 0)
        vm->ram.no_uffd = errno == EPERM ? "userfaultfd needs CAP_SYS_PTRACE or "
                                           "sysctl vm.unprivileged_userfaultfd=1"
                                         : g_intern_string(g_strerror(errno));
    return TRUE;
}

static void make_nics(FakeVm *self)
{
    for (guint i = 0; i < self->vm.description->nics->len; i++) {
        int pair[2];
        int failed = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
        g_assert(!failed);
        colo_fd_set_nonblocking(pair[0], TRUE, NULL);
        g_array_append_val(self->vm.nic_fds, pair[0]);
        g_array_append_val(self->guest_fds, pair[1]);
        g_ptr_array_add(self->guest_read, g_byte_array_new());
    }
}

static void make_agent(FakeVm *self)
{
    int pair[2];
    if (!self->vm.description->guest_agent)
        return;
    int failed = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair);
    g_assert(!failed);
    self->vm.agent_fd = pair[0];
    self->agent_fd = pair[1];
}

int fake_vm_agent_fd(const Vm *vm)
{
    return fake(vm)->agent_fd;
}

static GBytes *make_state(FakeVm *self)
{
    guint8 *state = g_malloc0(STATE_BYTES);

    memcpy(state, STATE_MAGIC, 8);
    colo_put_be64(state + 8, self->steps);
    colo_put_be64(state + 16, self->random);
    colo_put_be64(state + 24, fake_vm_ram_digest(&self->vm));
    colo_put_be64(state + STATE_BYTES - 8, XXH3_64bits(state, STATE_BYTES - 8));
    return g_bytes_new_take(state, STATE_BYTES);
}

static GError *take_state(FakeVm *self, GBytes *bytes)
{
    gsize len;
    const guint8 *state = g_bytes_get_data(bytes, &len);

    self->steps = LOST_STEPS; /* as QEMU's: a load that fails has destroyed the state */
    if (len != STATE_BYTES || memcmp(state, STATE_MAGIC, 8) ||
        colo_get_be64(state + STATE_BYTES - 8) != XXH3_64bits(state, STATE_BYTES - 8))
        return g_error_new(VM_ERROR, VM_ERROR_DEVICE_STATE, "this is no state of a fake VM");
    if (colo_get_be64(state + 24) != fake_vm_ram_digest(&self->vm))
        return g_error_new(VM_ERROR, VM_ERROR_DEVICE_STATE,
                           "RAM is not that of the moment the state was saved");
    self->steps = colo_get_be64(state + 8);
    self->random = colo_get_be64(state + 16);
    guint64 random = self->random;
    self->random = LOAD_WRITES_SEED;
    for (unsigned i = 0; i < self->load_writes; i++)
        write_page(self);
    self->random = random;
    self->loaded = TRUE;
    self->loaded_digest = colo_get_be64(state + 24);
    return NULL;
}

static GError *run_guest(FakeVm *self)
{
    if (self->steps == LOST_STEPS)
        return g_error_new(VM_ERROR, VM_ERROR_QMP,
                           "GenericError: the fake VM has lost its device state");
    if (self->loaded && fake_vm_ram_digest(&self->vm) != self->loaded_digest)
        return g_error_new(VM_ERROR, VM_ERROR_DEVICE_STATE,
                           "the guest is to run from RAM that is not that of its state");
    self->loaded = FALSE;
    return NULL;
}

/* What an operation does when nothing is wrong; ends it. */
static void perform(FakeVm *self, FakeVmOperation operation, GBytes *given)
{
    g_autoptr(GBytes) state = NULL;
    g_autoptr(GError) error = NULL;

    if (operation == FAKE_VM_START) {
        if (!make_ram(self))
            error = g_error_new(VM_ERROR, VM_ERROR_START, "no memory for the fake VM");
        make_nics(self);
        make_agent(self);
        set_guest(self, FAKE_VM_STANDS);
    } else if (operation == FAKE_VM_PAUSE) {
        set_guest(self, FAKE_VM_STANDS);
    } else if (operation == FAKE_VM_SAVE) {
        state = make_state(self);
    } else if (operation == FAKE_VM_LOAD) {
        error = take_state(self, given);
    } else if (operation == FAKE_VM_RESUME) {
        error = run_guest(self);
        if (!error) {
            self->inactivated = FALSE;
            set_guest(self, FAKE_VM_RUNS);
        }
    }
    vm_finish(&self->vm, state, error);
}

static void refuse(Vm *vm)
{
    g_autoptr(GError) error = g_error_new(VM_ERROR, VM_ERROR_QMP, "GenericError: injected failure");
    vm_finish(vm, NULL, error);
}

static void begin(Vm *vm, FakeVmOperation operation, GBytes *given)
{
    FakeVm *self = fake(vm);
    FakeVmFault fault = FAKE_VM_OK;
    g_autoptr(GError) error = NULL;

    self->injected[operation].begun++;
    if (self->injected[operation].countdown && !--self->injected[operation].countdown)
        fault = self->injected[operation].fault;
    if (self->injected[operation].refused)
        fault = FAKE_VM_FAIL;
    switch (fault) {
    case FAKE_VM_OK:
        perform(self, operation, given);
        return;
    case FAKE_VM_DIE:
        set_guest(self, FAKE_VM_GONE);
        vm_died(vm, "was killed by signal 9");
        return;
    case FAKE_VM_FAIL:
        error = g_error_new(VM_ERROR, VM_ERROR_QMP, "GenericError: injected failure");
        break;
    case FAKE_VM_TIMEOUT:
        error = g_error_new(VM_ERROR, VM_ERROR_TIMEOUT, "injected timeout");
        break;
    case FAKE_VM_SPEND:
        error = g_error_new(VM_ERROR, VM_ERROR_SPENT, "injected loss");
        break;
    case FAKE_VM_HOLD:
        self->held = TRUE;
        self->held_state = given ? g_bytes_ref(given) : NULL;
        return;
    }
    if (operation == FAKE_VM_LOAD)
        self->steps = LOST_STEPS;
    vm_finish(vm, NULL, error);
}

static void fake_start(Vm *vm)
{
    g_autoptr(GError) error = NULL;
    if (!vm_description_check(vm->description, &error)) {
        vm_finish(vm, NULL, error);
        return;
    }
    begin(vm, FAKE_VM_START, NULL);
}

static void fake_pause(Vm *vm)
{
    begin(vm, FAKE_VM_PAUSE, NULL);
}

static void fake_resume(Vm *vm)
{
    begin(vm, FAKE_VM_RESUME, NULL);
}

static void fake_save(Vm *vm)
{
    begin(vm, FAKE_VM_SAVE, NULL);
}

static void fake_load(Vm *vm, GBytes *state)
{
    begin(vm, FAKE_VM_LOAD, state);
}

/* As QEMU's bdrv_inactivate_all(), which asserts that no disk is inactive. */
static void fake_inactivate(Vm *vm, gboolean of_copy)
{
    (void)of_copy;
    if (fake(vm)->inactivated)
        g_error("the VM's disks are given up twice: QEMU would have aborted");
    fake(vm)->inactivated = TRUE;
    begin(vm, FAKE_VM_INACTIVATE, NULL);
}

/* The guest is gone; our mapping of its RAM stays, and so does its own, which only it wrote to. */
static void fake_kill(Vm *vm)
{
    FakeVm *self = fake(vm);

    set_guest(self, FAKE_VM_GONE);
    fake_vm_autorun(vm, 0, 0);
    for (guint i = 0; i < self->guest_fds->len; i++)
        colo_fd_close(&g_array_index(self->guest_fds, int, i));
    colo_fd_close(&self->agent_fd);
    self->held = FALSE;
}

static void fake_free(Vm *vm)
{
    FakeVm *self = fake(vm);

    fake_kill(vm); /* a VM that died by itself was not killed */
    if (vm->ram.base) {
        munmap(vm->ram.base, vm->ram.size_bytes);
        munmap(self->guest, vm->ram.size_bytes);
    }
    colo_fd_close(&vm->ram.uffd);
    colo_fd_close(&vm->ram.uffd_sync);
    colo_fd_close(&self->memfd);
    g_clear_pointer(&self->held_state, g_bytes_unref);
    g_array_unref(self->guest_fds);
    g_ptr_array_unref(self->guest_read);
    g_free(self);
}

static guint64 fake_private_bytes(const Vm *vm)
{
    return fake(vm)->private_bytes;
}

static const VmOps fake_ops = {
    .private_bytes = fake_private_bytes,
    .start = fake_start,
    .pause = fake_pause,
    .resume = fake_resume,
    .save = fake_save,
    .load = fake_load,
    .inactivate = fake_inactivate,
    .kill = fake_kill,
    .free = fake_free,
};

Vm *fake_vm_new(const VmDescription *description, guint64 seed, const VmHandler *handler)
{
    FakeVm *self = g_new0(FakeVm, 1);

    vm_init(&self->vm, &fake_ops, description, handler);
    self->memfd = self->agent_fd = -1;
    self->random = seed;
    self->guest_fds = g_array_new(FALSE, FALSE, sizeof(int));
    self->guest_read = g_ptr_array_new_with_free_func((GDestroyNotify)g_byte_array_unref);
    self->vm.qemu_version = g_strdup("fake");
    self->vm.machine_name = g_strdup("pc-fake");
    self->vm.accel = g_strdup("tcg");
    return &self->vm;
}

/* ---- Bad days ---- */

void fake_vm_inject(Vm *vm, FakeVmOperation operation, FakeVmFault fault, unsigned nth)
{
    g_assert(nth >= 1);
    fake(vm)->injected[operation].fault = fault;
    fake(vm)->injected[operation].countdown = nth;
}

void fake_vm_refuse(Vm *vm, FakeVmOperation operation, gboolean refuse)
{
    fake(vm)->injected[operation].refused = refuse;
}

unsigned fake_vm_count(const Vm *vm, FakeVmOperation operation)
{
    return fake(vm)->injected[operation].begun;
}

gboolean fake_vm_is_held(const Vm *vm)
{
    return fake(vm)->held;
}

void fake_vm_proceed(Vm *vm)
{
    static const FakeVmOperation operations[] = {
        [VM_OP_START] = FAKE_VM_START,   [VM_OP_PAUSE] = FAKE_VM_PAUSE,
        [VM_OP_RESUME] = FAKE_VM_RESUME, [VM_OP_SAVE] = FAKE_VM_SAVE,
        [VM_OP_LOAD] = FAKE_VM_LOAD,     [VM_OP_INACTIVATE] = FAKE_VM_INACTIVATE,
    };
    FakeVm *self = fake(vm);
    g_autoptr(GBytes) state = g_steal_pointer(&self->held_state);

    g_assert(self->held);
    self->held = FALSE;
    if (self->injected[operations[vm_operation(vm)]].refused)
        refuse(vm);
    else
        perform(self, operations[vm_operation(vm)], state);
}

void fake_vm_set_load_writes(Vm *vm, unsigned pages)
{
    fake(vm)->load_writes = pages;
}

void fake_vm_set_private_bytes(Vm *vm, guint64 bytes)
{
    fake(vm)->private_bytes = bytes;
}

void fake_vm_die(Vm *vm)
{
    fake_kill(vm);
    vm_died(vm, "was killed by signal 9");
}

void fake_vm_raise(Vm *vm, VmEvent event, const char *detail)
{
    if (event == VM_EVENT_STOPPED || event == VM_EVENT_SHUTDOWN)
        set_guest(fake(vm), FAKE_VM_STANDS);
    vm_emit(vm, event, detail);
}
