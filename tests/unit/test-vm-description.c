/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptions, identities, and the command line that is made of them. */
#include "tests/support/fake-vm.h"
#include "vm/cmdline.h"

#include <glib/gstdio.h>

#include <string.h>

#define MIB (1024u * 1024u)

static void expect_wrong(VmDescription *d, const char *message)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(vm_description_check(d, &error));
    g_assert_error(error, VM_ERROR, VM_ERROR_DESCRIPTION);
    if (!strstr(error->message, message))
        g_error("'%s' does not say '%s'", error->message, message);
    vm_description_free(d);
}

static VmDescription *good(void)
{
    return fake_vm_description(64 * MIB, 2);
}

#define EXPECT_STRING(field, value, message)                                                       \
    do {                                                                                           \
        VmDescription *d = good();                                                                 \
        g_free(d->field);                                                                          \
        d->field = g_strdup(value);                                                                \
        expect_wrong(d, message);                                                                  \
    } while (0)

static void test_strings(void)
{
    EXPECT_STRING(name, NULL, "name");
    EXPECT_STRING(name, "", "name");
    EXPECT_STRING(name, "a,b", "name: 'a,b'");
    EXPECT_STRING(uuid, NULL, "uuid");
    EXPECT_STRING(uuid, "123", "uuid: '123'");
    EXPECT_STRING(machine, NULL, "machine");
    EXPECT_STRING(machine, "isapc", "'isapc' is not supported");
    EXPECT_STRING(machine, "pc,memory-backend=x", "memory-backend=x");
    EXPECT_STRING(machine, "q35,accel=kvm", "accel=kvm");
    EXPECT_STRING(cpu, "a b", "cpu");
    EXPECT_STRING(initrd, "/x", "initrd: it needs a kernel");
    EXPECT_STRING(append, "x", "append: it needs a kernel");
    EXPECT_STRING(kernel, "", "kernel");
    EXPECT_STRING(serial, "tcp:1", "serial: 'tcp:1'");
    EXPECT_STRING(serial, "file:", "serial");
    EXPECT_STRING(qemu, "", "qemu");
}

static void test_numbers(void)
{
    static const guint64 sizes[] = {0, 1, MIB + 1, (G_GUINT64_CONSTANT(1) << 40) + MIB};
    for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++) {
        VmDescription *d = good();
        d->memory_bytes = sizes[i];
        expect_wrong(d, "memory");
    }
    VmDescription *d = good();
    d->cpus = 0;
    expect_wrong(d, "cpus: 0");
    d = good();
    d->cpus = 256;
    expect_wrong(d, "cpus: 256");
}

static void expect_wrong_nic(const char *model, const char *mac, const char *message)
{
    VmDescription *d = good();
    vm_description_add_nic(d, model, mac);
    expect_wrong(d, message);
}

static void test_nics(void)
{
    expect_wrong_nic("virtio,x=y", "52:54:00:00:00:09", "nic 2: model");
    expect_wrong_nic("", "52:54:00:00:00:09", "nic 2: model");
    expect_wrong_nic("e1000", "52:54:00:00:00", "nic 2: mac");
    expect_wrong_nic("e1000", "52:54:00:00:00:0g", "nic 2: mac");
    expect_wrong_nic("e1000", "52-54-00-00-00-09", "nic 2: mac");
    expect_wrong_nic("e1000", "53:54:00:00:00:09", "multicast");
    expect_wrong_nic("e1000", "00:00:00:00:00:00", "no address");
    expect_wrong_nic("e1000", "52:54:00:12:34:01", "that of nic 1 too");
    VmDescription *d = good();
    vm_description_add_nic(d, "e1000", "52:54:00:00:00:09")->attach = VM_ATTACH_VHOST_USER;
    expect_wrong(d, "attach: vhost-user is for virtio-net-pci only");
}

/* The caller finds the line of colod.conf by these, not by the message. */
static void expect_fault(VmDescription *d, int part, guint index, const char *key)
{
    VmFault fault;
    g_autoptr(GError) error = NULL;
    g_assert_false(vm_description_find_fault(d, &fault, &error));
    g_assert_cmpint((int)fault.part, ==, part);
    g_assert_cmpuint(fault.index, ==, index);
    g_assert_cmpstr(fault.key, ==, key);
    g_assert_false(g_str_has_prefix(error->message, "nic "));
    vm_description_free(d);
}

