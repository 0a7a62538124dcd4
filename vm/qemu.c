/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM run by a stock QEMU: start, pause, continue, end, and QEMU's events.
 *
 * QEMU inherits all that it gets from us as descriptors (RAM, control socket, cards, device state).
 * So a crash of either side leaves no socket, no file and no tap behind. The kernel kills QEMU
 * itself when our thread ends.
 *
 * Start: the arguments, the process, then a handful of questions sent together; only if every
 * answer is good has the VM started. A QEMU that fails is killed before its error is reported.
 *
 * Failure: the process's end is what counts. When its socket closes first, the operation at hand
 * waits for the end of the process (and kills it after a second), because that brings QEMU's last
 * output. An answer that does not come in time makes the VM stuck. It gets no more commands; only
 * vm_kill() and vm_free() are left.
 */
#include "vm/qemu_internal.h"

#include "common/fd.h"
#include "common/json.h"
#include "common/patience.h"
#include "vm/cmdline.h"
#include "vm/ram.h"
#include "vm/suitable.h"
#include "vm/vhost-card.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define TIMEOUT_MS_DEFAULT 10000u
/* How long a QEMU whose control socket has closed may take to end. */
#define ENDING_MS 1000u

/* ---- Asking QEMU ---- */

/* What QEMU doesn't stop any more. */
static void stop_cards(const Vm *vm)
{
    for (guint i = 0; vm->cards && i < vm->cards->len; i++)
        if (vm_nic_card(vm, i))
            vhost_card_stop(vm_nic_card(vm, i));
}

/* Ends QEMU and forgets what was asked of it. */
static void stop_talking(QemuVm *self)
{
    if (self->lost_source)
        g_source_remove(self->lost_source);
    self->lost_source = 0;
    stop_cards(&self->vm);
    g_clear_pointer(&self->qmp, qmp_free);
    g_clear_pointer(&self->process, process_free);
    qemu_load_clear(self);
}

static void fail_start(QemuVm *self, const GError *error)
{
    g_autoptr(GError) copy = g_error_copy(error);
    stop_talking(self);
    self->vm.dead = TRUE;
    vm_finish(&self->vm, NULL, copy);
}

void qemu_fail(QemuVm *self, const GError *error)
{
    g_autoptr(GError) copy = g_error_copy(error);

    if (g_error_matches(error, VM_ERROR, VM_ERROR_DIED))
        return;
    if (vm_operation(&self->vm) == VM_OP_START) {
        fail_start(self, copy);
        return;
    }
    if (g_error_matches(error, VM_ERROR, VM_ERROR_TIMEOUT)) {
        self->stuck = TRUE;
        g_clear_pointer(&self->qmp, qmp_free);
        qemu_load_clear(self);
    }
    vm_finish(&self->vm, NULL, copy);
}

void qemu_execute(QemuVm *self, const char *command, json_object *arguments, QmpReply reply)
{
    qmp_execute(self->qmp, command, arguments, self->timeout_ms, reply, self);
}

/* TRUE if it hangs: the operation has been ended. */
static gboolean is_stuck(QemuVm *self)
{
    if (!self->stuck)
        return FALSE;
    g_autoptr(GError) error =
        g_error_new(VM_ERROR, VM_ERROR_TIMEOUT, "%s: QEMU hangs since an earlier command",
                    vm_op_name(vm_operation(&self->vm)));
    vm_finish(&self->vm, NULL, error);
    return TRUE;
}

static void on_simple_reply(json_object *result, const GError *error, gpointer user_data)
{
    QemuVm *self = user_data;
    if (result)
        vm_finish(&self->vm, NULL, NULL);
    else
        qemu_fail(self, error);
}

/*
 * Of a guest that sleeps QEMU 7.2 reports a `stop` as done and does nothing: it may wake at any time, and
 * its rings live. Later ones stop it as any other (do_vm_stop(), softmmu/cpus.c and system/cpus.c).
 */
