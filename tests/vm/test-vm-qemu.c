/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM layer on a real QEMU (environment variable QEMU, default qemu-system-x86_64). No guest
 * system is needed: the firmware runs, which is enough to have state to save and load.
 */
#include "common/endian.h"
#include "tests/support/vm-wait.h"
#include "vm/vm_internal.h"

#include <glib/gstdio.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1024u * 1024u)

static const char *qemu;
static char *preload;

typedef struct {
    unsigned events;
    VmEvent last;
    char *detail;
} Seen;

static void on_event(Vm *vm, VmEvent event, const char *detail, gpointer user_data)
{
    Seen *seen = user_data;
    (void)vm;
    seen->events++;
    seen->last = event;
    g_free(seen->detail);
    seen->detail = g_strdup(detail);
}

static VmDescription *describe(const char *machine)
{
    VmDescription *d = vm_description_new();
    d->name = g_strdup("test");
    d->uuid = g_strdup("6ba7b810-9dad-11d1-80b4-00c04fd430c8");
    d->machine = g_strdup(machine);
    d->memory_bytes = 64 * MIB;
    d->qemu = g_strdup(qemu);
    return d;
}

static void add_extra(VmDescription *d, const char *option, const char *value)
{
    g_ptr_array_add(d->extra, g_strdup(option));
    g_ptr_array_add(d->extra, g_strdup(value));
}

static Vm *started(const VmDescription *d, Seen *seen)
{
    VmHandler handler = {on_event, seen};
    g_autoptr(GError) error = NULL;
    Vm *vm = vm_qemu_new(d, preload, seen ? &handler : NULL);
    vm_wait_start(vm, &error);
    g_assert_no_error(error);
    return vm;
}

static void round_trip(Vm *primary, Vm *secondary)
{
    g_autoptr(GError) error = NULL;
    gsize size = vm_ram(primary)->size_bytes;

    vm_wait_pause(primary, &error);
    g_assert_no_error(error);
    g_autoptr(GBytes) state = vm_wait_save(primary, &error);
    g_assert_no_error(error);
    memcpy(vm_ram(secondary)->base, vm_ram(primary)->base, size);
    vm_wait_load(secondary, state, &error);
    g_assert_no_error(error);
    vm_wait_resume(primary, &error);
    g_assert_no_error(error);
}

static void loads(const char *machine, unsigned times, const char *const *nics,
                  const char *const *extra)
{
    g_autoptr(VmDescription) d = describe(machine);
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; nics[i]; i++) {
        g_autofree char *mac = g_strdup_printf("52:54:00:00:00:%02x", i);
        vm_description_add_nic(d, nics[i], mac);
    }
    for (unsigned i = 0; extra[i]; i += 2)
        add_extra(d, extra[i], extra[i + 1]);
    Seen seen = {0};
    g_autoptr(Vm) primary = started(d, &seen);
    g_autoptr(Vm) secondary = started(d, &seen);

    for (unsigned i = 0; i < times; i++) {
        round_trip(primary, secondary);
        if (i % 10 == 9) { /* the state must be one that can run */
            vm_wait_resume(secondary, &error);
            g_assert_no_error(error);
            vm_wait_pause(secondary, &error);
            g_assert_no_error(error);
        }
    }
    g_assert_cmpuint(seen.events, ==, 0);
    json_object *ours = vm_identity(primary), *theirs = vm_identity(secondary);
    g_autofree char *difference = vm_identity_difference(ours, theirs);
    g_assert_null(difference);
    json_object_put(ours);
    json_object_put(theirs);
}

static void test_pc(void)
{
    loads("pc", 200, (const char *const[]){"virtio-net-pci", "e1000", NULL},
          (const char *const[]){"-device", "virtio-rng-pci", NULL});
}

static void test_q35(void)
{
    loads("q35", 50, (const char *const[]){"virtio-net-pci", "e1000e", NULL},
          (const char *const[]){"-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
                                "-drive", "if=none,id=d,driver=null-co,size=1M", "-device",
                                "virtio-blk-pci,drive=d", NULL});
}

static void test_microvm(void)
{
    loads("microvm", 50, (const char *const[]){"virtio-net-device", NULL},
          (const char *const[]){"-device", "virtio-rng-device", NULL});
}

/* ---- Refusals at start ---- */

