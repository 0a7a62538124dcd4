/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a node listens or dials, as text: "HOST:PORT", "[V6]:PORT", the same after "tcp:", or
 * "unix:/PATH". Only the text: nothing is resolved or looked at.
 */
#ifndef COLO_COMMON_ADDRESS_H
#define COLO_COMMON_ADDRESS_H

#include <glib.h>

/* How the texts look, for messages. */
#define COLO_ADDRESS_FORMS                                                                         \
    "expected ADDRESS:PORT such as 192.0.2.1:9000 or [2001:db8::1]:9000, or unix:/PATH"

typedef struct {
    char *path; /* of a unix socket; NULL: TCP */
    char *host; /* of TCP, without brackets; NULL: a unix socket */
    guint16 port;
    gboolean is_v6;     /* the host is written as an address in brackets */
    gboolean is_number; /* it is an address, and no name that must be resolved */
} ColoAddress;

/* FALSE: *ret_wrong (borrowed, static) tells why, or what is expected. */
gboolean colo_address_parse(const char *text, ColoAddress *ret_address, const char **ret_wrong);
void colo_address_clear(ColoAddress *address);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ColoAddress, colo_address_clear)

/* Whether both texts name the same place; FALSE if one is no address. */
gboolean colo_address_equal(const char *a, const char *b);

#endif
