/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's network output and input: ports (the guest's card), the uplink (a tap on a bridge),
 * and the gate that holds output until it may leave. It knows nothing of roles, peers or
 * checkpoints: its owner gives it descriptors, epochs and callbacks.
 *
 * A Frame is a virtio-net header (NETCOMPARE_VNET_HDR_BYTES) followed by an Ethernet frame, which
 * may be a super-frame of up to 64 KiB (TSO/USO): the guest keeps its offloads from end to end.
 *
 * Threads: all on one thread and its default GMainContext; nothing blocks.
 */
#ifndef COLO_NETCOMPARE_NETCOMPARE_H
#define COLO_NETCOMPARE_NETCOMPARE_H

#include <glib.h>

#include "common/clock.h"

#define NETCOMPARE_ERROR netcompare_error_quark()
GQuark netcompare_error_quark(void);

typedef enum {
    NETCOMPARE_ERROR_BRIDGE,     /* the bridge is missing or is no bridge */
    NETCOMPARE_ERROR_TAP,        /* the tap can't be made: name taken, no /dev/net/tun, ... */
    NETCOMPARE_ERROR_PERMISSION, /* CAP_NET_ADMIN is missing */
    NETCOMPARE_ERROR_FRAME,      /* bytes from a port that are no frame */
    NETCOMPARE_ERROR_CLOSED,     /* the other end is gone */
    NETCOMPARE_ERROR_WATCH,      /* the host's interfaces can't be watched */
} NetcompareError;

/* struct virtio_net_hdr_v1's size (12, little-endian fields), used on every port and uplink. */
#define NETCOMPARE_VNET_HDR_BYTES 12u
/* The largest frame accepted, header included. */
#define NETCOMPARE_FRAME_MAX_BYTES (NETCOMPARE_VNET_HDR_BYTES + 65536u + 22u)

/* `data` (header and frame) is borrowed for the call. */
typedef void (*FrameFunc)(const guint8 *data, gsize len, gpointer user_data);
typedef void (*NetErrorFunc)(const GError *error, gpointer user_data);

/* ---- Port: the guest's card, over vm_nic_fd() ---- */

typedef struct Port Port;

/*
 * Sends and receives on `fd` (borrowed, a stream socket). `output` gets what the guest sends.
 * `failed` is called once: NETCOMPARE_ERROR_CLOSED when QEMU's end is gone, NETCOMPARE_ERROR_FRAME
 * when it sends what is no frame. After it the port is dead. Both may free the port.
 */
Port *port_new(int fd, FrameFunc output, NetErrorFunc failed, gpointer user_data);
void port_free(Port *port);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Port, port_free)

/*
 * Tells what the card is (VmNic's model): what header and offloads it takes before it has sent a
 * frame of its own. Without it: a virtio-net card.
 */
void port_set_model(Port *port, const char *model);

/* TRUE if cards of this model take super-frames and unfinished checksums (virtio-net does). */
gboolean port_model_has_offloads(const char *model);

/*
 * Gives a frame to the guest. A guest that doesn't read fills a bounded queue. Then the frame is
 * dropped and counted, and FALSE returned. The same happens to one that the card can't take, or
 * that is too short or too long.
 */
gboolean port_send(Port *port, const guint8 *data, gsize len);

/*
 * Reads all output the guest has written so far, now: after a pause nothing of it is left inside.
 * Calls `output` (and `failed`). No effect from inside `output`.
 */
void port_drain(Port *port);

typedef struct {
    guint64 output_frames, output_bytes; /* from the guest, bytes without virtio-net headers */
    guint64 input_frames, input_bytes;   /* to the guest */
    guint64 output_dropped;              /* from the guest, shorter or longer than a frame can be */
    guint64 input_dropped;               /* see port_send() */
    guint64 queued_bytes;                /* waiting for QEMU to read */
} PortStats;
const PortStats *port_stats(const Port *port);
/* Whether QEMU has read all that was sent to it. */
gboolean port_is_read(const Port *port);

/* ---- Uplink: a tap that we make, attach to a bridge and take away again; or one given to us ---- */

typedef struct Uplink Uplink;

/* Whether there is a bridge of that name. Error: NETCOMPARE_ERROR_BRIDGE. */
gboolean uplink_check_bridge(const char *bridge, GError **error);

/*
 * Makes tap `ifname` (a pattern like "colo%d" is filled in), attaches it to `bridge` (NULL: to
 * none) and brings it up, closed: nothing is sent and what comes is dropped, until uplink_open().
 */
Uplink *uplink_new(const char *ifname, const char *bridge, FrameFunc input, NetErrorFunc failed,
                   gpointer user_data, GError **error);
/*
 * The same on a tap that somebody else has made: `fd`, which is the uplink's then, also if this
 * fails, and is made non-blocking. It is `name` in errors. Its bridge, its address and whether it is
 * up are left as they are. NETCOMPARE_ERROR_TAP: it is no tap, or none that will do.
 */
Uplink *uplink_new_given(int fd, const char *name, FrameFunc input, NetErrorFunc failed,
                         gpointer user_data, GError **error);
/* `input` and `failed` may free the uplink. */
void uplink_free(Uplink *uplink); /* a tap of our own is gone when this returns */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Uplink, uplink_free)

const char *uplink_ifname(const Uplink *uplink);
/*
 * Whether the network may give us super-frames and unfinished checksums: TRUE at first; FALSE for a
 * card that can't take them (see port_model_has_offloads). The kernel then finishes them for us.
 */
