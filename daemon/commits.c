/* SPDX-License-Identifier: MIT */

#include "commits.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/err.h"

enum { N_NUMBERS = 8, SUM = N_NUMBERS, CLOCK, CLOCK_SUM, N_ALL };

static void to_numbers(const struct store_head *h, uint64_t numbers[static N_NUMBERS])
{
	numbers[0] = h->generation;
	numbers[1] = h->commits;
	numbers[2] = h->next_number;
	numbers[3] = h->live;
	numbers[4] = h->clean;
	numbers[5] = h->lease_key.k0;
	numbers[6] = h->lease_key.k1;
	numbers[7] = h->written_ms;
}

uint64_t commits_sum(const struct store_head *head)
{
	uint64_t numbers[N_NUMBERS];

	to_numbers(head, numbers);
	return XXH3_64bits(numbers, sizeof(numbers));
}

int commits_open(const char *directory, int *ret_fd)
{
	_cleanup_free_ char *path = NULL;

	if (asprintf(&path, "%s/commits", directory) < 0) {
		path = NULL;
		return err_origin(-ENOMEM);
	}
	*ret_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (*ret_fd < 0)
		return err_origin(errno == ENOSPC || errno == EDQUOT ? -ENOSPC : -EIO);
	return 0;
}

/* With the sum before it: a clock of this head. */
static uint64_t clock_sum(const uint64_t numbers[static N_ALL])
{
	return XXH3_64bits(numbers + SUM, 2 * sizeof(*numbers));
}

void commits_write(int fd, const struct store_head *head)
{
	uint64_t numbers[N_ALL];

	to_numbers(head, numbers);
	numbers[SUM] = commits_sum(head);
	numbers[CLOCK] = head->clock_ms;
	numbers[CLOCK_SUM] = clock_sum(numbers);
	(void)!pwrite(fd, numbers, sizeof(numbers), 0); /* then it tells less */
}

bool commits_read(int fd, struct store_head *ret_head)
{
	uint64_t n[N_ALL] = { 0 };
	struct store_head h;

	/* an earlier version has written no clock */
	if (pread(fd, n, sizeof(n), 0) < (ssize_t)((SUM + 1) * sizeof(*n)))
		return false;
	h = (struct store_head){ .generation = n[0],
				 .commits = n[1],
				 .next_number = n[2],
				 .live = n[3],
				 .clean = n[4] != 0,
				 .lease_key = { n[5], n[6] },
				 .written_ms = n[7] };
	if (commits_sum(&h) != n[SUM])
		return false;
	if (clock_sum(n) == n[CLOCK_SUM])
		h.clock_ms = n[CLOCK];
	*ret_head = h;
	return true;
}
