/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Prints the list of options as it has to be in docs/man/colod.conf.5, between its two marks. */
#include <glib.h>
#include <stdio.h>

#include "tests/support/option-roff.h"

int main(void)
{
    g_autofree char *list = option_roff();
    fputs(list, stdout);
    return 0;
}
