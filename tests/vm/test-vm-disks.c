/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disks of a VM of the real QEMU (environment variable QEMU, default qemu-system-x86_64), served by the real
 * disk server: given up and opened again as a primary's and a copy's are. No guest system is needed.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/block-server.h"
#include "tests/support/vm-wait.h"
#include "vm/qemu_internal.h"

#define MIB (1024u * 1024u)

static const guint64 sizes[] = {16 * MIB};

static void sh(const char *format, ...) G_GNUC_PRINTF(1, 2);
static void sh(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *line = g_strdup_vprintf(format, args);
    va_end(args);
    int status;
    g_assert_true(g_spawn_command_line_sync(line, NULL, NULL, &status, NULL));
    g_assert_cmpint(status, ==, 0);
}

/* A server of a qcow2 image with a persistent bitmap. */
static BlockServer *serve(gboolean owner)
{
    BlockServer *server = block_server_new(sizes, 1);
    g_autofree char *image = block_server_image(server, 0);
    sh("qemu-img create -q -f qcow2 %s 4M", image);
    sh("qemu-img bitmap --add %s kept", image);
    sh("truncate -s 16M %s", image);
    server->format = "qcow2";
    g_assert_true(block_server_start(server, owner, NULL, NULL));
    return server;
}

static Vm *start_on(const BlockServer *server)
{
    g_autoptr(VmDescription) d = vm_description_new();
    g_autoptr(GError) error = NULL;
    d->name = g_strdup("test");
    d->uuid = g_strdup("6ba7b810-9dad-11d1-80b4-00c04fd430c8");
    d->machine = g_strdup("pc");
    d->memory_bytes = 64 * MIB;
    d->qemu = g_strdup(g_getenv("QEMU") ? g_getenv("QEMU") : "qemu-system-x86_64");
    d->disk_socket = g_strdup(server->socket);
    VmDisk *disk = vm_description_add_disk(d, "vda");
    disk->path = block_server_image(server, 0);
    disk->format = VM_DISK_QCOW2;
    const char *build = g_getenv("COLO_BUILD");
    g_autofree char *preload = g_build_filename(build ? build : "build", "colo-uffd.so", NULL);
    Vm *vm = vm_qemu_new(d, preload, NULL);
    vm_wait_start(vm, &error);
    g_assert_no_error(error);
    return vm;
}

static void run(Vm *vm)
{
    g_autoptr(GError) error = NULL;
    vm_wait_resume(vm, &error);
    g_assert_no_error(error);
    vm_wait_pause(vm, &error);
    g_assert_no_error(error);
}

static void give_up(Vm *vm, gboolean of_copy)
{
    g_autoptr(GError) error = NULL;
    vm_wait_inactivate(vm, of_copy, &error);
    g_assert_no_error(error);
}

static void mark(BlockServer *primary, BlockServer *replica, guint64 epoch)
{
    block_server_ok(primary, "mark", block_server_epoch(epoch));
    json_object_put(block_server_wait(replica, "MARKED"));
}

/* Of the bitmap, in the image that the server has locked. */
static gboolean is_in_use(const BlockServer *server)
{
    g_autofree char *text = NULL, *image = block_server_image(server, 0);
    g_autofree char *line = g_strdup_printf("qemu-img info -U --output=json -f qcow2 %s", image);
    g_assert_true(g_spawn_command_line_sync(line, &text, NULL, NULL, NULL));
    g_assert_nonnull(strstr(text, "\"kept\""));
    return strstr(text, "\"in-use\"") != NULL;
}

/* The copy has seen the bitmap in use, as often as it was applied to, and then gets one that is whole. */
static void test_bitmap(gconstpointer runs)
{
    BlockServer *primary = serve(TRUE), *replica = serve(FALSE);
    block_server_pair(primary, replica);
    json_object_put(block_server_wait(primary, "SYNCHRONISED"));
    Vm *vm = start_on(primary);
    mark(primary, replica, 1);
    block_server_ok(replica, "apply", block_server_epoch(1));
    g_assert_true(is_in_use(replica));
    Vm *copy = start_on(replica);
    for (guint64 epoch = 2; runs && epoch < 5; epoch++) {
        run(copy);
        mark(primary, replica, epoch);
        give_up(copy, TRUE);
        block_server_ok(replica, "apply", block_server_epoch(epoch));
    }
    if (runs)
        run(copy);
    give_up(vm, FALSE);
    mark(primary, replica, 6);
    block_server_ok(primary, "inactivate", NULL);
    give_up(copy, TRUE);
    block_server_ok(replica, "apply", block_server_epoch(6));
    g_assert_false(is_in_use(replica));
    block_server_ok(replica, "takeover", block_server_epoch(6));
    run(copy);
    g_assert_true(is_in_use(replica));
    give_up(copy, FALSE);
    g_assert_false(is_in_use(replica));
    g_autofree char *image = block_server_image(replica, 0);
    sh("qemu-img check -q -U -f qcow2 %s", image);
    vm_free(copy);
    vm_free(vm);
    block_server_free(primary);
    block_server_free(replica);
}

