/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Values of options as text, both ways. A unit is never guessed: a time or a size without one is an
 * error that shows how to write it.
 */
#include <net/if.h>
#include <stdarg.h>
#include <string.h>
#include <sys/un.h>

#include "colo/config/config.h"
#include "common/address.h"

typedef struct {
    const char *name;
    guint64 factor;
} Unit;

/* Ascending; the first is the one values are kept in. */
static const Unit time_units[] = {
    {"ms",  1    },
    {"s",   1000 },
    {"min", 60000},
    {NULL,  0    }
};
static const Unit size_units[] = {
    {"B",   1                          },
    {"KiB", G_GUINT64_CONSTANT(1) << 10},
    {"MiB", G_GUINT64_CONSTANT(1) << 20},
    {"GiB", G_GUINT64_CONSTANT(1) << 30},
    {"TiB", G_GUINT64_CONSTANT(1) << 40},
    {NULL,  0                          }
};

static const Unit *units_of(const Option *option)
{
    return option->type == OPTION_TIME ? time_units : size_units;
}

static gboolean is_number(const Option *option)
{
    return option->type == OPTION_COUNT || option->type == OPTION_TIME ||
           option->type == OPTION_SIZE;
}

static gboolean is_choice(const Option *option)
{
    return option->type == OPTION_CHOICE || option->type == OPTION_YES_NO;
}

G_GNUC_PRINTF(4, 5)
static gboolean wrong(const Option *option, const char *text, GError **error, const char *format,
                      ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *expected = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_VALUE, "%s: '%s': %s", option->name, text,
                expected);
    return FALSE;
}

/* ---- Numbers ---- */

static char *format_number(const Option *option, guint64 value)
{
    if (option->type == OPTION_COUNT)
        return g_strdup_printf("%" G_GUINT64_FORMAT "%s%s", value, option->unit ? " " : "",
                               option->unit ? option->unit : "");
    const Unit *best = units_of(option);
    for (const Unit *unit = best; unit->name; unit++)
        if (value > 0 && value % unit->factor == 0)
            best = unit;
    return g_strdup_printf("%" G_GUINT64_FORMAT "%s", value / best->factor, best->name);
}

/* The unit that was probably meant: M and MB are MiB, sec is s, minutes are min. */
static const char *meant_unit(const Option *option, const char *given)
{
    if (option->type == OPTION_TIME)
        return g_str_has_prefix(given, "mi") ? "min" : *given == 's' ? "s" : "ms";
    for (const Unit *unit = size_units; unit->name; unit++)
        if (g_ascii_tolower(unit->name[0]) == g_ascii_tolower(*given))
            return unit->name;
    return "MiB";
}

static gboolean wrong_unit(const Option *option, const char *text, const char *digits,
                           const char *given, GError **error)
{
    const char *all = option->type == OPTION_TIME ? "ms, s or min" : "B, KiB, MiB, GiB or TiB";
    const char *meant = meant_unit(option, given);
    if (!*given)
        return wrong(option, text, error, "the unit is missing (%s): write, say, %s%s", all, digits,
                     meant);
    return wrong(option, text, error, "unknown unit '%s' (%s): write, say, %s%s", given, all,
                 digits, meant);
}

static gboolean find_factor(const Option *option, const char *text, const char *digits,
                            const char *given, guint64 *ret_factor, GError **error)
{
    if (option->type == OPTION_COUNT) {
        if (*given && (!option->unit || strcmp(given, option->unit)))
            return option->unit
                       ? wrong(option, text, error, "unknown unit '%s': write %s or %s %s", given,
                               digits, digits, option->unit)
                       : wrong(option, text, error, "expected a whole number such as %s", digits);
        *ret_factor = 1;
        return TRUE;
    }
    /* Nothing is nothing in any unit. */
    if (!*given && !digits[strspn(digits, "0")]) {
        *ret_factor = 1;
        return TRUE;
    }
    for (const Unit *unit = units_of(option); unit->name; unit++) {
        if (!strcmp(unit->name, given)) {
            *ret_factor = unit->factor;
            return TRUE;
        }
    }
    return wrong_unit(option, text, digits, given, error);
}

static const char *number_example(const Option *option)
{
    return option->type == OPTION_TIME ? "100ms" : option->type == OPTION_SIZE ? "512MiB" : "1";
}

static gboolean parse_number(const Option *option, const char *text, guint64 *ret_value,
                             GError **error)
{
    gsize n_digits = strspn(text, "0123456789");
    if (n_digits == 0 || text[n_digits] == '.' || text[n_digits] == ',')
        return wrong(option, text, error, "expected a whole number%s such as %s",
                     option->type == OPTION_COUNT ? "" : " with its unit", number_example(option));
    g_autofree char *digits = g_strndup(text, n_digits);
    const char *given = text + n_digits + strspn(text + n_digits, " ");
    guint64 factor = 1, number;
    if (!find_factor(option, text, digits, given, &factor, error))
        return FALSE;
    if (!g_ascii_string_to_unsigned(digits, 10, 0, G_MAXUINT64, &number, NULL) ||
        number > G_MAXUINT64 / factor || number * factor < option->min ||
        number * factor > option->max) {
        g_autofree char *min = format_number(option, option->min);
        g_autofree char *max = format_number(option, option->max);
        return wrong(option, text, error, "out of range: expected %s to %s", min, max);
    }
    *ret_value = number * factor;
    return TRUE;
}

