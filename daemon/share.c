/* SPDX-License-Identifier: MIT */

#include "share.h"

#include <stdlib.h>

#include "base/err.h"

int share_get(struct queue *queue, struct user *user, struct share **ret_share)
{
	struct map_node *node = map_find(&queue->shares, map_u64(user->uid));
	struct share *share;
	int r;

	if (node) {
		*ret_share = CONTAINER_OF(node, struct share, node);
		return 0;
	}
	r = map_reserve(&queue->shares);
	if (r < 0)
		return err_trace(r);
	share = calloc(1, sizeof(*share));
	if (!share)
		return err_origin(-ENOMEM);
	share->queue = queue;
	share->user = user_ref(user);
	list_init(&share->waiting);
	list_init(&share->in_queue);
	list_init(&share->in_user);
	map_add(&queue->shares, &share->node, map_u64(user->uid));
	*ret_share = share;
	return 0;
}

void share_put(struct share *share)
{
	if (share->messages || !list_is_empty(&share->waiting))
		return;
	map_remove(&share->queue->shares, &share->node);
	user_unref(share->user);
	free(share);
}

/* sign: 1 or -1. */
static void charge_file(struct share *share, const struct message *m, int sign)
{
	uint64_t cost = message_file_cost(m), change = sign > 0 ? cost : -cost;

	share->file_bytes += change;
	share->queue->file_bytes += change;
	share->user->usage.file_bytes += change;
	if (message_is_live(m))
		share->user->usage.live += (uint64_t)sign;
}

void share_charge(struct share *share, struct message *m)
{
	uint64_t cost = message_cost(m);
	struct queue *q = share->queue;

	m->share = share;
	share->messages++;
	share->bytes += cost;
	q->messages++;
	q->bytes += cost;
	broker_count_bytes(q->broker, (int64_t)cost);
	share->user->usage.messages++;
	share->user->usage.bytes += cost;
	charge_file(share, m, 1);
}

void share_uncharge(struct message *m)
{
	struct share *share = m->share;
	struct queue *q = share->queue;
	struct user *user = share->user;
	uint64_t cost = message_cost(m);

	share->messages--;
	share->bytes -= cost;
	q->messages--;
	q->bytes -= cost;
	broker_count_bytes(q->broker, -(int64_t)cost);
	user->usage.messages--;
	user->usage.bytes -= cost;
	charge_file(share, m, -1);
	if (!list_is_empty(&q->waiting))
		loop_defer(q->broker->loop, &q->work);
	if (!list_is_empty(&user->waiting)) /* and there may be room elsewhere now */
		loop_defer(q->broker->loop, &user->admit);
	share_put(share);
}

bool share_has_room_for_more(const struct message *m, uint64_t bytes)
{
	const struct queue *q = m->share->queue;

	return q->bytes + bytes <= queue_max_bytes(q) &&
	       m->share->user->usage.bytes + bytes <= q->broker->limits->user_bytes;
}

void share_recharge(struct message *m, uint64_t cost_before)
{
	struct share *share = m->share;
	uint64_t change = message_cost(m) - cost_before; /* it may be less, too */

	share->bytes += change;
	share->queue->bytes += change;
	share->user->usage.bytes += change;
	broker_count_bytes(share->queue->broker, (int64_t)change);
}
