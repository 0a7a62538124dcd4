/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/cli/cli.h"

#include <string.h>

static const char full[] =
    "{\"node\":\"alpha\",\"vm\":{\"name\":\"web\",\"uuid\":\"u\",\"state\":\"running\"},"
    "\"role\":\"primary\",\"state\":\"colo\",\"protected\":true,\"mode\":\"buffered\","
    "\"peer\":{\"name\":\"beta\",\"address\":\"10.0.0.2:9000\",\"connected\":true,"
    "\"last-heard-ms\":12},\"session\":\"00\",\"epoch\":1235,"
    "\"checkpoints\":{\"total\":1234,\"by-reason\":{\"initial\":1,\"period\":1233,\"admin\":0}},"
    "\"pause-ms\":{\"p50\":2.44,\"p99\":4.1,\"max\":9},"
    "\"transfer-ms\":{\"p50\":1,\"p99\":2,\"max\":3},\"apply-ms\":{\"p50\":1,\"p99\":2,\"max\":3},"
    "\"blocktime\":{\"total-ms\":1234,\"longest-ms\":17,\"share\":0.0142,\"corrections\":null},"
    "\"dirty\":{\"method\":\"uffd\",\"pages\":17},\"bytes\":{\"last\":122880,\"total\":1288490188},"
    "\"sync\":null,\"held\":{\"frames\":3,\"bytes\":4608,\"max-frames\":120,"
    "\"max-bytes\":1258291},\"packets\":{\"mirrored\":99,\"dropped\":0},"
    "\"arbiter\":{\"type\":\"file\",\"answer\":\"granted\"},\"takeovers\":2,\"last-error\":null,"
    "\"uptime-s\":11520}";

static char *page_of(const char *text, gboolean colour)
{
    json_object *status = json_tokener_parse(text);
    char *page = cli_status_page(status, colour);
    json_object_put(status);
    return page;
}

static void test_page(void)
{
    g_autofree char *page = page_of(full, FALSE);
    g_assert_cmpstr(page, ==,
                    "web: PROTECTED (primary, state colo, mode buffered, VM running)\n"
                    "\n"
                    "  node         alpha, up 3h 12m\n"
                    "  peer         beta at 10.0.0.2:9000, connected, heard 12 ms ago\n"
                    "  epoch        1235\n"
                    "  checkpoints  1234: initial 1, period 1233\n"
                    "                  p50      p99      max\n"
                    "    pause           2.4      4.1      9.0 ms\n"
                    "    transfer        1.0      2.0      3.0 ms\n"
                    "    apply           1.0      2.0      3.0 ms\n"
                    "  blocktime    1234 ms, longest 17 ms, 1.4 % of the last 10 s\n"
                    "  dirty        17 pages (uffd)\n"
                    "  stream       120.0 KiB last, 1.2 GiB in all\n"
                    "  held         3 frames, 4.5 KiB (at most 120, 1.2 MiB)\n"
                    "  packets      99 mirrored, 0 dropped\n"
                    "  arbiter      file: granted\n"
                    "  takeovers    2\n"
                    "  last error   none\n");
}

static void test_page_with_disks(void)
{
    g_autofree char *page = page_of(
        "{\"disks\":{\"flag\":\"inactive\",\"mode\":\"replica\",\"attached\":true,\"in-sync\":true,"
        "\"generation\":{\"current\":\"0123456789abcdef\",\"data\":\"behind\"},"
        "\"peer-generation\":{\"data\":\"writer\"},"
        "\"epoch\":12,\"queue-bytes\":0,\"sync\":{\"total-bytes\":4096,\"done-bytes\":1024},"
        "\"images\":[{\"name\":\"root\",\"size-bytes\":1073741824,\"dirty-bytes\":65536,"
        "\"staged-bytes\":512,\"overlay-bytes\":0,"
        "\"sync-error\":\"Input/output error\"}]}}",
        FALSE);
    g_assert_nonnull(strstr(page,
                            "  disks        inactive (replica), in sync, epoch 12, 0 B to send, "
                            "25.0 % compared\n"
                            "    generation 01234567 (behind), the peer had none (writer)\n"
                            "    root       1.0 GiB, dirty 64.0 KiB, staged 512 B, overlay 0 "
                            "B\n"
                            "               can't be made durable any more: "
                            "Input/output error\n"));
}