static char *flag_file(void)
{
    return g_strdup_printf("/tmp/colo-vm-disks-%d", (int)getpid());
}

static BlockServer *serve_with_fault(const char *what)
{
    g_autofree char *flag = flag_file();
    g_autofree char *fault = g_strdup_printf("%s:vda.img:EIO:%s", what, flag);
    g_setenv("COLO_BLOCK_FAULT", fault, TRUE);
    BlockServer *server = serve(TRUE);
    g_unsetenv("COLO_BLOCK_FAULT");
    return server;
}

/* A VM that has run, on a disk that is in step with its replica, and whose writes fail while flag_file() is there. */
typedef struct {
    char *flag;
    BlockServer *server, *replica;
    Vm *vm;
} Failing;

static void start_failing(Failing *f)
{
    f->flag = flag_file();
    f->server = serve_with_fault("write");
    f->replica = serve(FALSE);
    block_server_pair(f->server, f->replica);
    json_object_put(block_server_wait(f->server, "SYNCHRONISED"));
    f->vm = start_on(f->server);
    run(f->vm);
}

static void fail_writes(const Failing *f, gboolean fails)
{
    if (fails)
        g_assert_true(g_file_set_contents(f->flag, "", 0, NULL));
    else
        g_assert_cmpint(unlink(f->flag), ==, 0);
}

static void end_failing(Failing *f)
{
    vm_free(f->vm);
    block_server_free(f->replica);
    block_server_free(f->server);
    g_free(f->flag);
}

/*
 * What QEMU has to write is refused: it has not given the disk up. QEMU 7.2 says so, and QEMU 10 says that it has.
 * The server knows, whatever it says, and what is true of the next time.
 */
static void test_refused(void)
{
    Failing f;
    start_failing(&f);
    BlockServer *server = f.server;
    g_assert_true(is_in_use(server));
    fail_writes(&f, TRUE);
    block_server_ok(server, "watch", NULL);
    g_autoptr(GError) error = NULL;
    vm_wait_inactivate(f.vm, FALSE, &error);
    fail_writes(&f, FALSE);
    g_test_message("QEMU: %s", error ? error->message : "done");
    g_assert_true(is_in_use(server));
    json_object *reply = block_server_command(server, "mark-written", block_server_epoch(1), -1);
    g_assert_nonnull(strstr(json_object_to_json_string(json_object_object_get(reply, "return")),
                            "vda: Input\\/output error"));
    json_object_put(reply);
    run(f.vm);
    g_assert_true(is_in_use(server));
    block_server_ok(server, "watch", NULL);
    give_up(f.vm, FALSE);
    g_assert_false(is_in_use(server));
    block_server_ok(server, "mark-written", block_server_epoch(1));
    end_failing(&f);
}

static void on_written(json_object *result, const GError *error, gpointer user_data)
{
    g_assert_no_error(error);
    g_assert_cmpstr(json_object_get_string(result), ==, "");
    *(gboolean *)user_data = TRUE;
}

/* As a guest does it: clusters that are new. What refers to them is in QEMU's memory then. */
static void write_as_guest(Vm *vm, guint mib)
{
    gboolean written = FALSE;
    json_object *arguments = json_object_new_object();
    g_autofree char *line = g_strdup_printf(
        "qemu-io -d /machine/peripheral/disk0/virtio-backend \"write -P 7 %uM 64k\"", mib);
    json_object_object_add(arguments, "command-line", json_object_new_string(line));
    qmp_execute(qemu_vm(vm)->qmp, "human-monitor-command", arguments, 0, on_written, &written);
    while (!written)
        g_main_context_iteration(NULL, TRUE);
}