static void test_faults(void)
{
    VmDescription *d = good();
    d->cpus = 0;
    expect_fault(d, VM_PART_MACHINE, 0, "cpus");
    d = good();
    g_ptr_array_add(d->extra, g_strdup("-S"));
    expect_fault(d, VM_PART_MACHINE, 0, "extra");
    d = good();
    vm_description_add_nic(d, "e1000", "52:54:00:12:34:01");
    expect_fault(d, VM_PART_NIC, 2, "mac");
    d = good();
    vm_description_add_nic(d, "e1000", "52:54:00:00:00:09")->attach = VM_ATTACH_VHOST_USER;
    expect_fault(d, VM_PART_NIC, 2, "attach");
    d = good();
    vm_description_add_disk(d, "root");
    expect_fault(d, VM_PART_DISK, 0, "path");
    d = good();
    for (guint i = 0; i < 33; i++)
        vm_description_add_disk(d, "root");
    expect_fault(d, VM_PART_MACHINE, 0, "disks");
}

static void test_extra(void)
{
    static const char *const bad[] = {"-S", "--machine", "-m", "-incoming", "-netdev", "", "-numa"};
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        VmDescription *d = good();
        g_ptr_array_add(d->extra, g_strdup("-device"));
        g_ptr_array_add(d->extra, g_strdup(bad[i]));
        if (!strcmp(bad[i], "-netdev")) { /* fine: a card may have a network of its own */
            g_autoptr(GError) error = NULL;
            g_assert_true(vm_description_check(d, &error));
            g_assert_no_error(error);
            vm_description_free(d);
            continue;
        }
        expect_wrong(d, "extra argument");
    }
}

static void test_good(void)
{
    static const char *const machines[] = {"pc",         "q35",           "microvm",
                                           "pc-q35-7.2", "pc-i440fx-6.2", "pc,usb=off"};
    for (gsize i = 0; i < G_N_ELEMENTS(machines); i++) {
        g_autoptr(VmDescription) d = good();
        g_autoptr(GError) error = NULL;
        g_free(d->machine);
        d->machine = g_strdup(machines[i]);
        vm_description_check(d, &error);
        g_assert_no_error(error);
    }
}

static void test_copy(void)
{
    g_autoptr(VmDescription) d = good();
    d->kernel = g_strdup("/k");
    d->cpu = g_strdup("host");
    g_ptr_array_add(d->extra, g_strdup("-rtc"));
    g_autoptr(VmDescription) copy = vm_description_copy(d);
    g_assert_cmpstr(copy->kernel, ==, "/k");
    g_assert_cmpstr(copy->cpu, ==, "host");
    g_assert_cmpuint(copy->nics->len, ==, 2);
    g_assert_cmpstr(g_ptr_array_index(copy->extra, 0), ==, "-rtc");
    g_assert_false(copy->guest_agent);
    g_assert_true(copy->kernel != d->kernel);
}

/* ---- Identity ---- */

static json_object *identity_of(VmDescription *d)
{
    g_autoptr(Vm) vm = fake_vm_new(d, 1, NULL);
    return vm_identity(vm);
}

static void expect_difference(VmDescription *theirs, const char *text)
{
    g_autoptr(VmDescription) d = good();
    json_object *a = identity_of(d), *b = identity_of(theirs);
    g_autofree char *difference = vm_identity_difference(a, b);
    g_assert_cmpstr(difference, ==, text);
    json_object_put(a);
    json_object_put(b);
    vm_description_free(theirs);
}

static void test_identity(void)
{
    VmDescription *d = good();
    g_free(d->serial);
    d->serial = g_strdup("file:/other");
    d->qemu = g_strdup("/other/qemu");
    expect_difference(d, NULL);

    d = good();
    d->cpus = 2;
    expect_difference(d, "cpus: 1 here, 2 there");
    d = good();
    d->cpu = g_strdup("host");
    expect_difference(d, "cpu: none here, host there");
    d = good();
    d->memory_bytes *= 2;
    expect_difference(d, "memory: 67108864 here, 134217728 there");
    d = good();
    d->guest_agent = TRUE;
    expect_difference(d, "guest-agent: no here, yes there");
    d = good();
    g_ptr_array_add(d->extra, g_strdup("-rtc"));
    expect_difference(d, "extra: [] here, [\"-rtc\"] there");
    d = good();
    g_ptr_array_remove_index(d->nics, 0);
    json_object *ours = identity_of(d);
    json_object_put(ours);
    vm_description_free(d);
}

