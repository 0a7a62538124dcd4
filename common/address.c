/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/address.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/un.h>

#define TCP  "tcp:"
#define UNIX "unix:"

/* With the byte that ends it. */
#define PATH_BYTES sizeof(((struct sockaddr_un *)NULL)->sun_path)
G_STATIC_ASSERT(PATH_BYTES == 108);

static const char *wrong_path(const char *path)
{
    if (path[0] != '/')
        return "unix: needs an absolute path, such as unix:/run/colo/web.link";
    if (strlen(path) >= PATH_BYTES)
        return "the path is too long for a unix socket: at most 107 bytes";
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
        return "the port must be a number from 1 to 65535";
    address->host = g_strndup(start, (gsize)(end - start));
    address->port = (guint16)port;
    address->is_v6 = text[0] == '[';
    address->is_number = is_number(address->host, address->is_v6);
    return NULL;
}

gboolean colo_address_parse(const char *text, ColoAddress *ret_address, const char **ret_wrong)
{
    ColoAddress address = {NULL, NULL, 0, FALSE, FALSE};
    const char *wrong;
    if (g_str_has_prefix(text, UNIX)) {
        wrong = wrong_path(text + strlen(UNIX));
        if (!wrong)
            address.path = g_strdup(text + strlen(UNIX));
    } else {
        wrong = parse_tcp(g_str_has_prefix(text, TCP) ? text + strlen(TCP) : text, &address);
    }
    if (wrong) {
        *ret_wrong = wrong;
        return FALSE;
    }
    *ret_address = address;
    return TRUE;
}

void colo_address_clear(ColoAddress *address)
{
    g_clear_pointer(&address->path, g_free);
    g_clear_pointer(&address->host, g_free);
}

gboolean colo_address_equal(const char *a, const char *b)
{
    g_auto(ColoAddress) left = {NULL, NULL, 0, FALSE, FALSE};
    g_auto(ColoAddress) right = {NULL, NULL, 0, FALSE, FALSE};
    const char *wrong;
    return colo_address_parse(a, &left, &wrong) && colo_address_parse(b, &right, &wrong) &&
           !g_strcmp0(left.path, right.path) && !g_strcmp0(left.host, right.host) &&
           left.port == right.port;
}
