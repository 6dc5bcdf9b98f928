/* SPDX-License-Identifier: MIT */

#include "log_limit.h"

#include "base/clock.h"
#include "log.h"

enum { LINES_PER_S = 10 };

struct uid_share {
	struct map_node node;
	uid_t uid;
	unsigned long n;
};

static void end_second(struct log_limit *limit)
{
	struct map_node *node;

	while ((node = map_first(&limit->shares))) {
		struct uid_share *share = CONTAINER_OF(node, struct uid_share, node);

		if (share->n > LINES_PER_S)
			log_warning("%lu more lines that uid %u caused were left out",
				    share->n - LINES_PER_S, share->uid);
		map_remove(&limit->shares, node);
		free(share);
	}
}

static void on_end(struct timer *timer)
{
	end_second(CONTAINER_OF(timer, struct log_limit, end));
}

void log_limit_init(struct log_limit *limit, struct loop *loop)
{
	*limit = (struct log_limit){ .loop = loop };
	map_init(&limit->shares);
	timer_init(&limit->end, TIMER_MONOTONIC, on_end);
}

void log_limit_deinit(struct log_limit *limit)
{
	timer_cancel(limit->loop, &limit->end);
	end_second(limit);
	map_deinit(&limit->shares);
}

/* NULL without memory. */
static struct uid_share *get_share(struct log_limit *limit, uid_t uid)
{
	struct map_node *node = map_find(&limit->shares, map_u64(uid));
	struct uid_share *share;

	if (node)
		return CONTAINER_OF(node, struct uid_share, node);
	if (map_reserve(&limit->shares) < 0 ||
	    (!timer_is_set(&limit->end) &&
	     timer_set(limit->loop, &limit->end, limit->loop->now_ns + NS_PER_S) < 0))
		return NULL;
	share = calloc(1, sizeof(*share));
	if (!share)
		return NULL;
	share->uid = uid;
	map_add(&limit->shares, &share->node, map_u64(uid));
	return share;
}

bool log_limit_admits(struct log_limit *limit, uid_t uid)
{
	struct uid_share *share = get_share(limit, uid);

	return !share || ++share->n <= LINES_PER_S;
}