/* A card that is attached by vhost-user is another one for the guest. auto is the redirector. */
static void test_attach(void)
{
    VmDescription *d = good();
    VmNic *nic = g_ptr_array_index(d->nics, 0);
    nic->attach = VM_ATTACH_REDIRECTOR;
    g_assert_cmpint(vm_nic_attach(nic), ==, VM_ATTACH_REDIRECTOR);
    expect_difference(d, NULL);
    d = good();
    nic = g_ptr_array_index(d->nics, 0);
    g_assert_cmpint(vm_nic_attach(nic), ==, VM_ATTACH_REDIRECTOR);
    nic->attach = VM_ATTACH_VHOST_USER;
    json_object *ours = identity_of(d);
    g_autoptr(VmDescription) plain = good();
    json_object *theirs = identity_of(plain);
    g_autofree char *difference = vm_identity_difference(ours, theirs);
    g_assert_nonnull(strstr(difference, "vhost-user"));
    json_object_put(ours);
    json_object_put(theirs);
    g_autoptr(VmDescription) copy = vm_description_copy(d);
    nic = g_ptr_array_index(copy->nics, 0);
    g_assert_cmpint(nic->attach, ==, VM_ATTACH_VHOST_USER);
    vm_description_free(d);
}

static void test_mac_case(void)
{
    VmDescription *d = good();
    VmNic *nic = g_ptr_array_index(d->nics, 1);
    g_free(nic->mac);
    nic->mac = g_strdup("52:54:00:12:34:01");
    for (char *c = nic->mac; *c; c++)
        *c = g_ascii_toupper(*c);
    expect_difference(d, NULL);
}

static void test_files_by_content(void)
{
    g_autofree char *dir = g_dir_make_tmp("colo-XXXXXX", NULL);
    g_autofree char *a = g_build_filename(dir, "a", NULL), *b = g_build_filename(dir, "b", NULL);
    g_autoptr(VmDescription) here = good();
    g_autoptr(VmDescription) there = good();

    g_assert_true(g_file_set_contents(a, "kernel", -1, NULL));
    g_assert_true(g_file_set_contents(b, "kernel", -1, NULL));
    here->kernel = g_strdup(a);
    there->kernel = g_strdup(b);
    json_object *ours = identity_of(here), *theirs = identity_of(there);
    g_assert_null(vm_identity_difference(ours, theirs));
    json_object_put(theirs);
    g_assert_true(g_file_set_contents(b, "kernel2", -1, NULL));
    theirs = identity_of(there);
    g_autofree char *difference = vm_identity_difference(ours, theirs);
    g_assert_true(g_str_has_prefix(difference, "kernel: "));
    json_object_put(ours);
    json_object_put(theirs);
    g_remove(a);
    g_remove(b);
    g_rmdir(dir);
}

