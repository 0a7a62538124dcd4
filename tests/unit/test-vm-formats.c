/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Device state and its carrier, as bytes. That a QEMU accepts them is tested in tests/vm. */
#include "common/endian.h"
#include "vm/carrier.h"
#include "vm/devstate.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char machine[] = "pc-i440fx-7.2";
/* "QEVM", 3, one section "timer" with two bytes and a footer, end */
static const guint8 saved[] = {0x51, 0x45, 0x56, 0x4d, 0,    0,    0,   3, 4, 0, 0, 0,
                               2,    5,    't',  'i',  'm',  'e',  'r', 0, 0, 0, 0, 0,
                               0,    0,    2,    0xaa, 0xbb, 0x7e, 0,   0, 0, 2, 0};

static GBytes *loadable(void)
{
    g_autoptr(GError) error = NULL;
    GBytes *state = devstate_from_saved(saved, sizeof(saved), machine, &error);
    g_assert_no_error(error);
    return state;
}

static void test_conversion(void)
{
    g_autoptr(GBytes) state = loadable();
    g_autoptr(GError) error = NULL;
    gsize len;
    const guint8 *at = g_bytes_get_data(state, &len);
    gsize name = sizeof(machine) - 1;

    g_assert_cmpmem(at, 8, saved, 8);
    g_assert_cmpint(at[8], ==, 7);
    g_assert_cmpuint(colo_get_be32(at + 9), ==, name);
    g_assert_cmpmem(at + 13, name, machine, name);
    g_assert_cmpmem(at + 13 + name, sizeof(saved) - 8, saved + 8, sizeof(saved) - 8);
    at += 13 + name + sizeof(saved) - 8;
    g_assert_cmpint(at[0], ==, 6);
    g_assert_cmpint(at[5], ==, '{');
    g_assert_cmpuint(colo_get_be32(at + 1) + 5 + 13 + name + sizeof(saved) - 8, ==, len);
    g_assert_true(devstate_check(g_bytes_get_data(state, NULL), len, machine, &error));
}

static void test_saved_damaged(void)
{
    static const struct {
        gsize at;
        guint8 value;
        const char *message;
    } table[] = {
        {0,                 'X', "begin"             },
        {7,                 4,   "version"           },
        {8,                 1,   "not a whole device"},
        {13,                0,   "name"              },
        {13,                99,  "name"              },
        {14,                7,   "name"              },
        {sizeof(saved) - 1, 1,   "incomplete"        }
    };

    for (gsize i = 0; i < G_N_ELEMENTS(table); i++) {
        guint8 copy[sizeof(saved)];
        g_autoptr(GError) error = NULL;
        memcpy(copy, saved, sizeof(copy));
        copy[table[i].at] = table[i].value;
        g_assert_null(devstate_from_saved(copy, sizeof(copy), machine, &error));
        g_assert_error(error, VM_ERROR, VM_ERROR_DEVICE_STATE);
        g_assert_nonnull(strstr(error->message, table[i].message));
    }
}

/* Every truncation is refused, of what was saved and of what is to be loaded. */
static void test_truncated(void)
{
    g_autoptr(GBytes) state = loadable();
    const guint8 *whole = g_bytes_get_data(state, NULL);

    for (gsize len = 0; len < g_bytes_get_size(state); len++) {
        g_autoptr(GError) error = NULL;
        g_autofree guint8 *cut = g_memdup2(whole, len);
        g_assert_false(devstate_check(cut, len, machine, &error));
        g_assert_error(error, VM_ERROR, VM_ERROR_DEVICE_STATE);
    }
    for (gsize len = 0; len < 8 + 15 + 5 + 1; len++) {
        g_autoptr(GError) error = NULL;
        g_autofree guint8 *cut = g_memdup2(saved, len);
        g_assert_null(devstate_from_saved(cut, len, machine, &error));
        g_assert_error(error, VM_ERROR, VM_ERROR_DEVICE_STATE);
    }
}

static void test_other_machine(void)
{
    g_autoptr(GBytes) state = loadable();
    g_autoptr(GError) error = NULL;
    gsize len;
    const guint8 *at = g_bytes_get_data(state, &len);

    g_assert_false(devstate_check(at, len, "pc-q35-7.2", &error));
    g_assert_nonnull(strstr(error->message, "pc-i440fx-7.2"));
    g_assert_nonnull(strstr(error->message, "pc-q35-7.2"));
}