static void on_paused(json_object *result, const GError *error, gpointer user_data)
{
    QemuVm *self = user_data;
    if (!result || !self->asleep || self->stop_seen || !self->vm.running) {
        on_simple_reply(result, error, user_data);
        return;
    }
    g_autoptr(GError) refused = g_error_new_literal(
        VM_ERROR, VM_ERROR_QMP, "the guest sleeps (ACPI S3), and QEMU doesn't stop it: wake it");
    qemu_fail(self, refused);
}

static void op_pause(Vm *vm)
{
    QemuVm *self = qemu_vm(vm);
    if (is_stuck(self))
        return;
    self->stop_seen = FALSE;
    qemu_execute(self, "stop", NULL, on_paused);
}

/*
 * A disk that QEMU can't open again has no driver any more. It says so once: the next `cont` succeeds,
 * and the guest's requests to that disk fail (qcow2_co_invalidate_cache and bdrv_activate, QEMU 7.2).
 */
static void on_resumed(json_object *result, const GError *error, gpointer user_data)
{
    if (!g_error_matches(error, VM_ERROR, VM_ERROR_QMP) ||
        !strstr(error->message, "Could not reopen")) {
        on_simple_reply(result, error, user_data);
        return;
    }
    g_autoptr(GError) lost =
        g_error_new(VM_ERROR, VM_ERROR_SPENT, "QEMU has lost a disk: %s", error->message);
    qemu_fail(user_data, lost);
}

static void op_resume(Vm *vm)
{
    if (!is_stuck(qemu_vm(vm)))
        qemu_execute(qemu_vm(vm), "cont", NULL, on_resumed);
}

static void op_save(Vm *vm)
{
    if (!is_stuck(qemu_vm(vm)))
        qemu_save(vm);
}

static void op_inactivate(Vm *vm, gboolean of_copy)
{
    if (!is_stuck(qemu_vm(vm)))
        qemu_inactivate(vm, of_copy);
}

static void op_load(Vm *vm, GBytes *state)
{
    if (!is_stuck(qemu_vm(vm)))
        qemu_load(vm, state);
}

/* ---- What QEMU tells ---- */

static const char *member_string(json_object *object, const char *key, const char *otherwise)
{
    json_object *value;
    return json_object_object_get_ex(object, key, &value) ? json_object_get_string(value)
                                                          : otherwise;
}

/* Stopped unasked: why. */
static void on_stopped_status(json_object *result, const GError *error, gpointer user_data)
{
    QemuVm *self = user_data;
    const char *status = result ? member_string(result, "status", "unknown") : "unknown";
    (void)error;

    self->needs_reset |= !strcmp(status, "internal-error");
    if (self->vm.running && strcmp(status, "running"))
        vm_emit(&self->vm, VM_EVENT_STOPPED, status);
}

static void on_qmp_event(const char *name, json_object *data, gpointer user_data)
{
    QemuVm *self = user_data;
    VmOp op = vm_operation(&self->vm);

    if (!strcmp(name, "JOB_STATUS_CHANGE")) {
        qemu_job_changed(self, data);
    } else if (!strcmp(name, "SUSPEND") || !strcmp(name, "WAKEUP")) {
        self->asleep = !strcmp(name, "SUSPEND");
    } else if (!strcmp(name, "STOP")) {
        self->stop_seen = TRUE;
        if (op == VM_OP_RESUME || (op != VM_OP_PAUSE && self->vm.running))
            qemu_execute(self, "query-status", NULL, on_stopped_status);
    } else if (!strcmp(name, "SHUTDOWN")) {
        json_object *guest;
        self->needs_reset = TRUE;
        if (json_object_object_get_ex(data, "guest", &guest) && json_object_get_boolean(guest))
            vm_emit(&self->vm, VM_EVENT_SHUTDOWN, member_string(data, "reason", "guest-shutdown"));
    } else if (!strcmp(name, "RESET")) {
        if (op == VM_OP_LOAD)
            qemu_was_reset(self);
        else if (op != VM_OP_START)
            vm_emit(&self->vm, VM_EVENT_RESET, member_string(data, "reason", "guest-reset"));
    } else if (!strcmp(name, "GUEST_PANICKED")) {
        vm_emit(&self->vm, VM_EVENT_PANICKED, member_string(data, "action", "unknown"));
    }
}