static void test_page_with_agent(void)
{
    g_autofree char *page = page_of(
        "{\"blocktime\":{\"total-ms\":9,\"longest-ms\":7,\"share\":0,\"corrections\":2}}", FALSE);
    g_assert_nonnull(strstr(page, "  blocktime    9 ms, longest 7 ms, 0.0 % of the last 10 s; "
                                  "clock set 2 times\n"));
}

/* Whether clients can reach each host. */
static void test_page_of_carriers(void)
{
    g_autofree char *page =
        page_of("{\"nics\":[{\"name\":\"lan\",\"carrier\":false,\"peer-carrier\":true},"
                "{\"name\":\"dmz\",\"carrier\":true,\"peer-carrier\":null}]}",
                FALSE);
    g_assert_nonnull(strstr(page,
                            "\n  nic          lan: NO CARRIER here, carrier at the peer\n"
                            "  nic          dmz: carrier here, carrier not known at the peer\n"));
}

static void test_page_in_trouble(void)
{
    g_autofree char *page =
        page_of("{\"vm\":{\"name\":\"web\"},\"protected\":false,\"peer\":{\"connected\":false},"
                "\"sync\":{\"percent\":41.96,\"sent-bytes\":1048576,\"total-bytes\":4194304,"
                "\"left-ms\":2100},\"last-error\":{\"text\":\"link: gone\\n\\u001b[2Jx\","
                "\"when\":\"2026-01-01T00:00:00Z\"}}",
                TRUE);
    g_assert_true(g_str_has_prefix(page, "web: \033[1;31mNOT PROTECTED\033[0m (-, state -, "));
    g_assert_nonnull(strstr(page, "  peer         - at an unknown address, not connected\n"));
    g_assert_nonnull(strstr(page, "  sync         42.0 %, sent 1.0 MiB for 4.0 MiB, 2.1 s left\n"));
    /* What a peer says can't move the cursor. */
    g_assert_nonnull(strstr(page, "  last error   link: gone ?[2Jx, at 2026-01-01T00:00:00Z\n"));
}

/* Both VMs are well, and there is nobody to ask. */
static void test_page_without_arbiter(void)
{
    g_autofree char *page =
        page_of("{\"vm\":{\"name\":\"web\"},\"protected\":false,\"state\":\"colo\","
                "\"arbiter\":{\"type\":\"file\",\"answer\":null,\"trouble\":\"gone\"}}",
                FALSE);
    g_assert_true(g_str_has_prefix(page, "web: NOT PROTECTED: the arbiter can't be asked (-, "));
    g_assert_nonnull(strstr(page, "  arbiter      file, can't be asked: gone\n"));
}

/* A node that waits: for what, what runs where, and what can be done. */
static void test_page_of_waiting(void)
{
    g_autofree char *page =
        page_of("{\"vm\":{\"name\":\"web\"},\"waiting\":{\"for\":\"a decision\","
                "\"runs\":\"a copy is here\",\"can\":\"colo failover --force\"}}",
                FALSE);
    g_assert_nonnull(strstr(page, "\n  waits for    a decision\n"
                                  "  what runs    a copy is here\n"
                                  "  possible     colo failover --force\n"));
    g_autofree char *other = page_of(full, FALSE);
    g_assert_null(strstr(other, "waits for"));
}

/* What went wrong last on either node. */
static void test_page_of_both_errors(void)
{
    g_autofree char *page =
        page_of("{\"vm\":{\"name\":\"web\"},\"peer\":{\"name\":\"beta\",\"last-error\":"
                "{\"text\":\"no room\",\"when\":\"2026-01-01T00:00:00Z\"}},\"last-error\":null}",
                FALSE);
    g_assert_nonnull(strstr(page, "\n  last error   none\n"
                                  "    of beta     no room, at 2026-01-01T00:00:00Z\n"));
}