/* A QEMU of another version only if both sides say so, and with a machine that has one. */
static void test_other_qemu(void)
{
#define ID(qemu, machine, accepts) "{\"qemu\":\"" qemu "\",\"machine\":\"" machine "\"" accepts "}"
#define YES                        ",\"accept-other-qemu\":\"yes\""
    static const struct {
        const char *mine, *theirs, *begins;
    } cases[] = {
        {ID("7.2.0", "pc-q35-7.2",    YES),         ID("10.0.2",                           "pc-q35-7.2",             YES), NULL                 },
        {ID("7.2.0", "pc-i440fx-7.2", YES),         ID("10.0.2",                           "pc-i440fx-7.2",          YES), NULL                 },
        {ID("7.2.0", "pc-q35-7.2",    ""),          ID("10.0.2",                           "pc-q35-7.2",             ""),
         "qemu: 7.2.0 here, 10.0.2 there (install the same QEMU"                                                                                },
        {ID("7.2.0", "pc-q35-7.2",    YES),         ID("10.0.2",                           "pc-q35-7.2",             ""),  "qemu: 7.2.0 here"   },
        {ID("7.2.0", "pc-q35-7.2",    ""),          ID("10.0.2",                           "pc-q35-7.2",             YES), "qemu: 7.2.0 here"   },
        {ID("7.2.0", "pc-q35-7.2",    YES),         ID("10.0.2",                           "pc-q35-10.0",            YES), "machine: pc-q35-7.2"},
        {ID("7.2.0", "microvm",       YES),         ID("10.0.2",                           "microvm",                YES), "qemu: 7.2.0 here"   },
        {ID("7.2.0", "x-1.",          YES),         ID("10.0.2",                           "x-1.",                   YES), "qemu: 7.2.0 here"   },
        {ID("7.2.0", "pc-q35-7.2",    YES),         "{\"machine\":\"pc-q35-7.2\"" YES "}", "qemu: 7.2.0 here"      },
        {ID("7.2.0",      "pc-q35-7.2",           YES), ID("7.2.0",                                   "pc-q35-7.2", ""),     "accept-other-qemu: yes"                },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        json_object *mine = json_tokener_parse(cases[i].mine);
        json_object *theirs = json_tokener_parse(cases[i].theirs);
        g_autofree char *text = vm_identity_difference(mine, theirs);
        if (!cases[i].begins)
            g_assert_cmpstr(text, ==, NULL);
        else if (!text || !g_str_has_prefix(text, cases[i].begins))
            g_error("'%s' doesn't begin with '%s'", text, cases[i].begins);
        json_object_put(mine);
        json_object_put(theirs);
    }
}

/* Cards and disks are told in words, not in JSON. */
static void test_devices_in_words(void)
{
    static const struct {
        const char *mine, *theirs, *text;
    } cases[] = {
        {"{\"nics\":[{\"model\":\"e1000\",\"mac\":\"52:54:00:00:00:01\"}]}",
         "{\"nics\":[{\"model\":\"e1000\",\"mac\":\"52:54:00:00:00:02\"}]}",                     "network card 1: mac: 52:54:00:00:00:01 here, 52:54:00:00:00:02 there"},
        {"{\"nics\":[{},{}]}",                                               "{\"nics\":[{}]}",  "network cards: 2 here, 1 there"                                      },
        {"{\"disks\":[{\"name\":\"root\",\"bytes\":4096}]}",
         "{\"disks\":[{\"name\":\"root\",\"bytes\":8192}]}",                                     "disk root: bytes: 4096 here, 8192 there"                             },
        {"{\"disks\":[{\"name\":\"root\",\"format\":\"raw\"}]}",
         "{\"disks\":[{\"name\":\"root\",\"format\":\"qcow2\"}]}",                               "disk root: format: raw here, qcow2 there"                            },
        {"{\"disks\":[{\"name\":\"a\"},{\"name\":\"b\"}]}",
         "{\"disks\":[{\"name\":\"a\"},{\"name\":\"c\"}]}",                                      "disk b: name: b here, c there"                                       },
 /* odd ones of a peer */
        {"{\"disks\":[]}",                                                   "{\"disks\":7}",    "disks: [] here, 7 there"                                             },
        {"{\"disks\":[{\"name\":\"a\"}]}",                                   "{\"disks\":[[]]}",
         "disks: [{\"name\":\"a\"}] here, [[]] there"                                                                                                                  },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        json_object *mine = json_tokener_parse(cases[i].mine);
        json_object *theirs = json_tokener_parse(cases[i].theirs);
        g_autofree char *text = vm_identity_difference(mine, theirs);
        g_assert_cmpstr(text, ==, cases[i].text);
        json_object_put(mine);
        json_object_put(theirs);
    }
}

