/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of options: is it sound, and does everything that is made from it agree with it? */
#include "colo/config/options.h"

#include <string.h>

#include "checkpoint/stream_internal.h"
#include "colo/config/config.h"
#include "netcompare/netcompare.h"
#include "tests/support/option-roff.h"

static void *owner_of(Config *config, const Option *option)
{
    switch (option->owner) {
    case OPTION_OF_CONFIG:
        return config;
    case OPTION_OF_VM:
        return config->vm;
    case OPTION_OF_VM_NIC:
        return g_ptr_array_index(config->vm->nics, 0);
    case OPTION_OF_CONFIG_NIC:
        return g_ptr_array_index(config->nics, 0);
    case OPTION_OF_VM_DISK:
        return g_ptr_array_index(config->vm->disks, 0);
    }
    g_assert_not_reached();
}

static Config *example(void)
{
    static const char text[] = "[node]\nname=a\nlisten=10.0.0.1:1\n[vm]\nname=web\nmemory=1MiB\n"
                               "uuid=6f1c3c2e-3f5e-4a8a-9c3e-0a6b7d1f2e01\n"
                               "[nic lan]\nmac=52:54:00:12:34:56\n"
                               "[disk root]\npath=/x\n";
    g_autoptr(GError) error = NULL;
    Config *config = config_load_data("x", text, strlen(text), "primary", &error);
    g_assert_no_error(error);
    return config;
}

static void test_table_is_sound(void)
{
    const char *last = "";
    for (const Option *o = options_table(); o->section; o++) {
        g_test_message("%s.%s", o->section, o->name);
        g_assert_true(options_find(o->section, o->name) == o); /* no name twice */
        if (strcmp(last, o->section))                          /* sections are contiguous */
            for (const Option *before = options_table(); before < o; before++)
                g_assert_cmpstr(before->section, !=, o->section);
        last = o->section;
        g_assert_true(g_str_has_suffix(o->help, "."));
        g_assert_true(g_ascii_isupper(o->help[0]) || g_str_has_prefix(o->help, "colo: "));
        g_assert_true((o->type == OPTION_CHOICE) == (o->choices != NULL));
        g_assert_false(o->required && o->fallback);
        gboolean number =
            o->type == OPTION_COUNT || o->type == OPTION_TIME || o->type == OPTION_SIZE;
        g_assert_true(number == (o->max > 0));
        gboolean choice = o->type == OPTION_CHOICE || o->type == OPTION_YES_NO;
        if (choice)
            g_assert_cmpuint(o->size, ==, 4);
        else
            g_assert_true(o->size == sizeof(char *) || (number && o->size == 4));
        for (const Option *other = options_table(); o->live && other->section; other++)
            g_assert_true(other == o || strcmp(other->name, o->name));
        /* `colo set` and the daemon's reaction work on Config only. */
        g_assert_true(!o->live || o->owner == OPTION_OF_CONFIG);
        g_assert_true(!o->of_pair || o->live);
    }
}

/* What is printed can be read back, for defaults and at both ends of each range. */
static void test_round_trip(void)
{
    g_autoptr(Config) config = example();
    for (const Option *o = options_table(); o->section; o++) {
        void *owner = owner_of(config, o);
        g_autoptr(GError) error = NULL;
        g_autofree char *before = option_format(o, owner);
        if (*before) {
            g_assert_true(option_parse(o, before, owner, &error));
            g_autofree char *after = option_format(o, owner);
            g_assert_cmpstr(after, ==, before);
        }
        if (o->max == 0)
            continue;
        g_autofree char *type = option_type_text(o);
        g_auto(GStrv) ends = g_strsplit(type, " to ", 2);
        for (guint i = 0; i < 2; i++) {
            g_assert_true(option_parse(o, ends[i], owner, &error));
            g_autofree char *text = option_format(o, owner);
            g_assert_cmpstr(text, ==, ends[i]);
        }
    }
}

/* Nothing of any unit is nothing: it is read where the range has it, and else out of range. */
static void test_plain_zero(void)
{
    g_autoptr(Config) config = example();
    guint with = 0, without = 0;
    for (const Option *o = options_table(); o->section; o++) {
        if (o->max == 0)
            continue;
        g_autoptr(GError) error = NULL;
        gboolean good = option_parse(o, "0", owner_of(config, o), &error);
        g_test_message("%s: %s", o->name, error ? error->message : "good");
        g_assert_true(good == (o->min == 0));
        g_assert_true(good || strstr(error->message, "out of range"));
        *(good ? &with : &without) += 1;
    }
    g_assert_cmpuint(with, >, 3);
    g_assert_cmpuint(without, >, 3);
}

