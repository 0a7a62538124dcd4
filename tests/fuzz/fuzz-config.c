/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A configuration file of any bytes: an error with a message or a Config that is sound. Of a good
 * one every option can be got, and every live one set to what it is.
 */
#include <stdint.h>
#include <string.h>

#include "colo/config.h"
#include "colo/options.h"

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
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