static guint64 load_number(const Option *option, const void *field)
{
    g_assert(option->size == sizeof(guint32) || option->size == sizeof(guint64));
    return option->size == sizeof(guint32) ? *(const guint32 *)field : *(const guint64 *)field;
}

static void store_number(const Option *option, void *field, guint64 value)
{
    g_assert(option->size == sizeof(guint32) || option->size == sizeof(guint64));
    if (option->size == sizeof(guint32))
        *(guint32 *)field = (guint32)value;
    else
        *(guint64 *)field = value;
}

/* ---- Text ---- */

static gboolean check_name(const Option *option, const char *text, GError **error)
{
    gsize len = strlen(text);
    for (const char *at = text; *at; at++)
        if (!g_ascii_isalnum(*at) && !strchr("-_.+@", *at))
            len = 0;
    if (len == 0 || len > 64)
        return wrong(option, text, error, "expected 1 to 64 letters, digits and any of -_.+@");
    return TRUE;
}

static gboolean check_path(const Option *option, const char *text, GError **error)
{
    const gsize socket_max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
    if (text[0] != '/')
        return wrong(option, text, error, "expected an absolute path (one that begins with /)");
    if (option->type == OPTION_SOCKET && strlen(text) > socket_max)
        return wrong(option, text, error, "too long for a unix socket: at most %zu bytes",
                     socket_max);
    return TRUE;
}

/* Numeric: a name is resolved late, by a server that may be away. */
static gboolean check_address(const Option *option, const char *text, GError **error)
{
    g_auto(ColoAddress) address = COLO_ADDRESS_INIT;
    const char *why;
    if (!colo_address_parse(text, &address, &why))
        return wrong(option, text, error, "%s", why);
    if (address.kind == COLO_ADDRESS_FDSET)
        return wrong(option, text, error,
                     "there is no set before colod runs: 'colo recover' has it");
    if (address.kind == COLO_ADDRESS_FD && strcmp(option->name, "listen"))
        return wrong(option, text, error, "what colod is started with can only be listened on");
    why = colo_address_wrong_numbers(&address);
    return !why || wrong(option, text, error, "%s", why);
}

/* The kernel's rules (dev_valid_name), plus one %d as in a pattern. */
static gboolean check_interface(const Option *option, const char *text, GError **error)
{
    gboolean pattern = option->fallback != NULL;
    gboolean good = strcmp(text, ".") && strcmp(text, "..") && strlen(text) < IFNAMSIZ;
    guint holes = 0;
    for (const char *at = text; *at; at++) {
        if (at[0] == '%' && at[1] == 'd')
            holes++;
        else if (at[0] == '%')
            good = FALSE;
        good = good && !g_ascii_isspace(*at) && *at != '/' && *at != ':' && (guchar)*at > 0x20;
    }
    if (!good || holes > (pattern ? 1 : 0))
        return wrong(option, text, error,
                     "expected the name of an interface: 1 to %d bytes without space, / and :%s",
                     IFNAMSIZ - 1, pattern ? ", with at most one %d" : "");
    return TRUE;
}

static gboolean check_inherited(const Option *option, const char *text, GError **error)
{
    g_auto(ColoAddress) address = COLO_ADDRESS_INIT;
    const char *why;
    if (!g_str_has_prefix(text, COLO_ADDRESS_FD_PREFIX))
        return wrong(option, text, error, "expected " COLO_ADDRESS_FD_PREFIX "NAME");
    return colo_address_parse(text, &address, &why) || wrong(option, text, error, "%s", why);
}

/* ---- Choices ---- */

static const char *const *choices_of(const Option *option)
{
    static const char *const yes_no[] = {"no", "yes", NULL}; /* FALSE, TRUE */
    return option->type == OPTION_YES_NO ? yes_no : option->choices;
}

static char *join_choices(const Option *option, const char *last)
{
    if (option->type == OPTION_YES_NO)
        return g_strdup_printf("yes%sno", last);
    guint first = *option->choices[0] ? 0 : 1;
    GString *text = g_string_new(option->choices[first]);
    for (guint i = first + 1; option->choices[i]; i++)
        g_string_append_printf(text, "%s%s", option->choices[i + 1] ? ", " : last,
                               option->choices[i]);
    return g_string_free(text, FALSE);
}

static gboolean parse_choice(const Option *option, const char *text, guint64 *ret_value,
                             GError **error)
{
    const char *const *choices = choices_of(option);
    for (guint i = 0; *text && choices[i]; i++)
        if (!strcmp(text, choices[i])) {
            *ret_value = i;
            return TRUE;
        }
    g_autofree char *expected = join_choices(option, " or ");
    return wrong(option, text, error, "expected %s", expected);
}

