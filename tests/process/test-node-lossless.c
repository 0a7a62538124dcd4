/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames of the network for a guest that moves: each reaches the guest, and none twice. Both nodes'
 * taps and a client's are on one bridge, in a network namespace of this test's own. The client sends in
 * every turn of the main loop, which is the same for all. So each step of a move has frames between it
 * and the next.
 */
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>

#include "common/endian.h"
#include "common/fd.h"
#include "common/log.h"
#include "tests/support/bridge-pair.h"
#include "tests/support/switchover-pair.h"
#include "tests/support/uplink-hosts.h"

#define ROUNDS     10
#define FRAMES_MAX 1000000u
/* Frames of the client on their way to the guest. */
#define WINDOW 32u

static const guint8 mac_guest[6] = {0x52, 0x54, 0, 0, 0, 1};

typedef struct {
    Fixture f;
    UplinkHost client;
    gboolean sends;
    guint32 sent, reached;
    GByteArray *got[2]; /* how often each VM got each frame */
} Lan;

typedef struct {
    GSource source;
    Lan *lan;
} Turns;

static guint times(const Lan *lan, int host, guint32 number)
{
    return number < lan->got[host]->len ? lan->got[host]->data[number] : 0;
}

static void read_guest(Lan *lan, int host)
{
    Vm *vm = lan->f.host[host].vm;
    GBytes *frame;
    while (vm && (frame = fake_vm_receive_frame(vm, 0))) {
        gsize len;
        const guint8 *data = g_bytes_get_data(frame, &len);
        if (len >= 18 && colo_get_be16(data + 12) == 0x88b5) {
            guint32 number = colo_get_be32(data + 14);
            g_assert_cmpuint(number, <, FRAMES_MAX);
            while (lan->got[host]->len <= number)
                g_byte_array_append(lan->got[host], (const guint8 *)"", 1);
            if (!times(lan, 0, number) && !times(lan, 1, number))
                lan->reached++;
            lan->got[host]->data[number]++;
        }
        g_bytes_unref(frame);
    }
}

static void read_guests(Lan *lan)
{
    for (int i = 0; i < 2; i++)
        read_guest(lan, i);
}

static gboolean is_moving(const Lan *lan)
{
    for (int i = 0; i < 2; i++)
        if (lan->f.host[i].node->state == FSM_P_HANDED ||
            lan->f.host[i].node->state == FSM_S_TAKING)
            return TRUE;
    return FALSE;
}

/* In every turn of the main loop; while the VM is nobody's, however many are on their way. */
static gboolean on_turn(GSource *source, gint *ret_timeout)
{
    Lan *lan = ((Turns *)source)->lan;
    *ret_timeout = -1;
    read_guests(lan);
    if (lan->sends && lan->sent < FRAMES_MAX - 1 &&
        (lan->sent - lan->reached < WINDOW || is_moving(lan)))
        uplink_host_send(&lan->client, mac_guest, uplink_hosts_mac_b, ++lan->sent);
    return FALSE;
}

static GSource *watch_turns(Lan *lan)
{
    static GSourceFuncs functions = {.prepare = on_turn};
    GSource *source = g_source_new(&functions, sizeof(Turns));
    ((Turns *)source)->lan = lan;
    g_source_set_priority(source, G_PRIORITY_HIGH);
    g_source_attach(source, NULL);
    return source;
}

/* The bridge learns where the guest is, and so does its node. */
static void speak(const Host *host)
{
    guint8 frame[60] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, [12] = 0x88, [13] = 0xb6};
    memcpy(frame + 6, mac_guest, sizeof(mac_guest));
    fake_vm_send_frame(host->vm, 0, frame, sizeof(frame));
}

static gboolean is_known_at(const char *ifname)
{
    g_autofree char *out = command_output("bridge fdb show dev %s", ifname);
    return strstr(out, "52:54:00:00:00:01") != NULL;
}

static void set_up_lan(Lan *lan)
{
    g_autoptr(GError) error = NULL;
    *lan = (Lan){
        .got = {g_byte_array_new(), g_byte_array_new()}
    };
    bridge_add();
    Fixture *f = &lan->f;
    set_up(f, "file");
    add_bridged_tap(f, "52:54:00:00:00:01");
    for (int i = 0; i < 2; i++)
        host_set(&f->host[i], "switchover", "downtime-limit", "10s");
    COLO_AUTO_FD fd = uplink_hosts_open_tap("client", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
    command_run("ip link set client master br0 up");
    lan->client.got = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    lan->client.uplink = uplink_host_take(&lan->client, colo_fd_steal(&fd), &error);
    g_assert_no_error(error);
    uplink_open(lan->client.uplink);
    start(&f->host[0], "primary");
    WAIT_FOR(f->host[0].node->state == FSM_P_NONE && vm_is_running(f->host[0].vm));
    speak(&f->host[0]);
    WAIT_FOR(is_known_at("tap0"));
    start(&f->host[1], "secondary");
    protect(f, 0);
}

static void tear_down_lan(Lan *lan)
{
    tear_down(&lan->f);
    uplink_free(lan->client.uplink);
    g_ptr_array_unref(lan->client.got);
    for (int i = 0; i < 2; i++)
        g_byte_array_unref(lan->got[i]);
    bridge_remove();
}

/*
 * In `colo` mode the copy gets what the VM gets; and as its VM has to begin with a checkpoint, what
 * was given to the VM before that is in there.
 */
static guint32 twice(const Lan *lan)
{
    guint32 count = 0;
    for (guint32 number = 1; number <= lan->sent; number++) {
        guint a = times(lan, 0, number), b = times(lan, 1, number);
        if (in_colo_mode() ? a > 1 || b > 1 : a + b > 1)
            count++;
    }
    return count;
}

static void test_moves(void)
{
    Lan lan;
    set_up_lan(&lan);
    g_autoptr(GSource) turns = watch_turns(&lan);
    lan.sends = TRUE;
    for (int round = 0; round < ROUNDS; round++) {
        const Host *a = &lan.f.host[round % 2], *b = &lan.f.host[(round + 1) % 2];
        guint32 before = lan.sent;
        WAIT_FOR(lan.sent > before + 100);
        begin(a, FALSE);
        WAIT_FOR(phase_of(a) == SWITCHOVER_COMPLETED && phase_of(b) == SWITCHOVER_COMPLETED);
        protect(&lan.f, (round + 1) % 2);
    }
    lan.sends = FALSE;
    WAIT_FOR(times(&lan, 0, lan.sent) || times(&lan, 1, lan.sent));
    g_assert_cmpuint(lan.sent - lan.reached, ==, 0);
    g_assert_cmpuint(twice(&lan), ==, 0);
    g_test_message("%u frames", lan.sent);
    g_source_destroy(turns);
    tear_down_lan(&lan);
}

int main(int argc, char **argv)
{
    const char *why = uplink_hosts_missing();
    if (why) {
        g_print("1..0 # SKIP %s\n", why);
        return 0;
    }
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    command_run("ip link set lo up");
    add_pair_test("/node-lossless/moves", test_moves);
    return g_test_run();
}