static gboolean on_lost_for_long(gpointer user_data)
{
    QemuVm *self = user_data;
    self->lost_source = 0;
    if (self->process)
        kill(process_pid(self->process), SIGKILL);
    return G_SOURCE_REMOVE;
}

static void on_qmp_closed(const GError *error, gpointer user_data)
{
    QemuVm *self = user_data;
    gboolean garbage = !g_error_matches(error, VM_ERROR, VM_ERROR_DIED);

    self->lost_source = patience_add(garbage ? 0 : ENDING_MS, on_lost_for_long, self);
}

static void on_process_ended(const char *how, gpointer user_data)
{
    QemuVm *self = user_data;
    g_autofree char *detail = g_strdup(how);

    if (vm_operation(&self->vm) == VM_OP_START) {
        g_autoptr(GError) error = g_error_new(
            VM_ERROR, VM_ERROR_START, "QEMU did not start (machine %s, accel %s): it %s",
            self->vm.description->machine, self->vm.accel, detail);
        fail_start(self, error);
        return;
    }
    stop_talking(self);
    vm_died(&self->vm, detail);
}

/* ---- Start ---- */

/*
 * Does the processor virtualise? A /dev/kvm may be there without it (kvm-pvm in some clouds), and
 * then makes VMs, but does not get an ordinary guest through its boot.
 */
static gboolean has_virtualisation(void)
{
    g_autofree char *info = NULL;

    if (!g_file_get_contents("/proc/cpuinfo", &info, NULL, NULL))
        return FALSE;
    const char *flags = strstr(info, "\nflags");
    g_autofree char *line = flags ? g_strndup(flags, 1 + strcspn(flags + 1, "\n")) : g_strdup("");
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    return g_strv_contains((const char *const *)words, "vmx") ||
           g_strv_contains((const char *const *)words, "svm");
}

/* "kvm" or "tcg"; NULL with VM_ERROR_PERMISSION if KVM is wanted and can't be had. */
static const char *choose_accel(VmAccel wanted, GError **error)
{
    if (wanted == VM_ACCEL_TCG || (wanted == VM_ACCEL_AUTO && !has_virtualisation()))
        return "tcg";
    COLO_AUTO_FD kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    COLO_AUTO_FD vm = kvm >= 0 ? ioctl(kvm, KVM_CREATE_VM, 0) : -1;
    if (vm >= 0)
        return "kvm";
    if (wanted == VM_ACCEL_AUTO)
        return "tcg";
    g_set_error(error, VM_ERROR, VM_ERROR_PERMISSION,
                "accel: kvm can't be used: /dev/kvm: %s (give the user access to it, or use tcg)",
                g_strerror(errno));
    return NULL;
}

/* The host's CPU, if the guest is given it as it is. */
static char *find_host_cpu(const VmDescription *d, const char *accel)
{
    g_autofree char *info = NULL;

    if (!d->cpu || strcmp(accel, "kvm") ||
        (!g_str_has_prefix(d->cpu, "host") && !g_str_has_prefix(d->cpu, "max")) ||
        !g_file_get_contents("/proc/cpuinfo", &info, NULL, NULL))
        return NULL;
    const char *model = strstr(info, "model name");
    const char *flags = strstr(info, "flags");
    gsize model_len = model ? strcspn(model, "\n") : 0,
          flags_len = flags ? strcspn(flags, "\n") : 0;
    g_autofree char *name = g_strndup(model ? model : "", model_len);
    const char *colon = strchr(name, ':');
    g_autofree char *digest =
        g_compute_checksum_for_string(G_CHECKSUM_SHA1, flags ? flags : "", (gssize)flags_len);
    digest[8] = '\0';
    return g_strdup_printf("%s (flags %s)", colon ? colon + 2 : "unknown", digest);
}

