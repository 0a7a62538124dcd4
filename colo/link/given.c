/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sockets that somebody else has opened: of a set that a client has given to the service, or
 * inherited. What is used is a duplicate; but all duplicates are one socket, so that a set can be
 * dialled with once. Those of an attempt are taken when it is ordered: a set that is removed under it is
 * still used, and one that is given anew under the same number is another one.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "colo/link/link_internal.h"
#include "common/fd.h"
#include "common/inherited.h"

static int socket_option(int fd, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? -1 : value;
}

/* NULL: it will do. */
static const char *what_is_wrong(int fd, gboolean to_listen)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    if (socket_option(fd, SO_TYPE) != SOCK_STREAM)
        return "is no stream socket";
    if (to_listen)
        return socket_option(fd, SO_ACCEPTCONN) == 1 ? NULL : "is no listening socket";
    if (getpeername(fd, (struct sockaddr *)&address, &len) < 0)
        return "is no connected socket";
    return NULL;
}

/* A duplicate of what the attempt under way has; -1: it has none of that set. */
static int of_attempt(const Link *link, const ColoAddress *address, const char *what)
{
    for (LinkChannel which = 0; link && which < LINK_CHANNELS; which++)
        if (link->used.fd[which] && link->used.set == address->fdset &&
            !strcmp(what, link_channel_names[which]))
            return fcntl(link->used.fd[which] - 1, F_DUPFD_CLOEXEC, 0);
    return -1;
}

static int take(Link *link, const ColoAddress *address, const char *what, GError **error)
{
    g_autoptr(GError) why = NULL;
    int fd = -1;
    if (address->kind == COLO_ADDRESS_FD)
        fd = inherited_fd(address->name, &why);
    else if (link && link->callbacks.descriptor)
        fd = link->callbacks.descriptor(address->fdset, what, link->user_data, &why);
    if (fd < 0)
        g_set_error(error, LINK_ERROR, LINK_ERROR_ADDRESS, "%s",
                    why ? why->message : "nobody can give descriptors here");
    return fd;
}

/* `fd` is its own from now on. -1 with an error: it won't do. */
static int prepare(int given, const ColoAddress *address, const char *what, gboolean to_listen,
                   GError **error)
{
    COLO_AUTO_FD fd = given;
    if (fd < 0)
        return -1;
    const char *wrong = what_is_wrong(fd, to_listen);
    if (!wrong && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
        wrong = g_strerror(errno);
    if (wrong) {
        g_set_error(error, LINK_ERROR, LINK_ERROR_ADDRESS, "the descriptor '%s' %s",
                    address->name ? address->name : what, wrong);
        return -1;
    }
    return colo_fd_steal(&fd);
}

int link_given(Link *link, const ColoAddress *address, const char *what, gboolean to_listen,
               GError **error)
{
    int fd = address->kind == COLO_ADDRESS_FDSET ? of_attempt(link, address, what) : -1;
    return prepare(fd >= 0 ? fd : take(link, address, what, error), address, what, to_listen,
                   error);
}

static void forget(LinkGiven *given)
{
    for (LinkChannel which = 0; which < LINK_CHANNELS; which++) {
        if (given->fd[which])
            close(given->fd[which] - 1);
        given->fd[which] = 0;
    }
}

void link_forget_given(Link *link)
{
    forget(&link->taken);
}

void link_begin_given(Link *link, const ColoAddress *address)
{
    forget(&link->used);
    if (link->taken.set != address->fdset)
        return;
    link->used = link->taken;
    link->taken = (LinkGiven){0};
}

gboolean link_take_given(Link *link, const char *peer, GError **error)
{
    g_auto(ColoAddress) address = COLO_ADDRESS_INIT;
    LinkGiven given = {0};
    gboolean done = TRUE;
    if (!link_address_parse("peer", peer, &address, error))
        return FALSE;
    given.set = address.fdset;
    for (LinkChannel which = 0; done && which < link->channels; which++) {
        const char *what = link_channel_names[which];
        int fd = prepare(take(link, &address, what, error), &address, what, FALSE, error);
        given.fd[which] = fd + 1;
        done = fd >= 0;
    }
    if (!done) {
        forget(&given);
        return FALSE;
    }
    link_forget_given(link);
    link->taken = given;
    return TRUE;
}

void link_end_given(Link *link, const ColoAddress *address)
{
    for (LinkChannel which = 0; which < link->channels; which++) {
        COLO_AUTO_FD fd = link_given(link, address, link_channel_names[which], FALSE, NULL);
        if (fd >= 0)
            shutdown(fd, SHUT_RDWR);
    }
}

void link_drop_given(Link *link)
{
    forget(&link->used);
}