static void expect_refused(VmDescription *d, int code, const char *says)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = vm_qemu_new(d, preload, NULL);

    g_assert_false(vm_wait_start(vm, &error));
    g_assert_error(error, VM_ERROR, code);
    if (!strstr(error->message, says))
        g_error("'%s' does not say '%s'", error->message, says);
    vm_description_free(d);
}

static VmDescription *describe_with(const char *machine, const char *option, const char *value)
{
    VmDescription *d = describe(machine);
    add_extra(d, option, value);
    return d;
}

static void test_refuses_vga(void)
{
    expect_refused(describe_with("pc", "-device", "VGA"), VM_ERROR_UNSUPPORTED, "vga.vram");
    expect_refused(describe_with("q35", "-vga", "std"), VM_ERROR_UNSUPPORTED, "display adapter");
}

static void test_refuses_nvme(void)
{
    VmDescription *d = describe_with("q35", "-drive", "if=none,id=d,driver=null-co,size=1M");
    add_extra(d, "-device", "nvme,serial=x,drive=d");
    expect_refused(d, VM_ERROR_UNSUPPORTED, "nvme");
}

static void test_refuses_ivshmem(void)
{
    VmDescription *d = describe_with("pc", "-object", "memory-backend-ram,id=m,size=1M,share=on");
    add_extra(d, "-device", "ivshmem-plain,memdev=m");
    expect_refused(d, VM_ERROR_UNSUPPORTED, "ivshmem");
}

static void test_refuses_blocked(void)
{
    VmDescription *d = describe("pc");
    g_autoptr(GError) error = NULL;
    g_autofree char *dir = g_dir_make_tmp("colo-XXXXXX", NULL);
    g_autofree char *drive = g_strdup_printf("if=none,id=d,driver=vvfat,dir=%s,rw=on", dir);

    add_extra(d, "-drive", drive);
    add_extra(d, "-device", "virtio-blk-pci,drive=d");
    g_autoptr(Vm) vm = vm_qemu_new(d, preload, NULL);
    g_assert_false(vm_wait_start(vm, &error));
    g_assert_error(error, VM_ERROR, VM_ERROR_UNSUPPORTED);
    g_assert_nonnull(strstr(error->message, "vvfat"));
    g_rmdir(dir);
    vm_description_free(d);
}

static void test_refuses_missing_binary(void)
{
    VmDescription *d = describe("pc");
    g_free(d->qemu);
    d->qemu = g_strdup("/nonexistent/qemu");
    expect_refused(d, VM_ERROR_NO_QEMU, "no such program");
    d = describe("pc");
    g_free(d->qemu);
    d->qemu = g_strdup("/bin/false");
    expect_refused(d, VM_ERROR_START, "exited with status 1");
    d = describe("pc");
    g_free(d->qemu);
    d->qemu = g_strdup("/etc/passwd");
    expect_refused(d, VM_ERROR_NO_QEMU, "not executable");
}

static void test_refuses_bad_arguments(void)
{
    VmDescription *d = describe("pc");
    expect_refused(describe_with("pc", "-nonsense", "1"), VM_ERROR_START, "nonsense");
    expect_refused(describe_with("pc", "-device", "no-such-thing"), VM_ERROR_START,
                   "no-such-thing");
    d->kernel = g_strdup("/nonexistent/vmlinuz");
    expect_refused(d, VM_ERROR_DESCRIPTION, "/nonexistent/vmlinuz");
    expect_refused(describe("pc-i440fx-99.9"), VM_ERROR_START, "machine pc-i440fx-99.9");
    d = describe("pc");
    d->memory_bytes = 0;
    expect_refused(d, VM_ERROR_DESCRIPTION, "memory");
}

/* ---- QEMU dies, hangs, is killed ---- */

typedef enum { PAUSE, RESUME, SAVE, LOAD, OPERATIONS } Operation;

typedef struct {
    gboolean answered;
    GError *error;
} Answer;

static void done(Vm *vm, const GError *error, gpointer user_data)
{
    Answer *answer = user_data;
    (void)vm;
    g_assert_false(answer->answered);
    answer->answered = TRUE;
    answer->error = error ? g_error_copy(error) : NULL;
}

static void state_done(Vm *vm, GBytes *state, const GError *error, gpointer user_data)
{
    g_assert_true(!state == !!error);
    done(vm, error, user_data);
}

