/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netcompare/pcapfile.h"

#include <errno.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <string.h>

#include "netcompare/pcapng.h"

G_DEFINE_QUARK(pcapfile_error, pcapfile_error)

struct PcapFile {
    char *path;
    pcap_t *pcap; /* of one side: only for the filter */
    guint64 n_frames;

    /* of one side */
    PcapngReader *reader; /* NULL: of all */
    const char *prefix;   /* of its interfaces' names */
    gboolean filtered;
    struct bpf_program program; /* if filtered */
};

static gboolean set_filter(PcapFile *capture, const char *filter, GError **error)
{
    struct bpf_program program;

    if (pcap_compile(capture->pcap, &program, filter, 1, PCAP_NETMASK_UNKNOWN) != 0) {
        g_set_error(error, PCAPFILE_ERROR, PCAPFILE_ERROR_FILTER,
                    "filter '%s': %s (the language is described in pcap-filter(7))", filter,
                    pcap_geterr(capture->pcap));
        return FALSE;
    }
    int failed = pcap_setfilter(capture->pcap, &program);
    pcap_freecode(&program);
    if (failed) {
        g_set_error(error, PCAPFILE_ERROR, PCAPFILE_ERROR_FILTER, "filter '%s': %s", filter,
                    pcap_geterr(capture->pcap));
        return FALSE;
    }
    return TRUE;
}

PcapFile *pcapfile_open(const char *path, const char *filter, GError **error)
{
    char why[PCAP_ERRBUF_SIZE];
    g_autoptr(PcapFile) capture = g_new0(PcapFile, 1);

    capture->path = g_strdup(path);
    capture->pcap = pcap_open_offline(path, why);
    if (capture->pcap == NULL) {
        g_set_error(error, PCAPFILE_ERROR, PCAPFILE_ERROR_OPEN,
                    "capture %s can't be opened: %s (a pcap or pcapng file is expected)", path,
                    why);
        return NULL;
    }
    int link = pcap_datalink(capture->pcap);
    if (link != DLT_EN10MB) {
        const char *name = pcap_datalink_val_to_name(link);
        g_set_error(error, PCAPFILE_ERROR, PCAPFILE_ERROR_OPEN,
                    "capture %s has link type %s, not Ethernet: capture on the VM's tap", path,
                    name != NULL ? name : "unknown");
        return NULL;
    }
    if (filter != NULL && !set_filter(capture, filter, error))
        return NULL;
    return g_steal_pointer(&capture);
}

PcapFile *pcapfile_open_side(const char *path, const char *filter, gboolean secondary,
                             GError **error)
{
    g_autoptr(PcapFile) capture = g_new0(PcapFile, 1);
    FILE *file = fopen(path, "rbe");

    if (file == NULL) {
        g_set_error(error, PCAPFILE_ERROR, PCAPFILE_ERROR_OPEN, "capture %s can't be opened: %s",
                    path, g_strerror(errno));
        return NULL;
    }
    capture->path = g_strdup(path);
    capture->reader = pcapng_reader_new(file, path);
    capture->prefix = secondary ? "SVM nic " : "PVM nic ";
    capture->pcap = pcap_open_dead(DLT_EN10MB, PCAPNG_SNAPLEN);
    if (filter == NULL)
        return g_steal_pointer(&capture);
    if (pcap_compile(capture->pcap, &capture->program, filter, 1, PCAP_NETMASK_UNKNOWN) != 0) {
        g_set_error(error, PCAPFILE_ERROR, PCAPFILE_ERROR_FILTER,
                    "filter '%s': %s (the language is described in pcap-filter(7))", filter,
                    pcap_geterr(capture->pcap));
        return NULL;
    }
    capture->filtered = TRUE;
    return g_steal_pointer(&capture);
}

/* Is the packet of this side, and of which card? */
static gboolean is_sides(const PcapFile *capture, const PcapngPacket *packet, unsigned *ret_nic)
{
    if (!g_str_has_prefix(packet->interface, capture->prefix))
        return FALSE;
    *ret_nic = (unsigned)g_ascii_strtoull(packet->interface + strlen(capture->prefix), NULL, 10);
    struct pcap_pkthdr header = {.caplen = (bpf_u_int32)packet->len,
                                 .len = (bpf_u_int32)packet->wire_len};
    return !capture->filtered || pcap_offline_filter(&capture->program, &header, packet->data) != 0;
}

static gboolean next_of_side(PcapFile *capture, PcapFrame *ret_frame, GError **error)
{
    PcapngPacket packet;
    unsigned nic = 0;

    do {
        g_autoptr(GError) cause = NULL;
        if (!pcapng_reader_next(capture->reader, &packet, &cause)) {
            g_set_error_literal(error, PCAPFILE_ERROR, PCAPFILE_ERROR_READ, cause->message);
            return FALSE;
        }
    } while (packet.data != NULL && !is_sides(capture, &packet, &nic));
    *ret_frame = (PcapFrame){.data = packet.data,
                             .len = packet.len,
                             .wire_len = packet.wire_len,
                             .time_us = packet.time_us,
                             .nic = nic};
    return TRUE;
}

void pcapfile_free(PcapFile *capture)
{
    if (capture == NULL)
        return;
    pcapng_reader_free(capture->reader);
    if (capture->filtered)
        pcap_freecode(&capture->program);
    if (capture->pcap != NULL)
        pcap_close(capture->pcap);
    g_free(capture->path);
    g_free(capture);
}

gboolean pcapfile_next(PcapFile *capture, PcapFrame *ret_frame, GError **error)
{
    struct pcap_pkthdr *header;
    const guint8 *data;

    if (capture->reader != NULL)
        return next_of_side(capture, ret_frame, error);
    switch (pcap_next_ex(capture->pcap, &header, &data)) {
    case 1:
        capture->n_frames++;
        *ret_frame = (PcapFrame){
            .data = data,
            .len = header->caplen,
            .wire_len = header->len,
            .time_us = (gint64)header->ts.tv_sec * G_USEC_PER_SEC + header->ts.tv_usec,
        };
        return TRUE;
    case PCAP_ERROR_BREAK:
        *ret_frame = (PcapFrame){0};
        return TRUE;
    default:
        g_set_error(error, PCAPFILE_ERROR, PCAPFILE_ERROR_READ,
                    "capture %s is damaged after frame %" G_GUINT64_FORMAT ": %s", capture->path,
                    capture->n_frames, pcap_geterr(capture->pcap));
        return FALSE;
    }
}