static gboolean check_given(const Option *option, const char *text, GError **error)
{
    if (!*text)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_VALUE,
                    "%s: the value is empty: give one, or leave the key out", option->name);
    return *text;
}

static gboolean check_text(const Option *option, const char *text, GError **error)
{
    if (!check_given(option, text, error))
        return FALSE;
    switch (option->type) {
    case OPTION_NAME:
        return check_name(option, text, error);
    case OPTION_PATH:
    case OPTION_SOCKET:
        return check_path(option, text, error);
    case OPTION_ADDRESS:
        return check_address(option, text, error);
    case OPTION_INTERFACE:
        return check_interface(option, text, error);
    case OPTION_INHERITED:
        return check_inherited(option, text, error);
    default:
        return TRUE;
    }
}

static gboolean parse_arguments(const Option *option, const char *text, GPtrArray *ret_arguments,
                                GError **error)
{
    g_autoptr(GError) why = NULL;
    g_auto(GStrv) argv = NULL;
    if (*text && !g_shell_parse_argv(text, NULL, &argv, &why) &&
        !g_error_matches(why, G_SHELL_ERROR, G_SHELL_ERROR_EMPTY_STRING))
        return wrong(option, text, error, "%s Quote it as for a shell", why->message);
    g_ptr_array_set_size(ret_arguments, 0);
    for (char **arg = argv; arg && *arg; arg++)
        g_ptr_array_add(ret_arguments, g_strdup(*arg));
    return TRUE;
}

static char *format_arguments(const GPtrArray *arguments)
{
    GString *text = g_string_new(NULL);
    for (guint i = 0; i < arguments->len; i++) {
        const char *arg = g_ptr_array_index(arguments, i);
        gboolean plain = *arg && !strpbrk(arg, " \t\n\"'\\$`#&;|<>()*?[]~!{}");
        g_autofree char *quoted = plain ? g_strdup(arg) : g_shell_quote(arg);
        g_string_append_printf(text, "%s%s", i > 0 ? " " : "", quoted);
    }
    return g_string_free(text, FALSE);
}

/* ---- All types ---- */

gboolean option_parse(const Option *option, const char *text, void *owner, GError **error)
{
    void *field = (guint8 *)owner + option->offset;
    if (is_number(option) || is_choice(option)) {
        guint64 value = 0;
        if (is_choice(option)
                ? !check_given(option, text, error) || !parse_choice(option, text, &value, error)
                : !parse_number(option, text, &value, error))
            return FALSE;
        store_number(option, field, value);
        return TRUE;
    }
    if (option->type == OPTION_ARGUMENTS)
        return parse_arguments(option, text, *(GPtrArray **)field, error);
    if (!check_text(option, text, error))
        return FALSE;
    char *copy = g_strdup(text);
    g_free(*(char **)field);
    *(char **)field = copy;
    return TRUE;
}

char *option_format(const Option *option, const void *owner)
{
    const void *field = (const guint8 *)owner + option->offset;
    if (is_number(option))
        return format_number(option, load_number(option, field));
    if (is_choice(option))
        return g_strdup(choices_of(option)[load_number(option, field)]);
    if (option->type == OPTION_ARGUMENTS)
        return format_arguments(*(GPtrArray *const *)field);
    const char *text = *(char *const *)field;
    return g_strdup(text ? text : "");
}

void option_clear(const Option *option, void *owner)
{
    void *field = (guint8 *)owner + option->offset;
    if (is_number(option) || is_choice(option))
        store_number(option, field, 0);
    else if (option->type == OPTION_ARGUMENTS)
        g_ptr_array_set_size(*(GPtrArray **)field, 0);
    else
        g_clear_pointer((char **)field, g_free);
}

char *option_type_text(const Option *option)
{
    g_autofree char *min = format_number(option, option->min);
    g_autofree char *max = format_number(option, option->max);
    switch (option->type) {
    case OPTION_TEXT:
        return g_strdup("text");
    case OPTION_NAME:
        return g_strdup("name");
    case OPTION_PATH:
    case OPTION_SOCKET:
        return g_strdup("absolute path");
    case OPTION_ADDRESS:
        return g_strdup("ADDRESS:PORT, [ADDRESS]:PORT or unix:/PATH");
    case OPTION_INTERFACE:
        return g_strdup("network interface");
    case OPTION_INHERITED:
        return g_strdup(COLO_ADDRESS_FD_PREFIX "NAME");
    case OPTION_ARGUMENTS:
        return g_strdup("arguments");
    case OPTION_CHOICE:
    case OPTION_YES_NO:
        return join_choices(option, " or ");
    case OPTION_COUNT:
    case OPTION_TIME:
    case OPTION_SIZE:
        return g_strdup_printf("%s to %s", min, max);
    }
    g_assert_not_reached();
}
