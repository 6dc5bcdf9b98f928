/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_LOG_FILE_H
#define DAEMON_LOG_FILE_H

/*
 * SQLite writes each page of its write-ahead log with two system calls. Here the log is a
 * file that gathers what is appended and writes it in one piece: before it is synced, and
 * before anything else is done with it. The sync that ends a commit has all of it before it,
 * or fails; only with synchronous=FULL is there such a sync. All other files are the system's
 * own.
 */

/* The name of the layer for sqlite3_open_v2(), above SQLite's default one. NULL: without
 * memory. Any thread. */
const char *log_file_layer(void);

#endif