gboolean uplink_set_offloads(Uplink *uplink, gboolean offloads, GError **error);
/* Opens for traffic in both directions; uplink_close() silences it again. Idempotent. */
void uplink_open(Uplink *uplink);
void uplink_close(Uplink *uplink);
/* Open: what has come until now is given to `input`, from within. */
void uplink_read_now(Uplink *uplink);
/* Sends to the network. Closed: dropped. What the kernel refuses is dropped and counted. */
void uplink_send(Uplink *uplink, const guint8 *data, gsize len);

typedef struct {
    guint64 output_frames, output_bytes; /* sent to the network, bytes without virtio-net headers */
    guint64 input_frames, input_bytes;   /* from the network */
    guint64 output_dropped;              /* while open */
} UplinkStats;
const UplinkStats *uplink_stats(const Uplink *uplink);

/* ---- Carrier: is the network behind an uplink plugged in? ---- */

typedef struct CarrierWatch CarrierWatch;

typedef enum { UPLINK_CARRIER_UNKNOWN, UPLINK_CARRIER_YES, UPLINK_CARRIER_NO } UplinkCarrier;

/* Watches the interfaces of this network namespace; `changed` is called when one may have. */
CarrierWatch *carrier_watch_new(void (*changed)(gpointer user_data), gpointer user_data,
                                GError **error);
void carrier_watch_free(CarrierWatch *watch);
/*
 * Of interface `ifname`; if that is NULL, of any port of `bridge` that leads out of this host. Not
 * known of a bridge without such a port, and of none.
 */
UplinkCarrier carrier_watch_look(const CarrierWatch *watch, const char *bridge, const char *ifname);
/*
 * Of a tap that somebody else has made: of the bridge that it is in, likewise. A macvtap's is its
 * own. One that is down or gone has none.
 */
UplinkCarrier carrier_watch_look_tap(const CarrierWatch *watch, const char *ifname);
/* Interface `ifname` is there, and a port of `bridge` (NULL: of any or none). */
gboolean carrier_watch_is_port(const CarrierWatch *watch, const char *ifname, const char *bridge);

/* ---- Gate: output waits here for its epoch to be committed ---- */

typedef struct Gate Gate;

typedef struct {
    guint64 frames, bytes;         /* held now */
    guint64 max_frames, max_bytes; /* most ever held */
    guint64 released_frames;
    guint64 dropped_frames;   /* refused because it was full */
    guint64 discarded_frames; /* by gate_discard() */
} GateStats;

/*
 * Invariant: a frame added in epoch e is handed to `release` only by gate_release(until > e) or
 * while the gate is open, and always in the order of adding. Takes at most `limit_bytes` of memory
 * (a frame counts as its bytes and 128 more). A frame over that is refused (see gate_add).
 * `release` borrows the frame, and may call the gate again, but not free it.
 */
Gate *gate_new(gsize limit_bytes, void (*release)(unsigned nic, GBytes *frame, gpointer user_data),
               gpointer user_data);
void gate_free(Gate *gate);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Gate, gate_free)

typedef enum {
    GATE_HELD,    /* or released at once, if open */
    GATE_FILLING, /* held, but over three quarters full: take a checkpoint at once */
    GATE_FULL,    /* not held: dropped and counted, as a full switch would */
} GateResult;
/*
 * Whether a frame of `len` bytes would be held, or pass, now. TRUE also if it would be refused whatever
 * leaves: it is larger than the limit.
 */
gboolean gate_fits(const Gate *gate, gsize len);
GateResult gate_add(Gate *gate, unsigned nic, guint64 epoch, const guint8 *data, gsize len);

/* Releases all frames of epochs < until. */
void gate_release(Gate *gate, guint64 until);
/* Open: output passes at once (unprotected VM). Opening releases all that is held. */
void gate_set_open(Gate *gate, gboolean open);
/* Drops all that is held: the VM it came from is not the one that continues. */
void gate_discard(Gate *gate);
/* Calls `func` for every frame held of epochs < until, oldest first. */
void gate_foreach(Gate *gate, guint64 until,
                  void (*func)(unsigned nic, guint64 epoch, GBytes *frame, gpointer user_data),
                  gpointer user_data);
const GateStats *gate_stats(const Gate *gate);

/* ---- Announcements of an address that has moved ---- */

/*
 * Learns the guest's addresses from the frames it sends: the source MAC and VLAN of all. It learns
 * IPv4 from ARP and IPv6 from neighbour discovery only, where a host names its own addresses. (The
 * headers of IP packets don't: a guest that routes sends other hosts' packets, and announcing those
 * addresses would hijack them.) Bounded; the longest unseen is forgotten first.
 */
typedef struct Addresses Addresses;
Addresses *addresses_new(const guint8 mac[6]);
void addresses_free(Addresses *addresses);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Addresses, addresses_free)
void addresses_learn(Addresses *addresses, const guint8 *data, gsize len);
/*
 * Looks at a frame from the network. Forgets an address that another host claims now (one that
 * floats between hosts), so that a takeover doesn't steal it back.
 */
void addresses_received(Addresses *addresses, const guint8 *data, gsize len);
/* Whether the frame's sender has the card's own address. */
gboolean addresses_is_own(const Addresses *addresses, const guint8 *data, gsize len);
/* Addresses as bytes for the peer, and back (foreign bytes: FALSE if malformed). */
GBytes *addresses_serialise(const Addresses *addresses);
gboolean addresses_merge(Addresses *addresses, GBytes *bytes, GError **error);
/*
 * Makes the frames that tell the network where the guest is now, and calls `send` for each. They
 * are RARP for every MAC and VLAN (bridges and switches), ARP announcements (RFC 5227) and
 * unsolicited neighbour advertisements (RFC 4861) for every address.
 */
void addresses_announce(const Addresses *addresses, FrameFunc send, gpointer user_data);

#endif
