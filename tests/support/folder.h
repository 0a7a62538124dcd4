/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A test's folder. */
#ifndef COLO_TESTS_SUPPORT_FOLDER_H
#define COLO_TESTS_SUPPORT_FOLDER_H

/* Removes a folder, if it is there, and the files in it. */
void folder_remove(const char *path);

#endif