static gboolean has_pattern(const BlockServer *server, guint mib)
{
    g_autofree char *text = NULL, *image = block_server_image(server, 0);
    g_autofree char *line =
        g_strdup_printf("qemu-io -r -U -f qcow2 -c 'read -P 7 %uM 64k' %s", mib, image);
    g_assert_true(g_spawn_command_line_sync(line, &text, NULL, NULL, NULL));
    g_assert_nonnull(strstr(text, "64 KiB"));
    return !strstr(text, "Pattern verification failed");
}

/* A checkpoint, as a primary's node and its secondary take it. FALSE: it was refused. */
static gboolean checkpoint(BlockServer *server, BlockServer *replica, guint64 epoch)
{
    json_object *reply = block_server_command(server, "mark", block_server_epoch(epoch), -1);
    json_object *refused =
        json_object_object_get(json_object_object_get(reply, "return"), "refused");
    gboolean made = refused == NULL;
    if (!made)
        g_assert_nonnull(strstr(json_object_get_string(refused), "QEMU could not write all"));
    json_object_put(reply);
    if (made) {
        json_object_put(block_server_wait(replica, "MARKED"));
        block_server_ok(replica, "apply", block_server_epoch(epoch));
    }
    return made;
}

/*
 * QEMU writes what it keeps of an image as it pauses, and says nothing if it can't: such a pause is no checkpoint. It
 * has it still, so the next one is.
 */
static void test_unwritten(void)
{
    g_autoptr(GError) error = NULL;
    Failing f;
    start_failing(&f);
    BlockServer *server = f.server, *replica = f.replica;
    block_server_ok(server, "sync", NULL);
    g_assert_true(checkpoint(server, replica, 1));
    vm_wait_resume(f.vm, &error);
    g_assert_no_error(error);
    write_as_guest(f.vm, 1);
    block_server_ok(server, "sync", NULL);
    fail_writes(&f, TRUE);
    vm_wait_pause(f.vm, &error);
    g_assert_no_error(error);
    fail_writes(&f, FALSE);
    if (checkpoint(server, replica, 2))
        g_assert_true(has_pattern(replica, 1));
    block_server_ok(server, "sync", NULL);
    run(f.vm);
    g_assert_true(checkpoint(server, replica, 3));
    g_assert_true(has_pattern(replica, 1));
    end_failing(&f);
}

/* QEMU can't open it again, and has none then. It is not told to run the VM without. */
static void test_lost(void)
{
    static const char zeroes[512];
    char header[512];
    BlockServer *server = serve(TRUE);
    Vm *vm = start_on(server);
    g_autofree char *image = block_server_image(server, 0);
    int fd = open(image, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    run(vm);
    give_up(vm, FALSE);
    g_assert_cmpint(pread(fd, header, sizeof(header), 0), ==, sizeof(header));
    g_assert_cmpint(pwrite(fd, zeroes, sizeof(zeroes), 0), ==, sizeof(zeroes));
    for (guint i = 0; i < 3; i++) {
        g_autoptr(GError) error = NULL;
        vm_wait_resume(vm, &error);
        g_assert_error(error, VM_ERROR, VM_ERROR_SPENT);
        g_assert_nonnull(strstr(error->message, "QEMU has lost a disk"));
        g_assert_false(vm_is_running(vm));
        g_assert_cmpint(pwrite(fd, header, sizeof(header), 0), ==, sizeof(header));
    }
    close(fd);
    vm_free(vm);
    block_server_free(server);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN);
    const char *qemu = g_getenv("QEMU");
    const char *programs[] = {qemu ? qemu : "qemu-system-x86_64", "qemu-img", "qemu-io"};
    for (guint i = 0; i < G_N_ELEMENTS(programs); i++) {
        g_autofree char *path = g_find_program_in_path(programs[i]);
        if (!path) {
            g_print("1..0 # SKIP there is no %s\n", programs[i]);
            return 0;
        }
    }
    if (block_server_missing()) {
        g_print("1..0 # SKIP %s\n", block_server_missing());
        return 0;
    }
    g_test_add_data_func("/vm/disks/bitmap/waiting", NULL, test_bitmap);
    g_test_add_data_func("/vm/disks/bitmap/running", "", test_bitmap);
    g_test_add_func("/vm/disks/refused", test_refused);
    g_test_add_func("/vm/disks/unwritten", test_unwritten);
    g_test_add_func("/vm/disks/lost", test_lost);
    return g_test_run();
}