static void test_hostile_name(void)
{
    g_autoptr(GBytes) state = loadable();
    gsize len;
    const guint8 *at = g_bytes_get_data(state, &len);
    static const guint32 lengths[] = {0, 65, 0x7fffffff, 0xffffffff};

    for (gsize i = 0; i < G_N_ELEMENTS(lengths); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree guint8 *copy = g_memdup2(at, len);
        colo_put_be32(copy + 9, lengths[i]);
        g_assert_false(devstate_check(copy, len, machine, &error));
        g_assert_error(error, VM_ERROR, VM_ERROR_DEVICE_STATE);
    }
    g_autoptr(GError) error = NULL;
    g_autofree guint8 *copy = g_memdup2(at, len);
    copy[15] = '\0';
    g_assert_false(devstate_check(copy, len, machine, &error));
    g_assert_error(error, VM_ERROR, VM_ERROR_DEVICE_STATE);
}

/* Follows the image's pointers as QEMU does, from the header to the state. */
static void check_carrier(int fd, const guint8 *state, gsize len)
{
    struct stat st;
    int failed = fstat(fd, &st);
    g_assert_false(failed);
    const guint8 *image = mmap(NULL, (gsize)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    g_assert_true(image != MAP_FAILED);

    g_assert_cmpuint(colo_get_be32(image), ==, 0x514649fb);
    g_assert_cmpuint(colo_get_be32(image + 60), ==, 1);
    const guint8 *snapshot = image + colo_get_be64(image + 64);
    g_assert_cmpuint(colo_get_be32(snapshot + 32), ==, len);
    g_assert_cmpuint(colo_get_be64(snapshot + 40), ==, len);
    g_assert_cmpmem(snapshot + 65, 4, CARRIER_TAG, 4);
    const guint8 *l1 = image + colo_get_be64(snapshot);
    const guint8 *l2 = image + colo_get_be64(l1 + 8);
    const guint8 *refcounts = image + colo_get_be64(image + colo_get_be64(image + 48));
    for (gsize at = 0; at < len; at += 65536) {
        guint64 offset = colo_get_be64(l2 + 8 * (at / 65536));
        g_assert_cmpuint(offset + MIN(65536, len - at), <=, (guint64)st.st_size);
        g_assert_cmpmem(image + offset, MIN(65536, len - at), state + at, MIN(65536, len - at));
        g_assert_cmpuint(colo_get_be16(refcounts + 2 * (offset / 65536)), ==, 1);
    }
    for (gsize cluster = 0; cluster < (gsize)st.st_size / 65536; cluster++)
        g_assert_cmpuint(colo_get_be16(refcounts + 2 * cluster), ==, 1);
    g_assert_cmpuint(colo_get_be16(refcounts + 2 * ((gsize)st.st_size / 65536)), ==, 0);
    munmap((void *)image, (gsize)st.st_size);
}

static void test_carrier(void)
{
    static const gsize lengths[] = {1, 65535, 65536, 65537, 200000, 5, DEVSTATE_MAX_BYTES, 100};
    int fd = memfd_create("carrier", MFD_CLOEXEC);
    g_autofree guint8 *state = g_malloc(DEVSTATE_MAX_BYTES);

    for (gsize i = 0; i < DEVSTATE_MAX_BYTES; i++)
        state[i] = (guint8)(i * 7 + i / 251);
    for (gsize i = 0; i < G_N_ELEMENTS(lengths); i++) {
        g_autoptr(GError) error = NULL;
        vm_carrier_write(fd, state, lengths[i], &error);
        g_assert_no_error(error);
        check_carrier(fd, state, lengths[i]);
    }
    close(fd);
}

static void test_carrier_full(void)
{
    g_autoptr(GError) error = NULL;
    int fd = memfd_create("carrier", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int failed = fcntl(fd, F_ADD_SEALS, F_SEAL_GROW);
    g_assert_false(failed);
    g_assert_false(vm_carrier_write(fd, "x", 1, &error));
    g_assert_true(error->domain == G_FILE_ERROR);
    close(fd);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vm/devstate/conversion", test_conversion);
    g_test_add_func("/vm/devstate/saved-damaged", test_saved_damaged);
    g_test_add_func("/vm/devstate/truncated", test_truncated);
    g_test_add_func("/vm/devstate/other-machine", test_other_machine);
    g_test_add_func("/vm/devstate/hostile-name", test_hostile_name);
    g_test_add_func("/vm/carrier/pointers", test_carrier);
    g_test_add_func("/vm/carrier/file-cannot-grow", test_carrier_full);
    return g_test_run();
}