static void begin(Vm *vm, Operation operation, GBytes *state, Answer *answer)
{
    if (operation == PAUSE)
        vm_pause(vm, done, answer);
    else if (operation == RESUME)
        vm_resume(vm, done, answer);
    else if (operation == SAVE)
        vm_save_device_state(vm, state_done, answer);
    else
        vm_load_device_state(vm, state, done, answer);
}

static void wait_for(Answer *answer)
{
    while (!answer->answered)
        g_main_context_iteration(NULL, TRUE);
}

static GBytes *saved_state(Vm *vm)
{
    g_autoptr(GError) error = NULL;
    GBytes *state = vm_wait_save(vm, &error);
    g_assert_no_error(error);
    return state;
}

static void test_killed_in_operation(void)
{
    g_autoptr(VmDescription) d = describe("pc");

    for (Operation operation = PAUSE; operation < OPERATIONS; operation++) {
        Seen seen = {0};
        Answer answer = {0};
        g_autoptr(Vm) vm = started(d, &seen);
        g_autoptr(GBytes) state = saved_state(vm);
        kill(vm_ram(vm)->pid, SIGSTOP);
        begin(vm, operation, state, &answer);
        kill(vm_ram(vm)->pid, SIGKILL);
        wait_for(&answer);
        g_assert_error(answer.error, VM_ERROR, VM_ERROR_DIED);
        g_assert_nonnull(strstr(answer.error->message, "signal 9"));
        g_assert_cmpuint(seen.events, ==, 0);
        g_error_free(answer.error);
        /* its RAM is still ours to read */
        g_assert_cmpint(vm_ram(vm)->base[0], >=, 0);
    }
}

static void test_killed_while_idle(void)
{
    g_autoptr(VmDescription) d = describe("pc");
    g_autoptr(GError) error = NULL;
    Seen seen = {0};
    g_autoptr(Vm) vm = started(d, &seen);

    vm_wait_resume(vm, &error);
    g_assert_no_error(error);
    kill(vm_ram(vm)->pid, SIGABRT);
    while (!seen.events)
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpint(seen.last, ==, VM_EVENT_DIED);
    g_assert_nonnull(strstr(seen.detail, "signal 6"));
    g_assert_false(vm_is_running(vm));
    g_assert_false(vm_wait_pause(vm, &error));
    g_assert_error(error, VM_ERROR, VM_ERROR_DIED);
    g_free(seen.detail);
}

static void test_hangs(void)
{
    g_autoptr(VmDescription) d = describe("pc");

    for (Operation operation = PAUSE; operation < OPERATIONS; operation++) {
        Answer answer = {0}, again = {0};
        g_autoptr(Vm) vm = started(d, NULL);
        g_autoptr(GBytes) state = saved_state(vm);
        pid_t pid = vm_ram(vm)->pid;
        vm_qemu_set_timeout_ms(vm, 100);
        kill(pid, SIGSTOP);
        begin(vm, operation, state, &answer);
        wait_for(&answer);
        g_assert_error(answer.error, VM_ERROR, VM_ERROR_TIMEOUT);
        kill(pid, SIGCONT);
        begin(vm, operation, state, &again);
        wait_for(&again);
        g_assert_error(again.error, VM_ERROR, VM_ERROR_TIMEOUT);
        g_error_free(answer.error);
        g_error_free(again.error);
        kill(pid, SIGSTOP);
        vm_kill(vm); /* ends a stopped process too */
        g_assert_cmpint(kill(pid, 0), ==, -1);
        g_assert_cmpint(errno, ==, ESRCH);
    }
}

static void test_freed_in_operation(void)
{
    g_autoptr(VmDescription) d = describe("pc");
    Answer answer = {0}, starting = {0};
    Vm *vm = started(d, NULL);

    vm_pause(vm, done, &answer);
    vm_free(vm);
    g_assert_true(answer.answered);
    g_assert_error(answer.error, VM_ERROR, VM_ERROR_DIED);
    g_error_free(answer.error);

    vm = vm_qemu_new(d, preload, NULL);
    vm_start(vm, done, &starting);
    vm_free(vm);
    g_assert_error(starting.error, VM_ERROR, VM_ERROR_DIED);
    g_error_free(starting.error);
}