static gboolean check_file(const char *what, const char *path, GError **error)
{
    if (!path || access(path, R_OK) == 0)
        return TRUE;
    g_set_error(error, VM_ERROR, VM_ERROR_DESCRIPTION, "%s: can't read '%s': %s", what, path,
                g_strerror(errno));
    return FALSE;
}

static gboolean check_disks(const VmDescription *d, GError **error)
{
    if (d->disks->len == 0 || d->disk_socket)
        return TRUE;
    g_set_error(error, VM_ERROR, VM_ERROR_DESCRIPTION, "disks: nothing serves them to QEMU");
    return FALSE;
}

/* Opens a card; `ret_card` is NULL unless it is attached by vhost-user. */
static gboolean open_nic(Vm *vm, const VmNic *nic, NicFds *ret_fds, VhostCard **ret_card,
                         GError **error)
{
    *ret_card = NULL;
    if (vm_nic_attach(nic) != VM_ATTACH_VHOST_USER)
        return nic_open(ret_fds, error);
    *ret_fds = (NicFds){.tap = -1, .theirs = -1, .theirs_in = -1, .ours = -1, .address = -1};
    if (!vm->ram.log)
        vm->ram.log = ram_log_new(vm->ram.size_bytes);
    *ret_card = vhost_card_new(&vm->ram, &ret_fds->address, error);
    return *ret_card != NULL;
}

static gboolean make_nics(QemuVm *self, GError **error)
{
    for (guint i = 0; i < self->vm.description->nics->len; i++) {
        NicFds fds;
        VhostCard *card;
        if (!open_nic(&self->vm, g_ptr_array_index(self->vm.description->nics, i), &fds, &card,
                      error)) {
            g_prefix_error(error, "nic %u: ", i);
            return FALSE;
        }
        g_array_append_val(self->nics, fds);
        int ours = colo_fd_steal(&g_array_index(self->nics, NicFds, i).ours);
        g_array_append_val(self->vm.nic_fds, ours);
        g_ptr_array_add(self->vm.cards, card);
    }
    return TRUE;
}

static gboolean make_state_files(QemuVm *self, GError **error)
{
    self->saved_fd = memfd_create("colo-saved", MFD_CLOEXEC);
    self->carrier_fd = memfd_create("colo-carrier", MFD_CLOEXEC);
    if (self->saved_fd >= 0 && self->carrier_fd >= 0)
        return TRUE;
    g_set_error(error, VM_ERROR, VM_ERROR_START, "can't make a memory file: %s", g_strerror(errno));
    return FALSE;
}

static gboolean make_pair(int *ret_ours, int *ret_theirs, GError **error)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        g_set_error(error, VM_ERROR, VM_ERROR_START, "can't make a socket: %s", g_strerror(errno));
        return FALSE;
    }
    *ret_ours = pair[0];
    *ret_theirs = pair[1];
    return TRUE;
}

/* The environment of QEMU; `sock` is where the preloaded library sends its userfaultfd. */
static char **make_environment(QemuVm *self, int sock)
{
    char **envp = g_environ_unsetenv(g_get_environ(), "LD_PRELOAD");
    if (!self->preload)
        return envp;
    g_autofree char *number = g_strdup_printf("%d", sock);
    g_autofree char *path = g_canonicalize_filename(self->preload, NULL);
    envp = g_environ_setenv(envp, "LD_PRELOAD", path, TRUE);
    return g_environ_setenv(envp, "COLO_UFFD_SOCKET", number, TRUE);
}

