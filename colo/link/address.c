/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Texts of addresses, and the listening socket. Dialling resolves by itself (dial.c). */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#include "colo/link/link_internal.h"
#include "common/fd.h"

#define BACKLOG 16

static gboolean split(const char *text, char **ret_host, char **ret_port)
{
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text)
        return FALSE;
    const char *end = colon;
    if (text[0] == '[') {
        if (*--end != ']')
            return FALSE;
        text++;
    } else if (memchr(text, ':', (gsize)(colon - text))) {
        return FALSE; /* IPv6 without brackets: which colon is it? */
    }
    if (end <= text)
        return FALSE;
    *ret_host = g_strndup(text, (gsize)(end - text));
    *ret_port = g_strdup(colon + 1);
    return TRUE;
}

gboolean link_address_split(const char *option, const char *text, char **ret_host,
                            guint16 *ret_port, GError **error)
{
    g_autofree char *host = NULL;
    g_autofree char *port = NULL;
    guint64 number;
    if (!split(text, &host, &port) ||
        !g_ascii_string_to_unsigned(port, 10, 0, G_MAXUINT16, &number, NULL)) {
        g_set_error(error, LINK_ERROR, LINK_ERROR_ADDRESS,
                    "%s: '%s' is not an address: expected HOST:PORT, or [HOST]:PORT for IPv6",
                    option, text);
        return FALSE;
    }
    *ret_host = g_steal_pointer(&host);
    *ret_port = (guint16)number;
    return TRUE;
}

static const char *way_out(int code)
{
    switch (code) {
    case EADDRINUSE:
        return " (another program, or another colod, listens there: give this one a port of its "
               "own)";
    case EADDRNOTAVAIL:
        return " (it must be an address of this host, or 0.0.0.0 or [::] for all of them)";
    case EACCES:
        return " (a port below 1024 needs CAP_NET_BIND_SERVICE)";
    default:
        return "";
    }
}

static int listen_on(const struct addrinfo *info)
{
    int one = 1;
    COLO_AUTO_FD fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* REUSEADDR: connections of a colod that has crashed don't keep the port from its successor. */
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
        return -1;
    return colo_fd_steal(&fd);
}

int link_address_listen(const char *text, GError **error)
{
    g_autofree char *host = NULL;
    guint16 port;
    if (!link_address_split("listen", text, &host, &port, error))
        return -1;
    g_autofree char *service = g_strdup_printf("%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    int result = getaddrinfo(host, service, &hints, &found);
    if (result != 0) {
        g_set_error(error, LINK_ERROR, LINK_ERROR_ADDRESS,
                    "listen: can't find the address of '%s' in '%s': %s", host, text,
                    result == EAI_SYSTEM ? g_strerror(errno) : gai_strerror(result));
        return -1;
    }
    int fd = listen_on(found);
    int code = errno;
    freeaddrinfo(found);
    if (fd < 0)
        g_set_error(error, LINK_ERROR, LINK_ERROR_ADDRESS, "can't listen on %s: %s%s", text,
                    g_strerror(code), way_out(code));
    return fd;
}

char *link_address_peer(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    char host[NI_MAXHOST];
    if (getpeername(fd, (struct sockaddr *)&address, &len) < 0 ||
        getnameinfo((struct sockaddr *)&address, len, host, sizeof(host), NULL, 0,
                    NI_NUMERICHOST) != 0)
        return g_strdup("unknown address");
    return g_strdup(host);
}

guint16 link_address_port(int fd)
{
    /* Both families have the port in the same place. */
    struct sockaddr_in6 address = {0};
    socklen_t len = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        return 0;
    return ntohs(address.sin6_port);
}