/* A load that QEMU refuses leaves a VM that takes the next one. */
static void test_load_after_failed_load(void)
{
    g_autoptr(VmDescription) d = describe("pc");
    g_autoptr(Vm) vm = started(d, NULL);
    g_autoptr(GBytes) state = saved_state(vm);
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < 20; i++) {
        g_autofree guint8 *copy = g_memdup2(g_bytes_get_data(state, NULL), g_bytes_get_size(state));
        /* a letter of the first section's name, behind "QEVM", 3 and the machine's name */
        gsize first = 8 + 5 + colo_get_be32(copy + 9);
        copy[first + 6] ^= 0x20;
        g_autoptr(GBytes) broken = g_bytes_new(copy, g_bytes_get_size(state));
        g_assert_false(vm_wait_load(vm, broken, &error));
        g_assert_error(error, VM_ERROR, VM_ERROR_QMP);
        g_clear_error(&error);
        vm_wait_load(vm, state, &error);
        g_assert_no_error(error);
    }
    g_autoptr(GBytes) other = g_bytes_new("QEVM", 4);
    g_assert_false(vm_wait_load(vm, other, &error));
    g_assert_error(error, VM_ERROR, VM_ERROR_DEVICE_STATE);
    g_clear_error(&error);
    vm_wait_resume(vm, &error);
    g_assert_no_error(error);
}

static void test_pause_and_resume_twice(void)
{
    g_autoptr(VmDescription) d = describe("q35");
    g_autoptr(Vm) vm = started(d, NULL);
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < 2; i++)
        g_assert_true(vm_wait_pause(vm, &error));
    for (unsigned i = 0; i < 2; i++)
        g_assert_true(vm_wait_resume(vm, &error));
    g_assert_true(vm_is_running(vm));
    for (unsigned i = 0; i < 2; i++)
        g_assert_true(vm_wait_pause(vm, &error));
    g_assert_false(vm_is_running(vm));
    g_assert_no_error(error);
}

/* ---- A guest that sleeps ---- */

/* Linux with a shell on the serial line, or NULL: there is none. */
static VmDescription *describe_linux(const char *serial)
{
    const char *build = g_getenv("COLO_BUILD");
    g_autofree char *kernel = g_build_filename(build ? build : "build", "guest", "vmlinuz", NULL);
    if (!g_file_test(kernel, G_FILE_TEST_EXISTS)) {
        g_test_skip("no guest: run make guest");
        return NULL;
    }
    VmDescription *d = describe("pc");
    d->memory_bytes = 256 * MIB;
    d->initrd = g_build_filename(build ? build : "build", "guest", "initrd.gz", NULL);
    d->kernel = g_steal_pointer(&kernel);
    d->append = g_strdup("console=ttyS0 quiet rdinit=/bin/sh");
    g_free(d->serial);
    d->serial = g_strdup_printf("unix:%s", serial);
    return d;
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    return fd;
}

static void type(int fd, const char *line)
{
    g_assert_cmpint(write(fd, line, strlen(line)), ==, (gssize)strlen(line));
}

/* Reads the serial line until it has said `text`. The main loop stands meanwhile. */
static void hear(int fd, const char *text)
{
    g_autoptr(GString) heard = g_string_new(NULL);
    char c;
    while (!strstr(heard->str, text)) {
        g_assert_cmpint(read(fd, &c, 1), ==, 1);
        g_string_append_c(heard, c);
    }
}

/* The guest is told to sleep, and offered to. TRUE: QEMU has refused to stop it. */
static gboolean is_refused_to_sleeper(Vm *vm, int serial)
{
    g_autoptr(GError) error = NULL;
    hear(serial, "# ");
    type(serial, "busybox mount -t sysfs sys /sys; echo rea''dy; echo mem >/sys/power/state\n");
    hear(serial, "ready");
    /* It takes its time to fall asleep. */
    for (unsigned i = 0; i < 600; i++) {
        if (!vm_wait_pause(vm, &error))
            break;
        vm_wait_resume(vm, &error);
        g_assert_no_error(error);
        g_usleep(50 * 1000);
    }
    if (!error)
        return FALSE;
    g_assert_error(error, VM_ERROR, VM_ERROR_QMP);
    g_assert_nonnull(strstr(error->message, "sleeps"));
    g_assert_true(vm_is_running(vm));
    return TRUE;
}

