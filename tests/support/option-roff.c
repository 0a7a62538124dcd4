/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/option-roff.h"

#include <string.h>

#include "colo/config/options.h"

/* Text as roff: backslashes and hyphens are what they look like. */
static void append_text(GString *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\\')
            g_string_append(out, "\\e");
        else if (*text == '-')
            g_string_append(out, "\\-");
        else
            g_string_append_c(out, *text);
    }
}

char *option_roff(void)
{
    GString *out = g_string_new(NULL);
    const char *last = "";
    for (const Option *o = options_table(); o->section; o++) {
        if (strcmp(o->section, last))
            g_string_append_printf(
                out, options_section_is_named(o->section) ? ".SS [%s NAME]\n" : ".SS [%s]\n",
                o->section);
        last = o->section;
        g_autofree char *type = option_type_text(o);
        g_string_append(out, ".TP\n\\fB");
        append_text(out, o->name);
        g_string_append(out, "\\fR = \\fI");
        append_text(out, type);
        g_string_append(out, "\\fR");
        if (o->fallback) {
            g_string_append(out, ", default ");
            append_text(out, o->fallback);
        }
        g_string_append(out, o->required ? ", required" : "");
        g_string_append(out, o->of_pair ? ", live, of the pair\n" : o->live ? ", live\n" : "\n");
        append_text(out, o->help);
        g_string_append(out, "\n");
    }
    return g_string_free(out, FALSE);
}
