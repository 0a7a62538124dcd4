/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Captured frames from a file, pcap or pcapng, link type Ethernet; one frame in memory at a time.
 * Files that gzip or zstd has compressed are read through these programs. A file that is cut short
 * ends there: see pcapfile_is_cut_short().
 */
#ifndef COLO_NETCOMPARE_PCAPFILE_H
#define COLO_NETCOMPARE_PCAPFILE_H

#include <glib.h>

#define PCAPFILE_ERROR pcapfile_error_quark()
GQuark pcapfile_error_quark(void);

typedef enum {
    PCAPFILE_ERROR_OPEN,   /* missing, no capture, another link type */
    PCAPFILE_ERROR_FILTER, /* a filter expression that makes no sense */
    PCAPFILE_ERROR_READ,   /* damaged */
} PcapFileError;

typedef struct PcapFile PcapFile;

/* `path` "-": standard input. `filter` is in libpcap's language; NULL: all frames. */
PcapFile *pcapfile_open(const char *path, const char *filter, GError **error);
/*
 * Only what one VM has sent, of a pcapng file that has both (recorder.h). Its interfaces have names
 * that begin with "PVM nic ", or "SVM nic ", followed by the card's number. Not of standard input,
 * which can't be read twice: see pcapfile_spool().
 */
PcapFile *pcapfile_open_side(const char *path, const char *filter, gboolean secondary,
                             GError **error);
/* Copies standard input to a file that goes with the process. Its path; caller frees. */
char *pcapfile_spool(GError **error);
void pcapfile_free(PcapFile *capture);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PcapFile, pcapfile_free)

typedef struct {
    const guint8 *data; /* good until the next call */
    gsize len;          /* captured; of `wire_len` */
    gsize wire_len;
    gint64 time_us; /* since the epoch of the wall clock */
    guint64 number; /* in the file, from 1, as Wireshark counts: those not let through too */
    unsigned nic;   /* of pcapfile_open_side(), else 0 */
} PcapFrame;

/* The next frame that the filter lets through. At the end `data` is NULL. Error:
 * PCAPFILE_ERROR_READ. */
gboolean pcapfile_next(PcapFile *capture, PcapFrame *ret_frame, GError **error);

/* Frames read so far, and those not let through too. */
guint64 pcapfile_frames(const PcapFile *capture);
/* At its end: was there a part of something more? */
gboolean pcapfile_is_cut_short(const PcapFile *capture);
/* For messages: the path, or "standard input". */
const char *pcapfile_name(const PcapFile *capture);

#endif