static gboolean launch(QemuVm *self, GError **error)
{
    Vm *vm = &self->vm;
    COLO_AUTO_FD qmp_ours = -1;
    COLO_AUTO_FD qmp_theirs = -1;
    COLO_AUTO_FD uffd_theirs = -1;
    COLO_AUTO_FD agent_theirs = -1;
    gboolean has_agent = vm->description->guest_agent;

    if (!make_pair(&qmp_ours, &qmp_theirs, error) ||
        !make_pair(&self->uffd_sock, &uffd_theirs, error) ||
        (has_agent && !make_pair(&vm->agent_fd, &agent_theirs, error)))
        return FALSE;
    int fixed[] = {vm->ram.memfd, self->saved_fd, self->carrier_fd, qmp_theirs, uffd_theirs};
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_array_append_vals(fds, fixed, G_N_ELEMENTS(fixed));
    g_autoptr(GPtrArray) argv =
        cmdline_build(vm->description, vm->accel, vm->ram.memfd, qmp_theirs);
    for (guint i = 0; i < self->nics->len; i++)
        nic_add_arguments(argv, fds, i, g_ptr_array_index(vm->description->nics, i),
                          &g_array_index(self->nics, NicFds, i), vm->accel);
    if (has_agent) {
        cmdline_add_agent(argv, vm->description, agent_theirs);
        g_array_append_val(fds, agent_theirs);
    }
    g_ptr_array_add(argv, NULL);
    g_auto(GStrv) envp = make_environment(self, uffd_theirs);
    self->process = process_start((char **)argv->pdata, VM_QEMU_WAY_OUT, envp, fds,
                                  on_process_ended, self, error);
    for (guint i = 0; i < self->nics->len; i++)
        nic_close(&g_array_index(self->nics, NicFds, i));
    g_array_set_size(self->nics, 0);
    if (!self->process)
        return FALSE;
    static const QmpHandler handler = {.event = on_qmp_event, .closed = on_qmp_closed};
    self->qmp = qmp_new(colo_fd_steal(&qmp_ours), "QEMU", &handler, self);
    return TRUE;
}

static gboolean prepare(QemuVm *self, GError **error)
{
    Vm *vm = &self->vm;
    const VmDescription *d = vm->description;

    if (!vm_description_check(d, error) || !check_file("kernel", d->kernel, error) ||
        !check_file("initrd", d->initrd, error) || !check_disks(d, error) ||
        (self->preload && !check_file("colo-uffd.so", self->preload, error)))
        return FALSE;
    const char *accel = choose_accel(d->accel, error);
    if (!accel)
        return FALSE;
    vm->accel = g_strdup(accel);
    vm->host_cpu = find_host_cpu(d, accel);
    if (!vm_ram_make(&vm->ram, cmdline_ram_id(d->machine), d->memory_bytes, &vm->kept_ram, error))
        return FALSE;
    vm->ram.by_kvm = !strcmp(accel, "kvm");
    return make_state_files(self, error) && make_nics(self, error) && launch(self, error);
}

/* Every question has been answered. */
static void conclude_start(QemuVm *self)
{
    g_autoptr(GError) error = g_steal_pointer(&self->failure);

    if (!error && vm_ram_find_remote(&self->vm.ram, process_pid(self->process), &error) &&
        self->preload)
        vm_ram_receive_uffd(&self->vm.ram, self->uffd_sock);
    colo_fd_close(&self->uffd_sock);
    if (error)
        fail_start(self, error);
    else
        vm_finish(&self->vm, NULL, NULL);
}

typedef gboolean (*Judge)(QemuVm *self, json_object *answer, GError **error);

static gboolean judge_version(QemuVm *self, json_object *answer, GError **error)
{
    self->vm.qemu_version = suitable_version(answer, error);
    return self->vm.qemu_version != NULL;
}

static gboolean judge_machines(QemuVm *self, json_object *answer, GError **error)
{
    g_autofree char *name = cmdline_machine_name(self->vm.description->machine);
    self->vm.machine_name = suitable_machine(answer, name, self->vm.ram.id, error);
    return self->vm.machine_name != NULL;
}

static gboolean judge_blockers(QemuVm *self, json_object *answer, GError **error)
{
    (void)self;
    return suitable_blockers(answer, error);
}

