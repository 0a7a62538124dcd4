/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/link_internal.h"
#include "common/fd.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

static gboolean split(const char *text, char **ret_host, char **ret_port)
{
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text || !colon[1])
        return FALSE;
    if (text[0] == '[') {
        if (colon[-1] != ']')
            return FALSE;
        *ret_host = g_strndup(text + 1, (gsize)(colon - text) - 2);
    } else {
        if (memchr(text, ':', (gsize)(colon - text)))
            return FALSE;
        *ret_host = g_strndup(text, (gsize)(colon - text));
    }
    *ret_port = g_strdup(colon + 1);
    return TRUE;
}

gboolean link_address_resolve(const char *text, LinkAddress *ret_address, GError **error)
{
    g_autofree char *host = NULL;
    g_autofree char *port = NULL;
    guint64 number;
    if (!split(text, &host, &port) ||
        !g_ascii_string_to_unsigned(port, 10, 1, 65535, &number, NULL)) {
        g_set_error(error, LINK_ERROR, LINK_ERROR_ADDRESS,
                    "'%s' is no address: expected HOST:PORT or [IPV6]:PORT", text);
        return FALSE;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    int result = getaddrinfo(host, port, &hints, &found);
    if (result != 0) {
        g_set_error(error, LINK_ERROR, LINK_ERROR_ADDRESS, "%s: can't resolve '%s': %s", text, host,
                    gai_strerror(result));
        return FALSE;
    }
    memcpy(&ret_address->addr, found->ai_addr, found->ai_addrlen);
    ret_address->len = found->ai_addrlen;
    ret_address->text = g_strdup(text);
    freeaddrinfo(found);
    return TRUE;
}

void link_address_clear(LinkAddress *address)
{
    g_clear_pointer(&address->text, g_free);
}

static int fail(const char *what, const LinkAddress *address, int code, GError **error)
{
    const char *way_out = "";
    if (code == EADDRINUSE)
        way_out = " (is another colod running with this [node] listen?)";
    else if (code == EADDRNOTAVAIL)
        way_out = " ([node] listen must be an address of this host)";
    g_set_error(error, LINK_ERROR, LINK_ERROR_ADDRESS, "can't %s %s: %s%s", what, address->text,
                g_strerror(code), way_out);
    return -1;
}

int link_address_listen(const LinkAddress *address, GError **error)
{
    int one = 1;
    COLO_AUTO_FD fd =
        socket(address->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail("listen on", address, errno, error);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (const struct sockaddr *)&address->addr, address->len) < 0 || listen(fd, 16) < 0)
        return fail("listen on", address, errno, error);
    return colo_fd_steal(&fd);
}

int link_address_connect(const LinkAddress *address, GError **error)
{
    COLO_AUTO_FD fd =
        socket(address->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || (connect(fd, (const struct sockaddr *)&address->addr, address->len) < 0 &&
                   errno != EINPROGRESS))
        return fail("connect to", address, errno, error);
    return colo_fd_steal(&fd);
}

gboolean link_address_connected(int fd, const LinkAddress *address, GError **error)
{
    int code = 0;
    socklen_t len = sizeof(code);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0)
        code = errno;
    if (code == 0)
        return TRUE;
    fail("connect to", address, code, error);
    return FALSE;
}