static void test_choices_are_accepted(void)
{
    g_autoptr(Config) config = example();
    for (const Option *o = options_table(); o->section; o++)
        for (guint i = 0; o->choices && o->choices[i]; i++)
            g_assert_true(option_parse(o, o->choices[i], owner_of(config, o), NULL) ==
                          (*o->choices[i] != 0));
}

static void test_clear(void)
{
    g_autoptr(Config) config = example();
    const Option *kernel = options_find("vm", "kernel"), *cpus = options_find("vm", "cpus");
    const Option *extra = options_find("vm", "extra");
    g_assert_true(option_parse(kernel, "/k", config->vm, NULL));
    g_assert_true(option_parse(extra, "a b", config->vm, NULL));
    option_clear(kernel, config->vm);
    option_clear(cpus, config->vm);
    option_clear(extra, config->vm);
    g_assert_null(config->vm->kernel);
    g_assert_cmpuint(config->vm->cpus, ==, 0);
    g_assert_cmpuint(config->vm->extra->len, ==, 0);
}

static void test_nearest(void)
{
    g_assert_cmpstr(options_nearest_section("vms"), ==, "vm");
    g_assert_cmpstr(options_nearest_section("Checkpoint"), ==, "checkpoint");
    g_assert_null(options_nearest_section("storage"));
    g_assert_cmpstr(options_nearest_key("vm", "memroy"), ==, "memory");
    g_assert_cmpstr(options_nearest_key("checkpoint", "period"), ==, "checkpoint-period");
    g_assert_null(options_nearest_key("vm", "checkpoint-period"));
    g_assert_cmpstr(options_nearest_live("heartbeat"), ==, "heartbeat-interval");
    g_autofree char *endless = g_strnfill(5000, 'x');
    g_assert_null(options_nearest_live(endless));
}

static void test_help(void)
{
    g_autofree char *all = options_help(FALSE), *live = options_help(TRUE);
    for (const Option *o = options_table(); o->section; o++) {
        g_autofree char *line = g_strdup_printf("  %s ", o->name);
        g_assert_nonnull(strstr(all, line));
        g_assert_true((strstr(live, line) != NULL) == o->live ||
                      options_section_is_named(o->section)); /* no live one has such a name */
    }
    g_assert_nonnull(strstr(all, "[nic NAME]\n"));
    g_assert_nonnull(strstr(all, "[disk NAME]\n"));
    g_assert_null(strstr(live, "["));
}

/* The page has the table's list, all of it and nothing else, between its marks. */
static void test_man_page(void)
{
    const char *tests = g_getenv("COLO_TESTS");
    g_autofree char *path =
        g_build_filename(tests ? tests : "tests", "..", "docs", "man", "colod.conf.5", NULL);
    g_autofree char *page = NULL;
    g_autoptr(GError) error = NULL;
    g_file_get_contents(path, &page, NULL, &error);
    g_assert_no_error(error);
    static const char begin[] = ".\\\" The list: printed by tests/tools/print-options\n";
    static const char end[] = ".\\\" The end of the list\n";
    const char *from = strstr(page, begin), *to = strstr(page, end);
    g_assert_true(from && to && from < to);
    from += strlen(begin);
    g_autofree char *given = g_strndup(from, (gsize)(to - from));
    g_autofree char *expected = option_roff();
    g_assert_cmpstr(given, ==, expected);
}

static void on_released(unsigned nic, GBytes *frame, gpointer user_data)
{
    (void)nic;
    (void)frame;
    (void)user_data;
}

/* A gate that is full, at the highest output-limit, fits into one checkpoint. */
static void test_output_limit(void)
{
    gsize limit = options_find("checkpoint", "output-limit")->max;
    g_assert_cmpuint(limit, <=, STREAM_FRAMES_BYTES_MAX);
    g_autoptr(Gate) gate = gate_new(limit, on_released, NULL);
    while (gate_add(gate, 0, 1, (const guint8 *)"", 1) != GATE_FULL)
        continue;
    g_assert_cmpuint(gate_stats(gate)->frames, <=, STREAM_FRAMES_MAX);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/options/table", test_table_is_sound);
    g_test_add_func("/options/round-trip", test_round_trip);
    g_test_add_func("/options/plain-zero", test_plain_zero);
    g_test_add_func("/options/choices", test_choices_are_accepted);
    g_test_add_func("/options/clear", test_clear);
    g_test_add_func("/options/nearest", test_nearest);
    g_test_add_func("/options/help", test_help);
    g_test_add_func("/options/man-page", test_man_page);
    g_test_add_func("/options/output-limit", test_output_limit);
    return g_test_run();
}
