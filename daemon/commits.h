/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_COMMITS_H
#define DAEMON_COMMITS_H

/*
 * The file `commits` beside the database: its head, once more, written after each commit and
 * never waited for. If the end of the database's log is lost, SQLite takes the rest for all
 * there was; then this file is ahead of it and tells how much is missing at the most. And it
 * alone has the store's clock.
 */

#include "record.h"

/* 0 with *ret_fd; -EIO, -ENOSPC. */
int commits_open(const char *directory, int *ret_fd) MUST_CHECK;
void commits_write(int fd, const struct store_head *head);

/* False: nothing is there, or it is damaged. */
bool commits_read(int fd, struct store_head *ret_head);

/* The checksum of a head, here and in the database. */
uint64_t commits_sum(const struct store_head *head);

#endif
