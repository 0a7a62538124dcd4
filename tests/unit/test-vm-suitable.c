/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is accepted and refused of a QEMU's answers at start, good ones and odd ones. */
#include "vm/suitable.h"

#include <string.h>

static json_object *parse(const char *text)
{
    json_object *object = json_tokener_parse(text);
    g_assert_true(object || !strcmp(text, "null"));
    return object;
}

static void expect_version(const char *text, const char *version, int code)
{
    g_autoptr(GError) error = NULL;
    json_object *object = parse(text);
    g_autofree char *got = suitable_version(object, &error);
    g_assert_cmpstr(got, ==, version);
    g_assert_cmpint(error ? error->code : -1, ==, code);
    json_object_put(object);
}

static void test_version(void)
{
    expect_version("{\"qemu\":{\"major\":7,\"minor\":2,\"micro\":22}}", "7.2.22", -1);
    expect_version("{\"qemu\":{\"major\":6,\"minor\":2,\"micro\":0}}", "6.2.0", -1);
    expect_version("{\"qemu\":{\"major\":11,\"minor\":0,\"micro\":0}}", "11.0.0", -1);
    expect_version("{\"qemu\":{\"major\":6,\"minor\":1,\"micro\":9}}", NULL, VM_ERROR_TOO_OLD);
    expect_version("{\"qemu\":{\"major\":5,\"minor\":9,\"micro\":9}}", NULL, VM_ERROR_TOO_OLD);
    expect_version("{\"qemu\":{\"major\":\"7\",\"minor\":2,\"micro\":1}}", NULL, VM_ERROR_QMP);
    expect_version("{\"qemu\":7}", NULL, VM_ERROR_QMP);
    expect_version("[]", NULL, VM_ERROR_QMP);
    expect_version("null", NULL, VM_ERROR_QMP);
}

static void expect_machine(const char *machine, const char *ram_id, const char *name, int code)
{
    static const char machines[] =
        "[{\"name\":\"microvm\",\"default-ram-id\":\"microvm.ram\"}, 5, {\"name\":7},"
        "{\"name\":\"pc-i440fx-7.2\",\"alias\":\"pc\",\"default-ram-id\":\"pc.ram\"},"
        "{\"name\":\"pc-q35-7.2\",\"alias\":\"q35\",\"default-ram-id\":\"other.ram\"}]";
    g_autoptr(GError) error = NULL;
    json_object *object = parse(machines);
    g_autofree char *got = suitable_machine(object, machine, ram_id, &error);
    g_assert_cmpstr(got, ==, name);
    g_assert_cmpint(error ? error->code : -1, ==, code);
    json_object_put(object);
}

static void test_machine(void)
{
    expect_machine("pc", "pc.ram", "pc-i440fx-7.2", -1);
    expect_machine("pc-i440fx-7.2", "pc.ram", "pc-i440fx-7.2", -1);
    expect_machine("microvm", "microvm.ram", "microvm", -1);
    expect_machine("q35", "pc.ram", NULL, VM_ERROR_UNSUPPORTED);
    expect_machine("pc-i440fx-9.9", "pc.ram", NULL, VM_ERROR_DESCRIPTION);
    g_autoptr(GError) error = NULL;
    g_assert_null(suitable_machine(NULL, "pc", "pc.ram", &error));
    g_assert_error(error, VM_ERROR, VM_ERROR_DESCRIPTION);
}

static void test_blockers(void)
{
    static const struct {
        const char *text, *message;
    } table[] = {
        {"{}",                                           NULL         },
        {"{\"status\":\"none\",\"blocked-reasons\":[]}", NULL         },
        {"{\"blocked-reasons\":[\"a is bad\",\"b\"]}",   "a is bad; b"},
        {"{\"blocked-reasons\":[5]}",                    "?"          }
    };
    for (gsize i = 0; i < G_N_ELEMENTS(table); i++) {
        g_autoptr(GError) error = NULL;
        json_object *object = parse(table[i].text);
        g_assert_cmpint(suitable_blockers(object, &error), ==, !table[i].message);
        if (table[i].message) {
            g_assert_error(error, VM_ERROR, VM_ERROR_UNSUPPORTED);
            g_assert_nonnull(strstr(error->message, table[i].message));
        }
        json_object_put(object);
    }
}

static void test_devices(void)
{
    static const struct {
        const char *type;
        gboolean good;
    } table[] = {
        {"child<virtio-net-pci>",     TRUE },
        {"child<e1000>",              TRUE },
        {"child<e1000e>",             TRUE },
        {"child<virtio-blk-pci>",     TRUE },
        {"string",                    TRUE },
        {"child<",                    TRUE },
        {"link<nvme>",                TRUE },
        {"child<nvme>",               FALSE},
        {"child<nvme-ns>",            FALSE},
        {"child<vfio-pci>",           FALSE},
        {"child<vhost-user-blk-pci>", FALSE},
        {"child<ivshmem-plain>",      FALSE},
        {"child<nvdimm>",             FALSE},
        {"child<virtio-mem-pci>",     FALSE},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(table); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *text = g_strdup_printf(
            "[{\"name\":\"type\",\"type\":\"string\"},5,{\"name\":\"d\",\"type\":\"%s\"}]",
            table[i].type);
        json_object *object = parse(text);
        g_assert_cmpint(suitable_devices(object, &error), ==, table[i].good);
        if (!table[i].good)
            g_assert_error(error, VM_ERROR, VM_ERROR_UNSUPPORTED);
        json_object_put(object);
    }
}

#define HEAD "              Block Name    PSize              Offset               Used\r\n"
#define RAM  "                  pc.ram    4 KiB  0x0000000000000000 0x0000000008000000\r\n"
#define ROMS                                                                                       \
    "    /rom@etc/acpi/tables    4 KiB  0x08080000 0x0000000000020000\r\n"                         \
    "                 pc.bios    4 KiB  0x08000000 0x0000000000040000\r\n"                         \
    "0000:00:02.0/virtio-net-pci.rom    4 KiB  0x0 0x40000\r\n"                                    \
    "                  pc.rom    4 KiB  0x0000000008040000 0x0000000000020000\r\n"

static void test_ram_blocks(void)
{
    static const struct {
        const char *info, *message;
    } table[] = {
        {HEAD RAM ROMS,                                                 NULL                      },
        {HEAD RAM,                                                      NULL                      },
        {HEAD ROMS,                                                     "lists no memory 'pc.ram'"},
        {"",                                                            "lists no memory"         },
        {HEAD RAM ROMS "   0000:00:02.0/vga.vram    4 KiB 0x0 0x0\r\n", "display adapter"         },
        {HEAD RAM "            system.flash1    4 KiB 0x0 0x0\r\n",     "-bios"                   },
        {HEAD RAM "            something.new    4 KiB 0x0 0x0\r\n",     "'something.new'"         },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(table); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_cmpint(suitable_ram_blocks(table[i].info, "pc.ram", &error), ==,
                        !table[i].message);
        if (!table[i].message)
            continue;
        g_assert_error(error, VM_ERROR, VM_ERROR_UNSUPPORTED);
        g_assert_nonnull(strstr(error->message, table[i].message));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vm/suitable/version", test_version);
    g_test_add_func("/vm/suitable/machine", test_machine);
    g_test_add_func("/vm/suitable/blockers", test_blockers);
    g_test_add_func("/vm/suitable/devices", test_devices);
    g_test_add_func("/vm/suitable/ram-blocks", test_ram_blocks);
    return g_test_run();
}