/* Whatever is missing, or of another type, the page has all its lines. */
static void test_page_of_anything(void)
{
    json_object *values[] = {NULL,
                             json_object_new_int(1),
                             json_object_new_string("\033x"),
                             json_object_new_array(),
                             json_object_new_object(),
                             json_object_new_double(-1e300)};
    json_object *status = json_tokener_parse(full);
    json_object_object_foreach(status, name, unused)
    {
        (void)unused;
        for (gsize i = 0; i < G_N_ELEMENTS(values); i++) {
            json_object *changed = json_tokener_parse(full);
            json_object_object_add(changed, name, json_object_get(values[i]));
            g_autofree char *page = cli_status_page(changed, FALSE);
            g_assert_nonnull(strstr(page, "\n  last error   "));
            g_assert_null(strchr(page, '\033'));
            json_object_object_del(changed, name);
            g_autofree char *without = cli_status_page(changed, FALSE);
            g_assert_nonnull(strstr(without, "\n  last error   "));
            json_object_put(changed);
        }
    }
    for (gsize i = 0; i < G_N_ELEMENTS(values); i++) {
        g_autofree char *page = cli_status_page(values[i], FALSE);
        g_assert_true(g_str_has_prefix(page, "-: NOT PROTECTED"));
        json_object_put(values[i]);
    }
    json_object_put(status);
}

static void expect_event(const char *text, const char *end)
{
    json_object *event = json_tokener_parse(text);
    g_autofree char *line = cli_event_line(event);
    g_test_message("%s", line);
    g_assert_true(g_str_has_suffix(line, end));
    json_object_put(event);
}

static void test_events(void)
{
    g_setenv("TZ", "UTC", TRUE);
    expect_event("{\"event\":\"STATE_CHANGED\",\"data\":{\"from\":\"active\",\"to\":\"colo\"},"
                 "\"timestamp\":{\"seconds\":1700000000,\"microseconds\":123456}}",
                 "2023-11-14 22:13:20.123 STATE_CHANGED from=active to=colo");
    expect_event("{\"event\":\"ERROR\",\"data\":{\"text\":\"a b\\u001b[2J\",\"n\":[1,2]}}",
                 "ERROR text=\"a b?[2J\" n=[1,2]");
    expect_event("{\"event\":\"BARE\"}", "-.000 BARE");
    expect_event("{\"event\":\"ODD\",\"data\":7}", "ODD 7");
    expect_event("7", "-.000 -");
}

#define DIFFERENCE                                                                                 \
    "{\"reason\":\"payload\",\"flow\":\"tcp 10.0.0.2:80 -> 10.0.0.1:4711\",\"epoch\":9,"           \
    "\"when\":\"2026-01-01T00:00:00.250Z\",\"offset\":1234,\"detail\":\"other bytes\","            \
    "\"primary\":\"48 54 0a\",\"secondary\":null"

static void test_differences(void)
{
    g_autofree char *page =
        page_of("{\"compare\":{\"divergences\":{\"payload\":11,\"flag\":0,\"extra-output\":2},"
                "\"last\":[7,1,2,{}," DIFFERENCE "}]},"
                "\"capture\":{\"file\":\"/x/y.pcapng\",\"last\":10,\"written\":4}}",
                FALSE);
    g_assert_nonnull(strstr(page, "\n  differences  payload 11, extra-output 2\n    at -: -, "));
    g_assert_nonnull(strstr(page, "\n    at 2026-01-01T00:00:00.250Z: payload, tcp 10.0.0.2:80 -> "
                                  "10.0.0.1:4711, epoch 9, after 1234 equal bytes: other bytes\n"
                                  "      primary    48 54 0a \"HT.\"\n"
                                  "      secondary  nothing\n"
                                  "  capture      /x/y.pcapng, the last 10, 4 written\n"));
    g_assert_null(strstr(page, "uncompared"));
    g_autofree char *full_table = page_of("{\"compare\":{\"uncompared\":12}}", FALSE);
    g_assert_nonnull(strstr(
        full_table, "\n  uncompared   12 frames of new flows: there was no room for more\n"));
    expect_event(
        "{\"event\":\"DIVERGED\",\"data\":" DIFFERENCE ",\"left-out\":3}}",
        "DIVERGED payload, tcp 10.0.0.2:80 -> 10.0.0.1:4711, epoch 9, after 1234 equal "
        "bytes: other bytes (primary 48 54 0a \"HT.\", secondary nothing), 3 others before "
        "it");
    expect_event("{\"event\":\"DIVERGED\",\"data\":7}",
                 "DIVERGED -, -, epoch -, after - equal bytes: - (primary nothing, secondary "
                 "nothing)");
}