static gboolean judge_devices(QemuVm *self, json_object *answer, GError **error)
{
    (void)self;
    return suitable_devices(answer, error);
}

static gboolean judge_ram_blocks(QemuVm *self, json_object *answer, GError **error)
{
    return suitable_ram_blocks(json_object_get_string(answer), self->vm.ram.id, error);
}

/* In the order in which a failure is reported: the plainest reason first. */
static const struct {
    const char *command, *key, *value;
    Judge judge;
} questions[] = {
    {"query-version",         NULL,           NULL,                       judge_version   },
    {"query-machines",        NULL,           NULL,                       judge_machines  },
    {"qom-list",              "path",         "/machine/peripheral",      judge_devices   },
    {"qom-list",              "path",         "/machine/peripheral-anon", judge_devices   },
    {"qom-list",              "path",         "/machine/unattached",      judge_devices   },
    {"query-migrate",         NULL,           NULL,                       judge_blockers  },
    {"human-monitor-command", "command-line", "info ramblock",            judge_ram_blocks},
};

static void on_answer(json_object *result, const GError *error, gpointer user_data)
{
    QemuVm *self = user_data;
    Judge judge = questions[G_N_ELEMENTS(questions) - self->outstanding].judge;

    if (error && !g_error_matches(error, VM_ERROR, VM_ERROR_QMP)) {
        qemu_fail(self, error);
        return;
    }
    if (!self->failure) {
        if (error)
            self->failure = g_error_copy(error);
        else
            judge(self, result, &self->failure);
    }
    if (--self->outstanding == 0)
        conclude_start(self);
}

static void op_start(Vm *vm)
{
    QemuVm *self = qemu_vm(vm);
    g_autoptr(GError) error = NULL;

    if (!prepare(self, &error)) {
        fail_start(self, error);
        return;
    }
    self->outstanding = G_N_ELEMENTS(questions);
    for (gsize i = 0; i < G_N_ELEMENTS(questions); i++) {
        json_object *arguments = NULL;
        if (questions[i].key) {
            arguments = json_object_new_object();
            colo_json_add_string(arguments, questions[i].key, questions[i].value);
        }
        qemu_execute(self, questions[i].command, arguments, on_answer);
    }
}

/* ---- The end ---- */

static void op_kill(Vm *vm)
{
    stop_talking(qemu_vm(vm));
}

static void op_free(Vm *vm)
{
    QemuVm *self = qemu_vm(vm);

    stop_talking(self); /* a QEMU that ended by itself was not killed */
    for (guint i = 0; i < self->nics->len; i++)
        nic_close(&g_array_index(self->nics, NicFds, i));
    g_array_unref(self->nics);
    vm_ram_clear(&vm->ram);
    colo_fd_close(&self->uffd_sock);
    colo_fd_close(&self->saved_fd);
    colo_fd_close(&self->carrier_fd);
    g_free(self->preload);
    g_free(self);
}

static const VmOps qemu_ops = {
    .start = op_start,
    .pause = op_pause,
    .resume = op_resume,
    .save = op_save,
    .load = op_load,
    .inactivate = op_inactivate,
    .kill = op_kill,
    .free = op_free,
};

Vm *vm_qemu_new(const VmDescription *description, const char *preload, const VmHandler *handler)
{
    QemuVm *self = g_new0(QemuVm, 1);

    vm_init(&self->vm, &qemu_ops, description, handler);
    self->preload = g_strdup(preload);
    self->timeout_ms = TIMEOUT_MS_DEFAULT;
    self->nics = g_array_new(FALSE, FALSE, sizeof(NicFds));
    self->uffd_sock = self->saved_fd = self->carrier_fd = -1;
    return &self->vm;
}

void vm_qemu_set_timeout_ms(Vm *vm, unsigned timeout_ms)
{
    g_assert(vm->ops == &qemu_ops);
    qemu_vm(vm)->timeout_ms = timeout_ms;
}