static void test_untrusted_identity(void)
{
    static const char *const texts[] = {"[]",
                                        "null",
                                        "{}",
                                        "\"x\"",
                                        "{\"name\": {\"a\": [[[[1]]]]}}",
                                        "{\"name\": \"\\u0000\\u001b[31m\"}",
                                        "{\"x\\u001b\": 1}"};
    g_autoptr(VmDescription) d = good();
    json_object *ours = identity_of(d);

    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        json_object *theirs = json_tokener_parse(texts[i]);
        g_autofree char *difference = vm_identity_difference(ours, theirs);
        g_assert_nonnull(difference);
        for (const char *c = difference; *c; c++)
            g_assert_true(g_ascii_isprint(*c));
        json_object_put(theirs);
    }
    json_object *more = identity_of(d);
    g_autofree char *large = g_strnfill(1 << 20, 'z');
    json_object_object_add(more, "n\x1b", json_object_new_string(large));
    g_autofree char *difference = vm_identity_difference(ours, more);
    g_assert_true(g_str_has_prefix(difference, "n\\033: none here, zzz"));
    g_assert_cmpuint(strlen(difference), <, 400);
    json_object_put(more);
    json_object_put(ours);
}

/* ---- The command line ---- */

static gboolean has(GPtrArray *argv, const char *option, const char *value)
{
    for (guint i = 0; i + 1 < argv->len; i++)
        if (!strcmp(g_ptr_array_index(argv, i), option) &&
            (!value || !strcmp(g_ptr_array_index(argv, i + 1), value)))
            return TRUE;
    return FALSE;
}

static void test_command_line(void)
{
    g_autoptr(VmDescription) d = good();
    g_free(d->machine);
    g_free(d->serial);
    d->machine = g_strdup("q35,usb=off");
    d->serial = g_strdup("file:/a,b");
    d->kernel = g_strdup("/k,1");
    d->append = g_strdup("a=b,c d");
    g_autoptr(GPtrArray) argv = cmdline_build(d, "tcg", 11, 12);

    g_assert_cmpstr(g_ptr_array_index(argv, 0), ==, "qemu-system-x86_64");
    g_assert_true(has(argv, "-machine", "q35,usb=off,memory-backend=pc.ram"));
    g_assert_true(has(argv, "-object",
                      "memory-backend-file,id=pc.ram,size=67108864,mem-path=/proc/self/fd/11,"
                      "share=on"));
    g_assert_true(has(argv, "-chardev", "socket,id=colo-qmp,fd=12"));
    g_assert_true(has(argv, "-chardev", "file,id=colo-serial,path=/a,,b"));
    g_assert_true(has(argv, "-kernel", "/k,1"));
    g_assert_true(has(argv, "-append", "a=b,c d"));
    g_assert_true(has(argv, "-accel", "tcg"));
    g_assert_true(has(argv, "-S", NULL));
    g_assert_false(has(argv, "-cpu", NULL));
    g_assert_cmpstr(cmdline_ram_id("microvm,rtc=on"), ==, "microvm.ram");
}

/* No guest is offered to sleep (S3). A QEMU would warn of a property of a device that it doesn't have. */
static void test_no_sleep(void)
{
    static const struct {
        const char *machine, *property; /* NULL: none */
    } cases[] = {
        {"pc",                 "PIIX4_PM.disable_s3=1"},
        {"pc-i440fx-7.2",      "PIIX4_PM.disable_s3=1"},
        {"q35,usb=off",        "ICH9-LPC.disable_s3=1"},
        {"pc-q35-7.2,smm=off", "ICH9-LPC.disable_s3=1"},
        {"microvm,rtc=on",     NULL                   },
        {"isapc",              NULL                   },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(VmDescription) d = good();
        g_free(d->machine);
        d->machine = g_strdup(cases[i].machine);
        g_autoptr(GPtrArray) argv = cmdline_build(d, "tcg", 11, 12);
        g_assert_cmpint(has(argv, "-global", cases[i].property), ==, cases[i].property != NULL);
    }
}