static void test_option_list(void)
{
    json_object *list = json_tokener_parse(
        "{\"min-gap\":{\"value\":\"10ms\",\"live\":true},\"vm.kernel\":{\"value\":\"\"},\"x\":1}");
    g_autofree char *text = cli_option_list(list);
    g_assert_cmpstr(text, ==,
                    "min-gap                  10ms  (live)\n"
                    "vm.kernel                -\n"
                    "x                        -\n");
    json_object_put(list);
    g_autofree char *nothing = cli_option_list(NULL);
    g_assert_cmpstr(nothing, ==, "");
}

static void test_set_line(void)
{
    static const struct {
        const char *result, *line;
    } cases[] = {
        {"{\"name\":\"mode\",\"value\":\"auto\",\"scope\":\"pair\",\"node\":\"a\",\"peer-told\":"
         "true}",                                                                "mode is auto on both nodes"  },
        {"{\"name\":\"mode\",\"value\":\"auto\",\"scope\":\"pair\",\"node\":\"a\",\"peer-told\":"
         "false}",                                                               "mode is auto on this node (a); no peer is connected: when one is, the primary's value "
         "counts"                                                                            },
        {"{\"name\":\"log-level\",\"value\":\"info\",\"scope\":\"node\",\"node\":\"a\"}",
         "log-level is info on this node (a) only"                                                                      },
        {"{}",                                                                            "- is - on this node (-) only"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        json_object *result = json_tokener_parse(cases[i].result);
        g_autofree char *line = cli_set_line(result);
        g_assert_cmpstr(line, ==, cases[i].line);
        json_object_put(result);
    }
}

static void test_quantities(void)
{
    static const struct {
        gint64 value;
        const char *bytes, *duration;
    } cases[] = {
        {0,                             "0 B",        "0 ms"            },
        {999,                           "999 B",      "999 ms"          },
        {1024,                          "1.0 KiB",    "1.0 s"           },
        {59999,                         "58.6 KiB",   "60.0 s"          },
        {3599999,                       "3.4 MiB",    "59m 59s"         },
        {86399999,                      "82.4 MiB",   "23h 59m"         },
        {G_GINT64_CONSTANT(5000000000), "4.7 GiB",    "57d 20h"         },
        {G_MAXINT64,                    "8192.0 PiB", "106751991167d 7h"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *bytes = cli_bytes(cases[i].value);
        g_autofree char *duration = cli_duration(cases[i].value);
        g_assert_cmpstr(bytes, ==, cases[i].bytes);
        g_assert_cmpstr(duration, ==, cases[i].duration);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cli/page", test_page);
    g_test_add_func("/cli/page-with-disks", test_page_with_disks);
    g_test_add_func("/cli/page-with-agent", test_page_with_agent);
    g_test_add_func("/cli/page-of-carriers", test_page_of_carriers);
    g_test_add_func("/cli/page-in-trouble", test_page_in_trouble);
    g_test_add_func("/cli/page-without-arbiter", test_page_without_arbiter);
    g_test_add_func("/cli/page-of-waiting", test_page_of_waiting);
    g_test_add_func("/cli/page-of-both-errors", test_page_of_both_errors);
    g_test_add_func("/cli/page-of-anything", test_page_of_anything);
    g_test_add_func("/cli/events", test_events);
    g_test_add_func("/cli/differences", test_differences);
    g_test_add_func("/cli/set-line", test_set_line);
    g_test_add_func("/cli/option-list", test_option_list);
    g_test_add_func("/cli/quantities", test_quantities);
    return g_test_run();
}
