/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/address.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/un.h>

#define TCP   "tcp:"
#define UNIX  "unix:"
#define FDSET "fdset:"
#define FD    "fd:"

/* With the byte that ends it. */
#define PATH_BYTES sizeof(((struct sockaddr_un *)NULL)->sun_path)
G_STATIC_ASSERT(PATH_BYTES == 108);
#define FD_NAME_MAX 255
#define PORT_FORM   "the port must be a number from 1 to 65535"

static const char *parse_unix(const char *path, ColoAddress *address)
{
    if (path[0] != '/')
        return "unix: needs an absolute path, such as unix:/run/colo/web.link";
    if (strlen(path) >= PATH_BYTES)
        return "the path is too long for a unix socket: at most 107 bytes";
    address->kind = COLO_ADDRESS_UNIX;
    address->path = g_strdup(path);
    return NULL;
}

static const char *parse_fdset(const char *number, ColoAddress *address)
{
    guint64 set;
    if (!g_ascii_string_to_unsigned(number, 10, 0, G_MAXINT32, &set, NULL))
        return "fdset: needs the number of a set, such as fdset:3 (query-fdsets lists them)";
    address->kind = COLO_ADDRESS_FDSET;
    address->fdset = (int)set;
    return NULL;
}

/* systemd.socket(5): what a name may be. */
static const char *parse_fd(const char *name, ColoAddress *address)
{
    if (!*name || strlen(name) > FD_NAME_MAX)
        return "fd: needs the name of a descriptor, 1 to 255 bytes, such as fd:link";
    for (const char *at = name; *at; at++)
        if (!g_ascii_isprint(*at) || *at == ':')
            return "fd: the name of a descriptor has printable characters, and no colon";
    address->kind = COLO_ADDRESS_FD;
    address->name = g_strdup(name);
    return NULL;
}

static gboolean is_number(const char *host, gboolean is_v6)
{
    struct in6_addr address;
    g_auto(GStrv) scope = g_strsplit(host, "%", 2); /* fe80::1%eth0 */
    return is_v6 ? inet_pton(AF_INET6, scope[0], &address) == 1
                 : inet_pton(AF_INET, host, &address) == 1;
}

/* The port is all after the last colon; a host with colons stands in brackets. */
static const char *parse_tcp(const char *text, ColoAddress *address)
{
    const char *colon = strrchr(text, ':');
    const char *start = text, *end = colon;
    guint64 port;
    if (!colon || colon == text)
        return COLO_ADDRESS_FORMS;
    if (text[0] == '[') {
        start++;
        if (*--end != ']')
            return COLO_ADDRESS_FORMS;
    } else if (memchr(text, ':', (gsize)(colon - text))) {
        return COLO_ADDRESS_FORMS;
    }
    if (end <= start)
        return COLO_ADDRESS_FORMS;
    if (!g_ascii_string_to_unsigned(colon + 1, 10, 0, G_MAXUINT16, &port, NULL))
        return PORT_FORM;
    address->kind = COLO_ADDRESS_TCP;
    address->host = g_strndup(start, (gsize)(end - start));
    address->port = (guint16)port;
    address->is_v6 = text[0] == '[';
    address->is_number = is_number(address->host, address->is_v6);
    return NULL;
}

gboolean colo_address_parse(const char *text, ColoAddress *ret_address, const char **ret_wrong)
{
    static const struct {
        const char *prefix;
        const char *(*parse)(const char *rest, ColoAddress *address);
    } forms[] = {
        {UNIX,  parse_unix },
        {FDSET, parse_fdset},
        {FD,    parse_fd   },
        {TCP,   parse_tcp  },
        {"",    parse_tcp  },
    };
    ColoAddress address = COLO_ADDRESS_INIT;
    gsize form = 0;
    while (!g_str_has_prefix(text, forms[form].prefix))
        form++;
    const char *wrong = forms[form].parse(text + strlen(forms[form].prefix), &address);
    if (wrong) {
        *ret_wrong = wrong;
        return FALSE;
    }
    *ret_address = address;
    return TRUE;
}

const char *colo_address_wrong_numbers(const ColoAddress *address)
{
    if (address->kind != COLO_ADDRESS_TCP)
        return NULL;
    if (!address->is_number)
        return COLO_ADDRESS_FORMS;
    return address->port == 0 ? PORT_FORM : NULL;
}

void colo_address_clear(ColoAddress *address)
{
    g_clear_pointer(&address->path, g_free);
    g_clear_pointer(&address->host, g_free);
    g_clear_pointer(&address->name, g_free);
}

gboolean colo_address_equal(const char *a, const char *b)
{
    g_auto(ColoAddress) left = COLO_ADDRESS_INIT;
    g_auto(ColoAddress) right = COLO_ADDRESS_INIT;
    const char *wrong;
    return colo_address_parse(a, &left, &wrong) && colo_address_parse(b, &right, &wrong) &&
           left.kind == right.kind && !g_strcmp0(left.path, right.path) &&
           !g_strcmp0(left.host, right.host) && !g_strcmp0(left.name, right.name) &&
           left.port == right.port && left.fdset == right.fdset;
}
