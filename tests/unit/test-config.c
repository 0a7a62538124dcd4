/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/config/config.h"
#include "colo/config/options.h"

#include <glib/gstdio.h>
#include <string.h>

#define UUID "6f1c3c2e-3f5e-4a8a-9c3e-0a6b7d1f2e01"
#define NODE "[node]\nname=alpha\nlisten=10.0.0.1:9000\npeer=10.0.0.2:9000\n"
#define VM   "[vm]\nname=web\nuuid=" UUID "\nmemory=512MiB\n"
/* NODE has 4 lines, VM has 4: what follows starts on line 9. */
#define GOOD NODE VM

static Config *load(const char *text, const char *role, GError **error)
{
    return config_load_data("web.conf", text, strlen(text), role, error);
}

static Config *load_good(const char *text)
{
    g_autoptr(GError) error = NULL;
    Config *config = load(text, "secondary", &error);
    g_assert_no_error(error);
    return config;
}

static void test_defaults(void)
{
    g_autoptr(Config) c = load_good(GOOD);
    g_assert_cmpstr(c->name, ==, "alpha");
    g_assert_cmpint(c->role, ==, CONFIG_ROLE_SECONDARY);
    g_assert_cmpint(c->on_sigterm, ==, CONFIG_SIGTERM_HAND_OVER);
    g_assert_cmpstr(c->listen, ==, "10.0.0.1:9000");
    g_assert_cmpstr(c->control_socket, ==, "/run/colo/web.sock");
    g_assert_cmpstr(c->vm->machine, ==, "pc");
    g_assert_cmpint(c->vm->accel, ==, VM_ACCEL_AUTO);
    g_assert_cmpuint(c->vm->cpus, ==, 1);
    g_assert_cmpuint(c->vm->memory_bytes, ==, 512u << 20);
    g_assert_null(c->vm->kernel);
    g_assert_cmpuint(c->vm->extra->len, ==, 0);
    g_assert_cmpuint(c->nics->len, ==, 0);
    g_assert_cmpint(c->mode, ==, MODE_COLO);
    g_assert_cmpuint(c->checkpoint_period_ms, ==, 1000);
    g_assert_cmpuint(c->min_gap_ms, ==, 10);
    g_assert_cmpuint(c->dirty_limit_pages, ==, 16384);
    g_assert_cmpuint(c->output_limit_bytes, ==, 16u << 20);
    g_assert_cmpuint(c->heartbeat_interval_ms, ==, 100);
    g_assert_cmpuint(c->heartbeat_timeout_ms, ==, 1000);
    g_assert_cmpint(c->arbiter, ==, CONFIG_ARBITER_NONE);
    g_assert_null(c->arbiter_path);
    g_assert_cmpint(c->log_level, ==, LOG_LEVEL_INFO);
    config_free(NULL);
}

static void test_everything_set(void)
{
    g_autoptr(Config) c =
        load_good("# all of it\n"
                  "[nic lan]\nmac = 52:54:00:12:34:56\nbridge=br0\n"
                  "[nic storage]\nmac=52:54:00:12:34:57\nmodel=e1000\n"
                  "ifname=tap-st\n[nic given]\nmac=52:54:00:12:34:58\ntap=fd:lan\n" NODE
                  "role=primary\ncontrol-socket=/tmp/c\n" VM
                  "machine=q35\ncpu=host\ncpus=4\nkernel=/k\ninitrd=/i\n"
                  "append=console=ttyS0 quiet\n"
                  "extra=-device 'virtio-rng-pci,id=a b' -nodefaults\n"
                  "qemu=/opt/qemu\naccel=tcg\nserial=file:/tmp/log\n"
                  "[checkpoint]\ncheckpoint-period=2s\nmin-gap=0ms\n"
                  "dirty-limit=500 pages\ndirty-method=compare\n"
                  "output-limit = 64 MiB\n[link]\nheartbeat-interval=1s\n"
                  "heartbeat-timeout=1min\n[arbiter]\ntype=file\npath=/srv/arb\n"
                  "[log]\nlog-level=debug\n");
    g_assert_cmpint(c->role, ==, CONFIG_ROLE_SECONDARY); /* the argument counts */
    g_assert_cmpstr(c->control_socket, ==, "/tmp/c");
    g_assert_cmpuint(c->nics->len, ==, 3);
    g_assert_cmpstr(((const ConfigNic *)g_ptr_array_index(c->nics, 2))->tap, ==, "fd:lan");
    const ConfigNic *lan = g_ptr_array_index(c->nics, 0), *storage = g_ptr_array_index(c->nics, 1);
    const VmNic *vm_lan = g_ptr_array_index(c->vm->nics, 0);
    const VmNic *vm_storage = g_ptr_array_index(c->vm->nics, 1);
    g_assert_cmpstr(lan->name, ==, "lan");
    g_assert_cmpstr(lan->bridge, ==, "br0");
    g_assert_cmpstr(lan->ifname, ==, "colo%d");
    g_assert_cmpstr(vm_lan->model, ==, "virtio-net-pci");
    g_assert_cmpstr(storage->ifname, ==, "tap-st");
    g_assert_null(storage->bridge);
    g_assert_cmpstr(vm_storage->model, ==, "e1000");
    g_assert_cmpstr(vm_storage->mac, ==, "52:54:00:12:34:57");
    g_assert_cmpuint(c->vm->extra->len, ==, 3);
    g_assert_cmpstr(g_ptr_array_index(c->vm->extra, 1), ==, "virtio-rng-pci,id=a b");
    g_assert_cmpstr(c->vm->append, ==, "console=ttyS0 quiet");
    g_assert_cmpuint(c->checkpoint_period_ms, ==, 2000);
    g_assert_cmpuint(c->min_gap_ms, ==, 0);
    g_assert_cmpuint(c->dirty_limit_pages, ==, 500);
    g_assert_cmpuint(c->output_limit_bytes, ==, 64u << 20);
    g_assert_cmpuint(c->heartbeat_timeout_ms, ==, 60000);
    g_assert_cmpstr(c->arbiter_path, ==, "/srv/arb");
    g_assert_cmpint(c->log_level, ==, LOG_LEVEL_DEBUG);
}

