/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of all options of a colod, and their values as text. It is the one place that knows an
 * option's name, type, unit, limits and default. The file's parser, `colo get/set` and the lists in
 * the man page and in --help are made from it. To add an option: a row in options.c, a member of
 * the struct it is kept in, and the man page's list, printed again (tests/tools/print-options).
 */
#ifndef COLO_COLO_CONFIG_OPTIONS_H
#define COLO_COLO_CONFIG_OPTIONS_H

#include <glib.h>

typedef enum {
    OPTION_TEXT,      /* anything but nothing */
    OPTION_NAME,      /* 1 to 64 letters, digits and -_.+@ */
    OPTION_PATH,      /* absolute */
    OPTION_SOCKET,    /* absolute, short enough for a unix socket */
    OPTION_ADDRESS,   /* common/address.h, numeric */
    OPTION_INTERFACE, /* name of a network interface */
    OPTION_INHERITED, /* fd:NAME, a descriptor that colod was started with */
    OPTION_CHOICE,    /* one of `choices`; kept as an enum, in their order */
    OPTION_YES_NO,    /* kept as a gboolean */
    OPTION_ARGUMENTS, /* a list, quoted as for a shell; a GPtrArray of char* */
    OPTION_COUNT,     /* a whole number, with `unit` after it or without */
    OPTION_TIME,      /* a whole number and ms, s or min; kept in milliseconds */
    OPTION_SIZE,      /* a whole number and B, KiB, MiB, GiB or TiB; kept in bytes */
} OptionType;

/* The struct that keeps an option's value. */
typedef enum {
    OPTION_OF_CONFIG,     /* Config */
    OPTION_OF_VM,         /* VmDescription */
    OPTION_OF_VM_NIC,     /* VmNic */
    OPTION_OF_CONFIG_NIC, /* ConfigNic */
    OPTION_OF_VM_DISK,    /* VmDisk */
} OptionOwner;

typedef struct {
    const char *section; /* "nic" for every [nic NAME], "disk" for every [disk NAME] */
    const char *name;
    OptionType type;
    OptionOwner owner;
    gsize offset, size;   /* of the value in its owner; numbers have 4 or 8 bytes, choices 4 */
    const char *fallback; /* the default in the file's syntax; NULL: none */
    const char *help;     /* one sentence or more, for people */
    const char *const *choices; /* OPTION_CHOICE; ends with NULL. A first "" is no value */
    guint64 min, max;           /* numbers */
    const char *unit;           /* OPTION_COUNT, may be NULL */
    gboolean required;          /* in the file */
    gboolean live;              /* may change while running */
    gboolean of_pair;           /* live: one value on both nodes; else each has its own */
} Option;

/* The table; ends with a NULL section. Sections are contiguous; keys of live options are unique. */
const Option *options_table(void);

/* By section and key; NULL if there is none. */
const Option *options_find(const char *section, const char *name);

/* Whether there may be many of a section, each with a name: [nic NAME]. */
gboolean options_section_is_named(const char *section);

/* The nearest known name: of a section, of a key in `section`, of a live key. NULL: none is near.
 */
const char *options_nearest_section(const char *section);
const char *options_nearest_key(const char *section, const char *name);
const char *options_nearest_live(const char *name);

/* "key, key and key" of a section (NULL: of all live ones), or all sections. Free with g_free(). */
char *options_list_keys(const char *section);
char *options_list_sections(void);

/*
 * Parses `text` into the value in `owner`, freeing the value before. FALSE with CONFIG_ERROR_VALUE
 * and nothing changed; the message begins with "KEY: " and tells what would be right.
 */
gboolean option_parse(const Option *option, const char *text, void *owner, GError **error);

/* The value as text that option_parse() takes; "" for no value. Free with g_free(). */
char *option_format(const Option *option, const void *owner);

/* Frees the value (to NULL); numbers become 0. */
void option_clear(const Option *option, void *owner);

/* What a value looks like: "time, 1ms to 1min", "one of none, file". Free with g_free(). */
char *option_type_text(const Option *option);

/* The list for --help: all options, or the live ones. Free with g_free(). */
char *options_help(gboolean live_only);

#endif