static void test_agent_port(void)
{
    static const struct {
        const char *machine, *controller;
    } cases[] = {
        {"pc",             "virtio-serial-pci,id=colo-agent-bus,max_ports=2"   },
        {"microvm,rtc=on", "virtio-serial-device,id=colo-agent-bus,max_ports=2"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(VmDescription) d = good();
        g_free(d->machine);
        d->machine = g_strdup(cases[i].machine);
        g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
        cmdline_add_agent(argv, d, 13);
        g_assert_true(has(argv, "-chardev", "socket,id=colo-agent,fd=13"));
        g_assert_true(has(argv, "-device", cases[i].controller));
        g_assert_true(has(argv, "-device",
                          "virtserialport,id=colo-agent-port,bus=colo-agent-bus.0,"
                          "chardev=colo-agent,name=org.qemu.guest_agent.0"));
    }
}

static guint position(GPtrArray *argv, const char *part)
{
    for (guint i = 0; i < argv->len; i++)
        if (strstr(g_ptr_array_index(argv, i), part))
            return i;
    g_error("no %s among QEMU's arguments", part);
}

static const char *device_of(GPtrArray *argv, guint disk)
{
    g_autofree char *part = g_strdup_printf("drive=colo-disk%u,", disk);
    return g_ptr_array_index(argv, position(argv, part));
}

/* QEMU makes devices in the order of its command line. */
static void test_controller_before_disk(void)
{
    g_autoptr(VmDescription) d = good();
    d->disk_socket = g_strdup("/nbd");
    vm_description_add_disk(d, "root");
    g_ptr_array_add(d->extra, g_strdup("-device"));
    g_ptr_array_add(d->extra, g_strdup("virtio-scsi-pci"));
    g_autoptr(GPtrArray) argv = cmdline_build(d, "tcg", 11, 12);

    g_assert_cmpuint(position(argv, "virtio-scsi-pci"), <, position(argv, "drive=colo-disk0"));
}

/* On a q35 each IDE disk needs a port of its own; on a pc QEMU finds a place for each. */
static void test_disk_models(void)
{
    const char *const models[] = {"ide-hd", "virtio-blk-pci", "ide-hd"};
    g_autoptr(VmDescription) d = good();
    for (guint i = 0; i < G_N_ELEMENTS(models); i++) {
        VmDisk *disk = vm_description_add_disk(d, "root");
        g_free(disk->model);
        disk->model = g_strdup(models[i]);
    }
    d->disk_socket = g_strdup("/nbd");
    g_free(d->machine);
    d->machine = g_strdup("pc-q35-7.2,usb=off");
    g_autoptr(GPtrArray) q35 = cmdline_build(d, "tcg", 11, 12);
    g_assert_true(g_str_has_suffix(device_of(q35, 0), ",bus=ide.0"));
    g_assert_false(strstr(device_of(q35, 1), "bus="));
    g_assert_true(g_str_has_suffix(device_of(q35, 2), ",bus=ide.1"));

    g_free(d->machine);
    d->machine = g_strdup("pc");
    g_autoptr(GPtrArray) pc = cmdline_build(d, "tcg", 11, 12);
    g_assert_false(strstr(device_of(pc, 2), "bus="));

    /* A thread for the disks that can have one, once. */
    guint object = position(pc, "iothread,id=colo-disks");
    g_assert_cmpuint(object, <, position(pc, "drive=colo-disk0"));
    g_assert_false(strstr(device_of(pc, 0), "iothread="));
    g_assert_nonnull(strstr(device_of(pc, 1), ",iothread=colo-disks"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vm/description/strings", test_strings);
    g_test_add_func("/vm/description/numbers", test_numbers);
    g_test_add_func("/vm/description/nics", test_nics);
    g_test_add_func("/vm/description/faults", test_faults);
    g_test_add_func("/vm/description/extra", test_extra);
    g_test_add_func("/vm/description/good", test_good);
    g_test_add_func("/vm/description/copy", test_copy);
    g_test_add_func("/vm/identity/differences", test_identity);
    g_test_add_func("/vm/identity/other-qemu", test_other_qemu);
    g_test_add_func("/vm/identity/attach", test_attach);
    g_test_add_func("/vm/identity/mac-case", test_mac_case);
    g_test_add_func("/vm/identity/files-by-content", test_files_by_content);
    g_test_add_func("/vm/identity/untrusted", test_untrusted_identity);
    g_test_add_func("/vm/identity/devices-in-words", test_devices_in_words);
    g_test_add_func("/vm/command-line", test_command_line);
    g_test_add_func("/vm/no-sleep", test_no_sleep);
    g_test_add_func("/vm/agent-port", test_agent_port);
    g_test_add_func("/vm/controller-before-disk", test_controller_before_disk);
    g_test_add_func("/vm/disk-models", test_disk_models);
    return g_test_run();
}