/* What QEMU 7.2 reports as done, and isn't: a guest that sleeps is not paused, nor taken for it. */
static void test_sleeps(void)
{
    g_autofree char *folder = g_dir_make_tmp("colo-test-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "serial", NULL);
    g_autoptr(VmDescription) d = describe_linux(path);
    g_autoptr(GError) error = NULL;
    if (!d)
        return;
    add_extra(d, "-global", "PIIX4_PM.disable_s3=0");
    g_autoptr(Vm) vm = started(d, NULL);
    if (atoi(vm->qemu_version) > 7) {
        g_test_skip("this QEMU stops a guest that sleeps");
        return;
    }
    int serial = connect_to(path);
    g_assert_true(vm_wait_resume(vm, &error));
    g_assert_true(is_refused_to_sleeper(vm, serial));
    close(serial);
    g_unlink(path);
    g_rmdir(folder);
}

/* Unless somebody wants it, no guest is offered to. */
static void test_is_offered_no_sleep(void)
{
    g_autofree char *folder = g_dir_make_tmp("colo-test-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "serial", NULL);
    g_autoptr(VmDescription) d = describe_linux(path);
    g_autoptr(GError) error = NULL;
    if (!d)
        return;
    g_autoptr(Vm) vm = started(d, NULL);
    int serial = connect_to(path);
    g_assert_true(vm_wait_resume(vm, &error));
    hear(serial, "# ");
    type(serial,
         "busybox mount -t sysfs sys /sys; echo '<'`busybox cat /sys/power/mem_sleep`'>'\n");
    hear(serial, "\n<[s2idle]>");
    close(serial);
    g_unlink(path);
    g_rmdir(folder);
}

static void test_userfaultfd(void)
{
    g_autoptr(VmDescription) d = describe("pc");
    g_autoptr(Vm) vm = started(d, NULL);
    const VmRam *ram = vm_ram(vm);

    g_assert_true((ram->uffd >= 0) == !ram->no_uffd);
    if (ram->no_uffd)
        g_assert_true(strstr(ram->no_uffd, "userfaultfd") != NULL);
    g_assert_cmpuint(ram->size_bytes, ==, 64 * MIB);
    g_assert_cmpuint(ram->remote_base % VM_PAGE_SIZE, ==, 0);

    g_autoptr(Vm) without = vm_qemu_new(d, NULL, NULL);
    g_autoptr(GError) error = NULL;
    vm_wait_start(without, &error);
    g_assert_no_error(error);
    g_assert_cmpint(vm_ram(without)->uffd, ==, -1);
    g_assert_nonnull(vm_ram(without)->no_uffd);
}

/* ---- Nothing is left behind ---- */

static unsigned count_fds(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    g_assert_nonnull(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

/* In this process's namespace, which main() made: /sys would show that of whoever mounted it. */
static unsigned count_interfaces(void)
{
    unsigned count = 0;
    struct if_nameindex *all = if_nameindex();
    g_assert_nonnull(all);
    while (all[count].if_index != 0)
        count++;
    if_freenameindex(all);
    return count;
}

static void test_leaves_nothing(void)
{
    g_autoptr(VmDescription) d = describe("pc");
    vm_description_add_nic(d, "virtio-net-pci", "52:54:00:00:00:01");
    vm_free(started(d, NULL)); /* whatever libraries open once */
    unsigned fds = count_fds(), interfaces = count_interfaces();

    for (unsigned i = 0; i < 5; i++) {
        Vm *vm = started(d, NULL);
        pid_t pid = vm_ram(vm)->pid;
        vm_free(vm);
        g_assert_cmpint(kill(pid, 0), ==, -1);
        g_autoptr(VmDescription) bad = describe_with("pc", "-device", "VGA");
        vm_description_add_nic(bad, "virtio-net-pci", "52:54:00:00:00:01");
        g_autoptr(Vm) refused = vm_qemu_new(bad, preload, NULL);
        g_assert_false(vm_wait_start(refused, NULL));
    }
    g_assert_cmpuint(count_fds(), ==, fds);
    g_assert_cmpuint(count_interfaces(), ==, interfaces);
}

/* QEMU dies with us: a child of this test starts one and is killed. */
static void test_dies_with_us(void)
{
    int report[2];
    pid_t qemu_pid = 0;
    int failed = pipe(report);
    g_assert_false(failed);
    pid_t child = fork();

    if (child == 0) {
        g_autoptr(VmDescription) d = describe("pc");
        Vm *vm = started(d, NULL);
        (void)!write(report[1], &vm_ram(vm)->pid, sizeof(pid_t));
        pause();
        _exit(0);
    }
    g_assert_cmpint(read(report[0], &qemu_pid, sizeof(qemu_pid)), ==, sizeof(qemu_pid));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    /* it is not our child, so its end shows as the end of its entry, or as a zombie of init's */
    g_autofree char *path = g_strdup_printf("/proc/%d/maps", (int)qemu_pid);
    for (;;) {
        g_autofree char *maps = NULL;
        if (!g_file_get_contents(path, &maps, NULL, NULL) || !*maps)
            break;
        g_usleep(1000);
    }
    close(report[0]);
    close(report[1]);
}

/* ---- Frames ---- */

static void test_framing_reaches_card(void)
{
    g_autoptr(VmDescription) d = describe("pc");
    g_autoptr(GError) error = NULL;
    vm_description_add_nic(d, "virtio-net-pci", "52:54:00:00:00:01");
    g_autoptr(Vm) vm = started(d, NULL);
    g_autofree guint8 *frames = g_malloc0(1000 * 80);

    for (unsigned i = 0; i < 1000; i++) { /* be32 72, be32 12, header, 60 bytes */
        frames[i * 80 + 3] = 72;
        frames[i * 80 + 7] = 12;
    }
    vm_wait_resume(vm, &error);
    g_assert_no_error(error);
    for (gsize sent = 0; sent < 80000;) { /* a card that is not set up takes, and drops, them */
        ssize_t put = write(vm_nic_fd(vm, 0), frames + sent, 80000 - sent);
        g_assert_true(put > 0 || errno == EAGAIN);
        sent += put > 0 ? (gsize)put : 0;
    }
    vm_wait_pause(vm, &error); /* QEMU has not choked on them */
    g_assert_no_error(error);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu = g_getenv("QEMU") ? g_getenv("QEMU") : "qemu-system-x86_64";
    g_autofree char *found = g_find_program_in_path(qemu);
    if (!found) {
        printf("1..0 # SKIP there is no %s\n", qemu);
        return 0;
    }
    /* A network of its own: the interfaces that it counts are no other test's. */
    if (geteuid() == 0)
        g_assert_cmpint(unshare(CLONE_NEWNET), ==, 0);
    const char *build = g_getenv("COLO_BUILD");
    preload = g_build_filename(build ? build : "build", "colo-uffd.so", NULL);
    g_test_add_func("/vm/qemu/loads/pc", test_pc);
    g_test_add_func("/vm/qemu/loads/q35", test_q35);
    g_test_add_func("/vm/qemu/loads/microvm", test_microvm);
    g_test_add_func("/vm/qemu/refuses/vga", test_refuses_vga);
    g_test_add_func("/vm/qemu/refuses/nvme", test_refuses_nvme);
    g_test_add_func("/vm/qemu/refuses/ivshmem", test_refuses_ivshmem);
    g_test_add_func("/vm/qemu/refuses/migration-blocker", test_refuses_blocked);
    g_test_add_func("/vm/qemu/refuses/missing-binary", test_refuses_missing_binary);
    g_test_add_func("/vm/qemu/refuses/bad-arguments", test_refuses_bad_arguments);
    g_test_add_func("/vm/qemu/killed/in-operation", test_killed_in_operation);
    g_test_add_func("/vm/qemu/killed/while-idle", test_killed_while_idle);
    g_test_add_func("/vm/qemu/hangs", test_hangs);
    g_test_add_func("/vm/qemu/freed-in-operation", test_freed_in_operation);
    g_test_add_func("/vm/qemu/load-after-failed-load", test_load_after_failed_load);
    g_test_add_func("/vm/qemu/pause-and-resume-twice", test_pause_and_resume_twice);
    g_test_add_func("/vm/qemu/sleeps", test_sleeps);
    g_test_add_func("/vm/qemu/is-offered-no-sleep", test_is_offered_no_sleep);
    g_test_add_func("/vm/qemu/userfaultfd", test_userfaultfd);
    g_test_add_func("/vm/qemu/leaves-nothing", test_leaves_nothing);
    g_test_add_func("/vm/qemu/dies-with-us", test_dies_with_us);
    g_test_add_func("/vm/qemu/framing", test_framing_reaches_card);
    int status = g_test_run();
    g_free(preload);
    return status;
}