/* Comments, blank lines, spaces and CRLF are GKeyFile's. */
static void test_layout(void)
{
    g_autoptr(Config) c =
        load_good("\r\n# c\r\n  [node]  \r\n name = alpha \r\nlisten=[::1]:1\r\n"
                  "peer=[fe80::1%eth0]:65535\r\n\r\n" VM "kernel=/k\nappend=a\\tb\\\\c\n");
    g_assert_cmpstr(c->name, ==, "alpha");
    g_assert_cmpstr(c->vm->append, ==, "a\tb\\c");
}

typedef struct {
    const char *text, *role;
    ConfigError code;
    const char *message;
} Bad;

static const Bad bad[] = {
  /* The file's form. */
    {"[node\n",                                                     NULL,        CONFIG_ERROR_FILE,    "web.conf:1: '[node': expected [SECTION]"                  },
    {"[]\n",                                                        NULL,        CONFIG_ERROR_FILE,    "web.conf:1: '[]': expected [SECTION]"                     },
    {"[node] # here\n",                                             NULL,        CONFIG_ERROR_FILE,    "web.conf:1: '[node] # here': expected [SECTION]"          },
    {"\n\nname=x\n",                                                NULL,        CONFIG_ERROR_FILE,    "web.conf:3: 'name' is before the first [SECTION]"         },
    {"[node]\nname\n",                                              NULL,        CONFIG_ERROR_FILE,
     "web.conf:2: 'name': expected KEY=VALUE, [SECTION] or a comment with # in front"                                                                             },
    {"[node]\n=x\n",                                                NULL,        CONFIG_ERROR_FILE,
     "web.conf:2: '=x': expected KEY=VALUE, [SECTION] or a comment with # in front"                                                                               },
    {"[node]\nname=\xff\n",                                         NULL,        CONFIG_ERROR_FILE,    "web.conf:2: not UTF-8 text"                               },
    {NODE "listen=10.0.0.3:1\n",                                    NULL,        CONFIG_ERROR_FILE,
     "web.conf:5: 'listen' is there already, on line 3"                                                                                                           },
    {GOOD "[node]\n",                                               NULL,        CONFIG_ERROR_FILE,
     "web.conf:9: section [node] is there already, on line 1"                                                                                                     },
    {GOOD "append=a\\qb\n",                                         "primary",   CONFIG_ERROR_VALUE,
     "web.conf:9: append: 'a\\qb': expected \\s, \\t, \\n, \\r or \\\\ (a backslash is written as "
     "two)"                                                                                                                                                       },
 /* Names. */
    {"[nod]\n",                                                     NULL,        CONFIG_ERROR_UNKNOWN,
     "web.conf:1: unknown section [nod]: did you mean [node]?"                                                                                                    },
    {"[storage]\n",                                                 NULL,        CONFIG_ERROR_UNKNOWN,
     "web.conf:1: unknown section [storage]: there are [node], [vm], [nic NAME], "
     "[disk NAME], [disks], [checkpoint], [switchover], [link], [arbiter] and [log]"                                                                              },
    {"[nic]\n",                                                     NULL,        CONFIG_ERROR_UNKNOWN,
     "web.conf:1: section [nic]: a card needs a name, such as [nic lan]"                                                                                          },
    {"[disk]\n",                                                    NULL,        CONFIG_ERROR_UNKNOWN,
     "web.conf:1: section [disk]: a disk needs a name, such as [disk root]"                                                                                       },
    {"[disk a/b]\n",                                                NULL,        CONFIG_ERROR_UNKNOWN,
     "web.conf:1: [disk a/b]: expected [disk NAME], NAME of up to 64 letters, digits and any of "
     "-_."                                                                                                                                                        },
    {GOOD "[disk root]\n",                                          "primary",   CONFIG_ERROR_MISSING,
     "web.conf:9: [disk root] needs the key 'path': This host's image, a file or a block device, "
     "of the same size on both hosts. For qcow2 it must have room for all that the guest may "
     "write, "
     "see colod(8)."                                                                                                                                              },
    {GOOD "[disk root]\npath=a.img\n",                              "primary",   CONFIG_ERROR_VALUE,
     "web.conf:10: path: 'a.img': expected an absolute path (one that begins with /)"                                                                             },
    {GOOD "[disk root]\npath=/a\nformat=vmdk\n",                    "primary",   CONFIG_ERROR_VALUE,
     "web.conf:11: format: 'vmdk': expected raw or qcow2"                                                                                                         },
    {GOOD "[disk root]\npath=/a\n[disk data]\npath=/a\n",           "primary",   CONFIG_ERROR_VALUE,
     "web.conf:12: path '/a' is that of disk 0 too"                                                                                                               },
    {"[nic a b]\n",                                                 NULL,        CONFIG_ERROR_UNKNOWN,
     "web.conf:1: [nic a b]: expected [nic NAME], NAME of up to 64 letters, digits and any of -_."                                                                },
    {"[checkpoint]\nperiod=1s\n",                                   NULL,        CONFIG_ERROR_UNKNOWN,
     "web.conf:2: unknown key 'period' in [checkpoint]: did you mean 'checkpoint-period'?"                                                                        },
    {"[link]\nhartbeat-timout=1s\n",                                NULL,        CONFIG_ERROR_UNKNOWN,
     "web.conf:2: unknown key 'hartbeat-timout' in [link]: did you mean 'heartbeat-timeout'?"                                                                     },
    {"[link]\nencryption=1\n",                                      NULL,        CONFIG_ERROR_UNKNOWN,
     "web.conf:2: unknown key 'encryption' in [link]: there are heartbeat-interval, "
     "heartbeat-timeout, recover-timeout and compress"                                                                                                            },
    {"[vm]\nlisten=1\n",                                            NULL,        CONFIG_ERROR_UNKNOWN,
     "web.conf:2: unknown key 'listen' in [vm]: it belongs in [node]"                                                                                             },
 /* Values. */
    {"[node]\nname=a b\n",                                          NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: name: 'a b': expected 1 to 64 letters, digits and any of -_.+@"                                                                                 },
    {"[node]\nname=\n",                                             NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: name: the value is empty: give one, or leave the key out"                                                                                       },
    {"[node]\nrole=master\n",                                       NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: role: 'master': expected primary, secondary or auto"                                                                                            },
    {"[node]\nlisten=9000\n",                                       NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: listen: '9000': expected ADDRESS:PORT such as 192.0.2.1:9000 or "
     "[2001:db8::1]:9000, or unix:/PATH"                                                                                                                          },
    {"[node]\nlisten=::1:9000\n",                                   NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: listen: '::1:9000': expected ADDRESS:PORT such as 192.0.2.1:9000 or "
     "[2001:db8::1]:9000, or unix:/PATH"                                                                                                                          },
    {"[node]\nlisten=unix:link\n",                                  NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: listen: 'unix:link': unix: needs an absolute path, such as "
     "unix:/run/colo/web.link"                                                                                                                                    },
    {"[node]\nlisten=fdset:3\n",                                    NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: listen: 'fdset:3': there is no set before colod runs: 'colo recover' has it"                                                                    },
    {"[node]\nlisten=fd:\n",                                        NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: listen: 'fd:': fd: needs the name of a descriptor, 1 to 255 bytes, such as "
     "fd:link"                                                                                                                                                    },
    {"[node]\npeer=fd:link\n",                                      NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: peer: 'fd:link': what colod is started with can only be listened on"                                                                            },
    {"[node]\nlisten=beta:9000\n",                                  NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: listen: 'beta:9000': expected ADDRESS:PORT such as 192.0.2.1:9000 or "
     "[2001:db8::1]:9000, or unix:/PATH"                                                                                                                          },
    {"[node]\nlisten=10.0.0.1:0\n",                                 NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: listen: '10.0.0.1:0': the port must be a number from 1 to 65535"                                                                                },
    {"[node]\nlisten=10.0.0.1:65536\n",                             NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: listen: '10.0.0.1:65536': the port must be a number from 1 to 65535"                                                                            },
    {"[node]\ncontrol-socket=colo.sock\n",                          NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: control-socket: 'colo.sock': expected an absolute path (one that begins with /)"                                                                },
    {"[vm]\ncpus=two\n",                                            NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: cpus: 'two': expected a whole number such as 1"                                                                                                 },
    {"[vm]\ncpus=0\n",                                              NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: cpus: '0': out of range: expected 1 to 255"                                                                                                     },
    {"[vm]\ncpus=2 cores\n",                                        NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: cpus: '2 cores': expected a whole number such as 2"                                                                                             },
    {"[vm]\nmemory=512\n",                                          NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: memory: '512': the unit is missing (B, KiB, MiB, GiB or TiB): write, say, "
     "512MiB"                                                                                                                                                     },
    {"[vm]\nmemory=2G\n",                                           NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: memory: '2G': unknown unit 'G' (B, KiB, MiB, GiB or TiB): write, say, 2GiB"                                                                     },
    {"[vm]\nmemory=512 mb\n",                                       NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: memory: '512 mb': unknown unit 'mb' (B, KiB, MiB, GiB or TiB): write, say, "
     "512MiB"                                                                                                                                                     },
    {"[vm]\nmemory=1.5GiB\n",                                       NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: memory: '1.5GiB': expected a whole number with its unit such as 512MiB"                                                                         },
    {"[vm]\nmemory=-1MiB\n",                                        NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: memory: '-1MiB': expected a whole number with its unit such as 512MiB"                                                                          },
    {"[vm]\nmemory=99999999999999999999MiB\n",                      NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: memory: '99999999999999999999MiB': out of range: expected 1MiB to 1TiB"                                                                         },
    {"[vm]\nmemory=18446744073709551615TiB\n",                      NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: memory: '18446744073709551615TiB': out of range: expected 1MiB to 1TiB"                                                                         },
    {"[vm]\nkernel=vmlinuz\n",                                      NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: kernel: 'vmlinuz': expected an absolute path (one that begins with /)"                                                                          },
    {"[vm]\nextra=-device 'x\n",                                    NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: extra: '-device 'x': Text ended before matching quote was found for '. (The text "
     "was “-device 'x”) Quote it as for a shell"                                                                                                              },
    {"[nic a]\nbridge=much-too-long-name\n",                        NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: bridge: 'much-too-long-name': expected the name of an interface: 1 to 15 bytes "
     "without space, / and :"                                                                                                                                     },
    {"[nic a]\nifname=t%d%d\n",                                     NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: ifname: 't%d%d': expected the name of an interface: 1 to 15 bytes without space, "
     "/ and :, with at most one %d"                                                                                                                               },
    {"[checkpoint]\ncheckpoint-period=100\n",                       NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: checkpoint-period: '100': the unit is missing (ms, s or min): write, say, 100ms"                                                                },
    {"[checkpoint]\nmin-gap=1sec\n",                                NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: min-gap: '1sec': unknown unit 'sec' (ms, s or min): write, say, 1s"                                                                             },
    {"[checkpoint]\ncheckpoint-period=0ms\n",                       NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: checkpoint-period: '0ms': out of range: expected 1ms to 60min"                                                                                  },
    {"[checkpoint]\ncheckpoint-period=0\n",                         NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: checkpoint-period: '0': out of range: expected 1ms to 60min"                                                                                    },
    {"[checkpoint]\ndirty-limit=10MiB\n",                           NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: dirty-limit: '10MiB': unknown unit 'MiB': write 10 or 10 pages"                                                                                 },
    {"[checkpoint]\nmode=colo2\n",                                  NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: mode: 'colo2': expected colo, buffered or auto"                                                                                                 },
    {"[log]\nlog-level=loud\n",                                     NULL,        CONFIG_ERROR_VALUE,
     "web.conf:2: log-level: 'loud': expected error, warning, info or debug"                                                                                      },
 /* What is missing. */
    {"",                                                            "primary",   CONFIG_ERROR_MISSING,
     "web.conf: there is no [node], which needs at least 'name': This node's name, unique in the "
     "pair."                                                                                                                                                      },
    {VM "[node]\nname=a\n",                                         "primary",   CONFIG_ERROR_MISSING,
     "web.conf:5: [node] needs the key 'listen': Where the peer reaches this node. unix:/PATH is "
     "for a proxy on this host that leads to the peer's. "
     "fd:NAME is a listening socket that colod was started with, as by a systemd socket unit with "
     "FileDescriptorName=NAME."                                                                                                                                   },
    {NODE,                                                          "primary",   CONFIG_ERROR_MISSING,
     "web.conf: there is no [vm], which needs at least 'name': The VM's name, in logs and for "
     "people. "
     "The same on both hosts, like all of this section but qemu, accel and serial."                                                                               },
    {GOOD "[nic lan]\n",                                            "primary",   CONFIG_ERROR_MISSING,
     "web.conf:9: [nic lan] needs the key 'mac': The card's address."                                                                                             },
 /* Rules across options. */
    {GOOD,                                                          "both",      CONFIG_ERROR_VALUE,   "--role: role: 'both': expected primary, secondary or auto"},
    {GOOD,                                                          NULL,        CONFIG_ERROR_VALUE,
     "web.conf:1: role: neither given here nor with --role: primary, secondary or auto"                                                                           },
    {VM "[node]\nname=a\nlisten=10.0.0.1:1\n",                      "secondary", CONFIG_ERROR_VALUE,
     "web.conf:5: peer: a secondary needs it: the address that the primary listens on"                                                                            },
    {VM "[node]\nname=a\nlisten=unix:/a\npeer=unix:/a\n",           "primary",   CONFIG_ERROR_VALUE,
     "web.conf:8: peer: unix:/a is this node's own listen: it must be the other node's"                                                                           },
    {VM "[node]\nname=a\nlisten=10.0.0.1:1\npeer=tcp:10.0.0.1:1\n", "primary",   CONFIG_ERROR_VALUE,
     "web.conf:8: peer: tcp:10.0.0.1:1 is this node's own listen: it must be the other node's"                                                                    },
    {VM "[node]\nname=a\nlisten=10.0.0.1:1\npeer=10.0.0.1:1\n",     "primary",   CONFIG_ERROR_VALUE,
     "web.conf:8: peer: 10.0.0.1:1 is this node's own listen: it must be the other node's"                                                                        },
    {GOOD "[link]\nheartbeat-interval=600ms\n",                     "primary",   CONFIG_ERROR_VALUE,
     "web.conf:9: heartbeat-timeout: 1000ms is less than twice heartbeat-interval (600ms): one "
     "late "
     "heartbeat would lose the peer"                                                                                                                              },
    {GOOD "[checkpoint]\ncheckpoint-period=20ms\nmin-gap=21ms\n",   "primary",   CONFIG_ERROR_VALUE,
     "web.conf:11: min-gap: 21ms is longer than checkpoint-period (20ms)"                                                                                         },
    {GOOD "[arbiter]\ntype=file\n",                                 "primary",   CONFIG_ERROR_VALUE,
     "web.conf:10: type: file needs the key 'path': a folder that both hosts see"                                                                                 },
};

static void test_bad(gconstpointer data)
{
    const Bad *b = data;
    g_autoptr(GError) error = NULL;
    g_assert_null(load(b->text, b->role, &error));
    g_assert_nonnull(error);
    g_assert_cmpstr(error->message, ==, b->message);
    g_assert_error(error, CONFIG_ERROR, (int)b->code);
}

/* What only the VM layer knows comes with the line of the key, too; the words are its own. */
static void test_bad_vm(void)
{
    static const struct {
        const char *text, *start;
    } cases[] = {
        {NODE "[vm]\nname=web\nuuid=1\nmemory=1GiB\n",                                         "web.conf:7: uuid: "   },
        {NODE "[vm]\nname=web\nuuid=" UUID "\nmemory=1025KiB\n",                               "web.conf:8: memory: " },
        {GOOD "machine=virt\n",                                                                "web.conf:9: machine: "},
        {GOOD "serial=tty\n",                                                                  "web.conf:9: serial: " },
        {GOOD "append=quiet\n",                                                                "web.conf:9: append: " },
        {GOOD "extra=-m 5\n",                                                                  "web.conf:9: extra "   },
        {GOOD "[nic a]\nmac=1\n",                                                              "web.conf:10: mac "    },
        {GOOD "[nic a]\nmac=52:54:00:12:34:56\n[nic b]\nmodel=e1000\nmac=52:54:00:12:34:56\n",
         "web.conf:13: mac "                                                                                          },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(load(cases[i].text, "primary", &error));
        g_assert_error(error, CONFIG_ERROR, CONFIG_ERROR_VALUE);
        g_test_message("%s", error->message);
        g_assert_true(g_str_has_prefix(error->message, cases[i].start));
    }
}

#define CARD(name, number, keys) "[nic " name "]\nmac=52:54:00:12:34:5" number "\n" keys "\n"

static void expect_bad_nics(const char *nics, const char *message)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_strconcat(GOOD, nics, NULL);
    g_assert_null(load(text, "primary", &error));
    g_assert_cmpstr(error->message, ==, message);
    g_assert_error(error, CONFIG_ERROR, CONFIG_ERROR_VALUE);
}

/* It is nobody else's, and its name and bridge are not ours. */
static void test_bad_tap(void)
{
    expect_bad_nics(CARD("a", "6", "tap=tap0"), "web.conf:11: tap: 'tap0': expected fd:NAME");
    expect_bad_nics(CARD("a", "6", "tap=fd:"),
                    "web.conf:11: tap: 'fd:': fd: needs the name of a descriptor, 1 to 255 bytes, "
                    "such as fd:link");
    expect_bad_nics(CARD("a", "6", "tap=fd:lan\nbridge=br0"),
                    "web.conf:11: [nic a] tap: 'fd:lan': bridge is the work of whoever made it: "
                    "leave out 'bridge', or 'tap'");
    expect_bad_nics(CARD("a", "6", "ifname=x\ntap=fd:lan"),
                    "web.conf:12: [nic a] tap: 'fd:lan': ifname is the work of whoever made it: "
                    "leave out 'ifname', or 'tap'");
    expect_bad_nics(CARD("a", "6", "tap=fd:lan") CARD("b", "7", "tap=fd:lan"),
                    "web.conf:14: [nic b] tap: 'fd:lan': [nic a] has it already");
}

static void test_no_file(void)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(config_load("/nonexistent/web.conf", "primary", &error));
    g_assert_error(error, CONFIG_ERROR, CONFIG_ERROR_FILE);
    g_assert_cmpstr(error->message, ==,
                    "configuration: /nonexistent/web.conf: No such file or directory");
}

static void test_from_file(void)
{
    g_autofree char *path = NULL;
    g_autoptr(GError) error = NULL;
    int fd = g_file_open_tmp("colo-config-XXXXXX", &path, &error);
    g_assert_no_error(error);
    g_close(fd, NULL);
    g_assert_true(g_file_set_contents(path, GOOD, -1, NULL));
    g_autoptr(Config) c = config_load(path, "primary", &error);
    g_assert_no_error(error);
    g_assert_cmpint(c->role, ==, CONFIG_ROLE_PRIMARY);
    g_remove(path);
}

static void test_long_socket_path(void)
{
    g_autofree char *path = g_strnfill(108, 'x');
    path[0] = '/';
    g_autofree char *text = g_strconcat(NODE "control-socket=", path, "\n" VM, NULL);
    g_autoptr(GError) error = NULL;
    g_assert_null(load(text, "primary", &error));
    g_assert_true(
        g_str_has_suffix(error->message, "too long for a unix socket: at most 107 bytes"));
}

/* ---- get and set ---- */

static void test_set(void)
{
    g_autoptr(Config) c = load_good(GOOD);
    g_autoptr(GError) error = NULL;
    g_assert_true(config_set(c, "checkpoint-period", "2s", &error));
    g_assert_cmpuint(c->checkpoint_period_ms, ==, 2000);
    g_assert_true(config_set(c, "link.heartbeat-timeout", "3s", &error));
    g_assert_cmpuint(c->heartbeat_timeout_ms, ==, 3000);
    g_assert_true(config_set(c, "log-level", "debug", &error));
    g_assert_true(config_set(c, "announce-rounds", "7", &error));
    g_assert_cmpuint(c->announce_rounds, ==, 7);
    g_assert_true(config_set(c, "announce-initial", "10ms", &error));
    g_assert_true(config_set(c, "announce-step", "20ms", &error));
    g_assert_true(config_set(c, "announce-max", "1s", &error));
    g_assert_cmpuint(c->announce_initial_ms + c->announce_step_ms + c->announce_max_ms, ==, 1030);
    g_assert_cmpint(c->log_level, ==, LOG_LEVEL_DEBUG);
    g_assert_no_error(error);
}

static void expect_set_error(Config *c, const char *name, const char *value, ConfigError code,
                             const char *message)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(config_set(c, name, value, &error));
    g_assert_cmpstr(error->message, ==, message);
    g_assert_error(error, CONFIG_ERROR, (int)code);
}

/* By the table. */
static GPtrArray *live_keys(void)
{
    GPtrArray *keys = g_ptr_array_new();
    for (const Option *option = options_table(); option->section; option++)
        if (option->live)
            g_ptr_array_add(keys, (char *)option->name);
    return keys;
}

/* "key, key and key". */
static char *live_options(void)
{
    g_autoptr(GPtrArray) keys = live_keys();
    GString *list = g_string_new(NULL);
    for (guint i = 0; i < keys->len; i++)
        g_string_append_printf(list, "%s%s",
                               i == 0              ? ""
                               : i + 1 < keys->len ? ", "
                                                   : " and ",
                               (const char *)g_ptr_array_index(keys, i));
    return g_string_free(list, FALSE);
}

/* A set that fails leaves the value as it was. */
static void test_set_wrong(void)
{
    g_autoptr(Config) c = load_good(GOOD);
    expect_set_error(c, "checkpoint-period", "5ms", CONFIG_ERROR_VALUE,
                     "min-gap: 10ms is longer than checkpoint-period (5ms)");
    g_assert_cmpuint(c->checkpoint_period_ms, ==, 1000);
    expect_set_error(c, "log-level", "loud", CONFIG_ERROR_VALUE,
                     "log-level: 'loud': expected error, warning, info or debug");
    g_assert_cmpint(c->log_level, ==, LOG_LEVEL_INFO);
    expect_set_error(c, "heartbeat-interval", "501ms", CONFIG_ERROR_VALUE,
                     "heartbeat-timeout: 1000ms is less than twice heartbeat-interval (501ms): one "
                     "late heartbeat would lose the peer");
    g_assert_cmpuint(c->heartbeat_interval_ms, ==, 100);
    g_autofree char *live = live_options();
    g_autofree char *fixed = g_strdup_printf(
        "can't change while colod runs: change the file and start colod again (%s can)", live);
    g_autofree char *with_section = g_strconcat("'vm.memory' ", fixed, NULL);
    g_autofree char *without = g_strconcat("'memory' ", fixed, NULL);
    g_autofree char *no_name = g_strconcat("unknown option '': live options are ", live, NULL);
    expect_set_error(c, "vm.memory", "1GiB", CONFIG_ERROR_FIXED, with_section);
    expect_set_error(c, "memory", "1GiB", CONFIG_ERROR_FIXED, without);
    expect_set_error(c, "period", "1s", CONFIG_ERROR_UNKNOWN,
                     "unknown option 'period': did you mean 'checkpoint-period'?");
    expect_set_error(c, "", "1s", CONFIG_ERROR_UNKNOWN, no_name);
}

static void expect_get(const Config *c, const char *name, const char *value)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *got = config_get(c, name, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(got, ==, value);
}

static void test_get(void)
{
    g_autoptr(Config) c = load_good(GOOD "extra=-a 'b c' d\n[nic my.lan]\n"
                                         "mac=52:54:00:12:34:56\n[nic x]\n"
                                         "mac=52:54:00:12:34:57\n");
    expect_get(c, "min-gap", "10ms");
    expect_get(c, "heartbeat-timeout", "1s");
    expect_get(c, "checkpoint.min-gap", "10ms");
    expect_get(c, "vm.memory", "512MiB");
    expect_get(c, "vm.kernel", "");
    expect_get(c, "vm.extra", "-a 'b c' d");
    expect_get(c, "vm.cpus", "1");
    expect_get(c, "dirty-limit", "16384 pages");
    expect_get(c, "nic my.lan.mac", "52:54:00:12:34:56");
    expect_get(c, "nic x.ifname", "colo%d");
}

static void test_get_wrong(void)
{
    g_autofree char *live = live_options();
    g_autofree char *no_name =
        g_strconcat("unknown option 'nic lan.mac': live options are ", live, NULL);
    const struct {
        const char *name, *message;
    } cases[] = {
        {"memory",      "unknown option 'memory': did you mean 'vm.memory'?"  },
        {"mac",         "unknown option 'mac': did you mean 'nic NAME.mac'?"  },
        {"nic lan.mac", no_name                                               },
        {"loglevel",    "unknown option 'loglevel': did you mean 'log-level'?"},
    };
    g_autoptr(Config) c = load_good(GOOD);
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(config_get(c, cases[i].name, &error));
        g_assert_error(error, CONFIG_ERROR, CONFIG_ERROR_UNKNOWN);
        g_assert_cmpstr(error->message, ==, cases[i].message);
    }
}

/* Each name of the list can be got, and is its value; live ones can be set to it. */
static void test_list(void)
{
    g_autoptr(Config) c = load_good(GOOD "[nic lan]\nmac=52:54:00:12:34:56\n");
    g_autoptr(GPtrArray) keys = live_keys();
    json_object *list = config_list(c);
    guint live = 0;
    json_object_object_foreach(list, name, entry)
    {
        const char *value = json_object_get_string(json_object_object_get(entry, "value"));
        expect_get(c, name, value);
        g_autoptr(GError) error = NULL;
        if (json_object_get_boolean(json_object_object_get(entry, "live"))) {
            live++;
            g_assert_null(strchr(name, '.'));
            g_assert_true(config_set(c, name, value, &error));
        } else {
            g_assert_false(config_set(c, name, value, &error));
            g_assert_error(error, CONFIG_ERROR, CONFIG_ERROR_FIXED);
        }
    }
    g_assert_cmpuint(live, ==, keys->len);
    g_assert_true(json_object_object_get_ex(list, "nic lan.mac", NULL));
    json_object_put(list);
}

/* Each choice is the value of its enum, and is printed as it was given. */
static void test_choices(void)
{
    static const struct {
        const char *section, *key, *text;
        int value;
    } cases[] = {
        {"node",       "role",                    "primary",    CONFIG_ROLE_PRIMARY     },
        {"node",       "role",                    "secondary",  CONFIG_ROLE_SECONDARY   },
        {"node",       "role",                    "auto",       CONFIG_ROLE_AUTO        },
        {"node",       "realtime",                "yes",        TRUE                    },
        {"node",       "realtime",                "no",         FALSE                   },
        {"node",       "on-sigterm",              "hand-over",  CONFIG_SIGTERM_HAND_OVER},
        {"node",       "on-sigterm",              "end",        CONFIG_SIGTERM_END      },
        {"vm",         "accel",                   "auto",       VM_ACCEL_AUTO           },
        {"vm",         "accel",                   "kvm",        VM_ACCEL_KVM            },
        {"vm",         "accel",                   "tcg",        VM_ACCEL_TCG            },
        {"vm",         "guest-agent",             "yes",        TRUE                    },
        {"vm",         "guest-agent",             "no",         FALSE                   },
        {"nic",        "attach",                  "auto",       VM_ATTACH_AUTO          },
        {"nic",        "attach",                  "vhost-user", VM_ATTACH_VHOST_USER    },
        {"nic",        "attach",                  "redirector", VM_ATTACH_REDIRECTOR    },
        {"disk",       "format",                  "raw",        VM_DISK_RAW             },
        {"disk",       "format",                  "qcow2",      VM_DISK_QCOW2           },
        {"disk",       "on-error",                "report",     VM_DISK_REPORT          },
        {"disk",       "on-error",                "stop",       VM_DISK_STOP            },
        {"disk",       "on-error",                "enospc",     VM_DISK_ENOSPC          },
        {"disks",      "cache",                   "writeback",  CONFIG_CACHE_WRITEBACK  },
        {"disks",      "cache",                   "direct",     CONFIG_CACHE_DIRECT     },
        {"checkpoint", "mode",                    "colo",       MODE_COLO               },
        {"checkpoint", "mode",                    "buffered",   MODE_BUFFERED           },
        {"checkpoint", "mode",                    "auto",       MODE_AUTO               },
        {"checkpoint", "dirty-method",            "auto",       CONFIG_DIRTY_AUTO       },
        {"checkpoint", "dirty-method",            "uffd",       CONFIG_DIRTY_UFFD       },
        {"checkpoint", "dirty-method",            "soft-dirty", CONFIG_DIRTY_SOFT_DIRTY },
        {"checkpoint", "dirty-method",            "compare",    CONFIG_DIRTY_COMPARE    },
        {"link",       "compress",                "auto",       CONFIG_COMPRESS_AUTO    },
        {"link",       "compress",                "off",        CONFIG_COMPRESS_OFF     },
        {"link",       "compress",                "lz4",        CONFIG_COMPRESS_LZ4     },
        {"link",       "compress",                "zstd",       CONFIG_COMPRESS_ZSTD    },
        {"vm",         "accept-other-qemu",       "yes",        TRUE                    },
        {"vm",         "accept-other-qemu",       "no",         FALSE                   },
        {"switchover", "pause-before-switchover", "yes",        TRUE                    },
        {"switchover", "pause-before-switchover", "no",         FALSE                   },
        {"switchover", "abort-on-error",          "yes",        TRUE                    },
        {"switchover", "abort-on-error",          "no",         FALSE                   },
        {"arbiter",    "type",                    "none",       CONFIG_ARBITER_NONE     },
        {"arbiter",    "type",                    "file",       CONFIG_ARBITER_FILE     },
        {"log",        "log-level",               "error",      LOG_LEVEL_ERROR         },
        {"log",        "log-level",               "warning",    LOG_LEVEL_WARNING       },
        {"log",        "log-level",               "info",       LOG_LEVEL_INFO          },
        {"log",        "log-level",               "debug",      LOG_LEVEL_DEBUG         },
    };
    guint64 owner[128]; /* as large as any struct with an option */
    guint seen = 0, known = 0;
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        const Option *option = options_find(cases[i].section, cases[i].key);
        g_assert_cmpuint(option->offset + sizeof(int), <=, sizeof(owner));
        memset(owner, 0xff, sizeof(owner));
        g_assert_true(option_parse(option, cases[i].text, owner, NULL));
        int value;
        memcpy(&value, (const guint8 *)owner + option->offset, sizeof(value));
        g_assert_cmpint(value, ==, cases[i].value);
        g_autofree char *text = option_format(option, owner);
        g_assert_cmpstr(text, ==, cases[i].text);
        seen++;
        g_assert_false(option_parse(option, "", owner, NULL));
    }
    for (const Option *o = options_table(); o->section; o++) {
        if (o->type == OPTION_YES_NO)
            known += 2;
        for (guint i = 0; o->choices && o->choices[i]; i++)
            known += *o->choices[i] ? 1 : 0;
    }
    g_assert_cmpuint(seen, ==, known);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/config/defaults", test_defaults);
    g_test_add_func("/config/everything-set", test_everything_set);
    g_test_add_func("/config/layout", test_layout);
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *name = g_strdup_printf("/config/bad/%zu", i);
        g_test_add_data_func(name, &bad[i], test_bad);
    }
    g_test_add_func("/config/bad-vm", test_bad_vm);
    g_test_add_func("/config/bad-tap", test_bad_tap);
    g_test_add_func("/config/no-file", test_no_file);
    g_test_add_func("/config/from-file", test_from_file);
    g_test_add_func("/config/long-socket-path", test_long_socket_path);
    g_test_add_func("/config/set", test_set);
    g_test_add_func("/config/set-wrong", test_set_wrong);
    g_test_add_func("/config/get", test_get);
    g_test_add_func("/config/get-wrong", test_get_wrong);
    g_test_add_func("/config/list", test_list);
    g_test_add_func("/config/choices", test_choices);
    return g_test_run();
}
