/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A configuration file of any bytes: an error with a message or a Config that is sound. Of a good
 * one every option can be got, and every live one set to what it is. The same bytes as a peer's
 * word about options of the pair: all of it or nothing.
 */
#include <stdint.h>
#include <string.h>

#include "colo/config/config.h"
#include "colo/config/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(Config *config)
{
    json_object *list = config_list(config);
    json_object_object_foreach(list, name, entry)
    {
        (void)entry;
        g_autofree char *value = config_get(config, name, NULL);
        g_assert(value);
        for (const Option *o = options_table(); o->section; o++)
            if (o->live && !strcmp(o->name, name))
                g_assert(config_set(config, name, value, NULL));
    }
    json_object_put(list);
}

static void use_as_word(const uint8_t *data, size_t size)
{
    static const char text[] = "[node]\nname=a\nlisten=10.0.0.1:1\n[vm]\nname=web\nmemory=1MiB\n"
                               "uuid=6f1c3c2e-3f5e-4a8a-9c3e-0a6b7d1f2e01\n";
    g_autoptr(Config) config = config_load_data("x", text, sizeof(text) - 1, "primary", NULL);
    g_autofree char *before = config_pair_text(config);
    g_autofree char *word = g_strndup((const char *)data, size);
    g_autoptr(GError) error = NULL;
    json_object *changed = NULL;
    gboolean ok =
        g_utf8_validate(word, -1, NULL) && config_set_pair(config, word, &changed, &error);
    g_autofree char *after = config_pair_text(config);
    g_assert(ok || !strcmp(before, after));
    json_object_put(changed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    use_as_word(data, size);
    static const char *const roles[] = {NULL, "primary", "secondary"};
    for (gsize i = 0; i < G_N_ELEMENTS(roles); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Config) config =
            config_load_data("fuzz.conf", (const char *)data, size, roles[i], &error);
        g_assert(!config == (error != NULL));
        g_assert(!error || g_utf8_validate(error->message, -1, NULL));
        if (config)
            use(config);
    }
    return 0;
}
