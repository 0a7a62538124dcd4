/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a node listens or dials, as text: "HOST:PORT", "[V6]:PORT", the same after "tcp:",
 * "unix:/PATH", or what somebody else has opened: "fdset:N" (descriptors that a client of the control
 * socket has given) and "fd:NAME" (one that the process was started with). Only the text: nothing is
 * resolved or looked at.
 */
#ifndef COLO_COMMON_ADDRESS_H
#define COLO_COMMON_ADDRESS_H

#include <glib.h>

/* How the texts look, for messages. */
#define COLO_ADDRESS_FORMS                                                                         \
    "expected ADDRESS:PORT such as 192.0.2.1:9000 or [2001:db8::1]:9000, or unix:/PATH"

/* What the name of a descriptor comes after. */
#define COLO_ADDRESS_FD_PREFIX "fd:"

typedef enum {
    COLO_ADDRESS_NONE,
    COLO_ADDRESS_TCP,
    COLO_ADDRESS_UNIX,
    COLO_ADDRESS_FDSET,
    COLO_ADDRESS_FD,
} ColoAddressKind;

typedef struct {
    ColoAddressKind kind;
    char *host;         /* of TCP, without brackets */
    char *path;         /* of a unix socket */
    char *name;         /* of a descriptor that was inherited */
    int fdset;          /* 0 to G_MAXINT32 */
    guint16 port;       /* of TCP */
    gboolean is_v6;     /* the host is written as an address in brackets */
    gboolean is_number; /* it is an address, and no name that must be resolved */
} ColoAddress;

#define COLO_ADDRESS_INIT                                                                          \
    {                                                                                              \
        .kind = COLO_ADDRESS_NONE                                                                  \
    }

/* FALSE: *ret_wrong (borrowed, static) tells why, or what is expected. */
gboolean colo_address_parse(const char *text, ColoAddress *ret_address, const char **ret_wrong);
/* What a configuration or an order needs besides: a TCP address as a number, and a port. NULL, or
 * what is wrong (static). */
const char *colo_address_wrong_numbers(const ColoAddress *address);
void colo_address_clear(ColoAddress *address);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ColoAddress, colo_address_clear)

/* Whether both texts name the same place; FALSE if one is no address. */
gboolean colo_address_equal(const char *a, const char *b);

#endif
