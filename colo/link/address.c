/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listening sockets, and who is at the other end. Dialling resolves by itself (dial.c). */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#include "colo/link/link_internal.h"
#include "common/fd.h"

#define BACKLOG 16

gboolean link_address_parse(const char *option, const char *text, ColoAddress *ret_address,
                            GError **error)
{
    const char *wrong;
    if (colo_address_parse(text, ret_address, &wrong))
        return TRUE;
    g_set_error(error, LINK_ERROR, LINK_ERROR_ADDRESS, "%s: '%s' is not an address: %s", option,
                text, wrong);
    return FALSE;
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

static int listen_on_tcp(const char *text, const ColoAddress *address, GError **error)
{
    g_autofree char *service = g_strdup_printf("%u", address->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    int result = getaddrinfo(address->host, service, &hints, &found);
    if (result != 0) {
        g_set_error(error, LINK_ERROR, LINK_ERROR_ADDRESS,
                    "listen: can't find the address of '%s' in '%s': %s", address->host, text,
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

gboolean link_address_listen(Link *link, const char *text, UnixListen *ret_listen, GError **error)
{
    g_auto(ColoAddress) address = COLO_ADDRESS_INIT;
    g_autoptr(GError) why = NULL;
    UnixListen made = UNIX_LISTEN_NONE;
    if (!link_address_parse("listen", text, &address, error))
        return FALSE;
    if (address.kind == COLO_ADDRESS_TCP)
        made.fd = listen_on_tcp(text, &address, error);
    else if (address.kind == COLO_ADDRESS_UNIX)
        (void)unix_listen_begin(&made, address.path, "listen", &why);
    else
        made.fd = link_given(link, &address, "listen", TRUE, &why);
    if (why)
        g_set_error(error, LINK_ERROR, LINK_ERROR_ADDRESS, "can't listen on %s: %s", text,
                    why->message);
    if (made.fd < 0)
        return FALSE;
    *ret_listen = made;
    return TRUE;
}

/* The process at the other end, as far as it is known. */
static char *unix_peer(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.pid <= 0)
        return g_strdup("a unix socket");
    return g_strdup_printf("a unix socket of process %d", (int)peer.pid);
}

char *link_address_peer(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof(address);
    char host[NI_MAXHOST];
    if (getpeername(fd, (struct sockaddr *)&address, &len) < 0)
        return g_strdup("unknown address");
    if (address.ss_family == AF_UNIX)
        return unix_peer(fd);
    if (getnameinfo((struct sockaddr *)&address, len, host, sizeof(host), NULL, 0,
                    NI_NUMERICHOST) != 0)
        return g_strdup("unknown address");
    return g_strdup(host);
}

guint16 link_address_port(int fd)
{
    /* Both families have the port in the same place. */
    struct sockaddr_in6 address = {0};
    socklen_t len = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &len) < 0 || address.sin6_family == AF_UNIX)
        return 0;
    return ntohs(address.sin6_port);
}
