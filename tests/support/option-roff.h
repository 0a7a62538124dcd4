/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of options in colod.conf(5), made from the table. */
#ifndef COLO_TESTS_OPTION_ROFF_H
#define COLO_TESTS_OPTION_ROFF_H

/* From the first .SS to the last option's text. Free with g_free(). */
char *option_roff(void);

#endif
