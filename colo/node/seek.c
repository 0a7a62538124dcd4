/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/seek.h"

#include "common/address.h"
#include "common/log.h"
#include "common/patience.h"

#define PAUSED_REASON "an administrator has paused its link: 'colo recover' there"

struct Seek {
    const Config *config; /* borrowed */
    SeekHandler handler;
    gpointer user_data;
    Link *link; /* borrowed */
    SeekWish wish;
    gboolean paused;
    char *address; /* in place of the configured one; NULL: that one */
    char *also;    /* listened on besides the configured one; NULL: none */
    char *trying;  /* `recover`: where; NULL: none is under way */
    guint timer;   /* its end */
};

const char *seek_address(const Seek *seek)
{
    return seek->address ? seek->address : seek->config->peer;
}

const char *seek_recovering(const Seek *seek)
{
    return seek->trying;
}

const char *seek_listens_also(const Seek *seek)
{
    return seek->also;
}

gboolean seek_is_paused(const Seek *seek)
{
    return seek->paused;
}

/* Sockets that somebody else has opened: there is no going there again. */
static gboolean is_given(const char *uri)
{
    g_auto(ColoAddress) address = COLO_ADDRESS_INIT;
    const char *wrong;
    return colo_address_parse(uri, &address, &wrong) && address.kind == COLO_ADDRESS_FDSET;
}

/* ---- The link ---- */

static void look_for(Seek *seek, void (*begin)(Link *, json_object *))
{
    json_object *hello = seek->handler.hello(seek->user_data);
    begin(seek->link, hello);
    json_object_put(hello);
}

/* Has the link do what is wanted of it. */
static void act(Seek *seek)
{
    if (seek->wish == SEEK_NOBODY)
        return;
    if (seek->paused && !seek->trying) {
        link_idle(seek->link, PAUSED_REASON);
    } else if (seek->wish == SEEK_SECONDARY) {
        look_for(seek, link_accept);
    } else {
        link_set_peer(seek->link, seek->trying ? seek->trying : seek_address(seek));
        look_for(seek, link_dial);
    }
}

void seek_linked(Seek *seek)
{
    seek->wish = SEEK_NOBODY;
    if (!seek->trying)
        return;
    log_info("linked by order over %s%s", seek->trying,
             is_given(seek->trying) ? "" : ": that address counts from now on");
    g_clear_handle_id(&seek->timer, g_source_remove);
    seek->paused = FALSE;
    if (is_given(seek->trying)) {
        g_clear_pointer(&seek->trying, g_free);
        return;
    }
    g_free(seek->address);
    seek->address = g_steal_pointer(&seek->trying);
}

/* ---- recover ---- */

/* Tells it; what the link does is the caller's. */
static void end_attempt(Seek *seek, const char *why)
{
    if (!seek->trying)
        return;
    g_autofree char *uri = g_steal_pointer(&seek->trying);
    g_clear_handle_id(&seek->timer, g_source_remove);
    log_warning("recover over %s has failed: %s", uri, why);
    seek->handler.recover_failed(uri, why, seek->user_data);
}

static gboolean on_timeout(gpointer user_data)
{
    Seek *seek = user_data;
    g_autofree char *why =
        g_strdup_printf("no link within %" G_GUINT64_FORMAT " ms (recover-timeout)%s",
                        seek->config->recover_timeout_ms,
                        seek->wish == SEEK_PRIMARY ? "" : ": the arbiter is being asked meanwhile");
    seek->timer = 0;
    end_attempt(seek, why);
    link_forget_given(seek->link);
    act(seek);
    return G_SOURCE_REMOVE;
}

void seek_dial_failed(Seek *seek, const GError *why)
{
    if (!seek->trying)
        return;
    /* It is asked again; but not over sockets that this refusal has ended. */
    if (g_error_matches(why, LINK_ERROR, LINK_ERROR_NOT_NOW) && !is_given(seek->trying))
        return;
    end_attempt(seek, why->message);
    link_forget_given(seek->link);
    act(seek);
}

static gboolean check_uri(const char *uri, GError **error)
{
    g_auto(ColoAddress) address = COLO_ADDRESS_INIT;
    const char *wrong = NULL;
    if (colo_address_parse(uri, &address, &wrong))
        wrong = address.kind == COLO_ADDRESS_FD
                    ? "what colod was started with is for option listen: give it a set (fdset:N)"
                    : colo_address_wrong_numbers(&address);
    if (wrong)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_VALUE, "uri: '%s': %s", uri, wrong);
    return !wrong;
}

static gboolean listen_also(Seek *seek, const char *uri, GError **error)
{
    const char *other = uri && !colo_address_equal(uri, seek->config->listen) ? uri : NULL;
    if (other && seek->also && colo_address_equal(other, seek->also) && !is_given(other))
        return TRUE;
    if (!link_listen_also(seek->link, other, error))
        return FALSE;
    g_free(seek->also);
    seek->also = g_strdup(other);
    return TRUE;
}

static gboolean dial_at(Seek *seek, const char *uri, GError **error)
{
    if (!uri)
        uri = seek->config->peer;
    if (!uri) {
        g_set_error_literal(error, CONFIG_ERROR, CONFIG_ERROR_VALUE,
                            "uri: none is given, and none is configured (node.peer)");
        return FALSE;
    }
    if (colo_address_equal(uri, seek->config->listen) ||
        (seek->also && colo_address_equal(uri, seek->also))) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_VALUE,
                    "uri: '%s': this node listens there itself: it must be the other node's", uri);
        return FALSE;
    }
    if (is_given(uri) && !link_take_given(seek->link, uri, error)) {
        g_prefix_error(error, "uri: '%s': ", uri);
        return FALSE;
    }
    end_attempt(seek, "there is another order now");
    if (!is_given(uri))
        link_forget_given(seek->link);
    seek->trying = g_strdup(uri);
    seek->timer = patience_add((guint)seek->config->recover_timeout_ms, on_timeout, seek);
    return TRUE;
}

gboolean seek_recover(Seek *seek, gboolean dials, const char *uri, GError **error)
{
    if (uri && !check_uri(uri, error))
        return FALSE;
    if (!(dials ? dial_at(seek, uri, error) : listen_also(seek, uri, error)))
        return FALSE;
    if (!dials)
        seek->paused = FALSE;
    act(seek);
    return TRUE;
}

/* ---- The other orders ---- */

void seek_pause(Seek *seek)
{
    seek->paused = TRUE;
    end_attempt(seek, "an administrator has paused the link");
    link_forget_given(seek->link);
    act(seek);
}

void seek_wish(Seek *seek, SeekWish wish)
{
    seek->wish = wish;
    if (wish == SEEK_SECONDARY) {
        end_attempt(seek, "the VM is this node's now, and it waits for a secondary");
        link_forget_given(seek->link);
    }
    act(seek);
}

/* ---- Life ---- */

Seek *seek_new(const Config *config, const SeekHandler *handler, gpointer user_data)
{
    Seek *seek = g_new0(Seek, 1);
    seek->config = config;
    seek->handler = *handler;
    seek->user_data = user_data;
    return seek;
}

void seek_attach(Seek *seek, Link *link)
{
    seek->link = link;
}

void seek_free(Seek *seek)
{
    if (!seek)
        return;
    g_clear_handle_id(&seek->timer, g_source_remove);
    g_free(seek->address);
    g_free(seek->also);
    g_free(seek->trying);
    g_free(seek);
}
