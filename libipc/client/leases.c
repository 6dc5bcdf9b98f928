/* SPDX-License-Identifier: MIT */

/*
 * Which deliveries of this connection are not settled yet. Nothing depends on it but the
 * number that a program is told when the connection was lost.
 */

#include "client/client_internal.h"

#include "base/err.h"

struct lease {
	struct map_node node;
	bool held;
};

static struct lease *find(const struct leases *leases, uint64_t number)
{
	struct map_node *node = map_find(&leases->map, map_u64(number));

	return node ? CONTAINER_OF(node, struct lease, node) : NULL;
}

static void drop(struct leases *leases, struct lease *lease)
{
	leases->n_held -= lease->held;
	map_remove(&leases->map, &lease->node);
	free(lease);
}

int leases_add(struct leases *leases, uint64_t number)
{
	struct lease *lease;
	int r;

	leases_end(leases, number); /* it may have run out, and come again */
	r = map_reserve(&leases->map);
	if (r < 0)
		return err_trace(r);
	lease = calloc(1, sizeof(*lease));
	if (!lease)
		return err_origin(-ENOMEM);
	map_add(&leases->map, &lease->node, map_u64(number));
	return 0;
}

void leases_hold(struct leases *leases, uint64_t number)
{
	struct lease *lease = find(leases, number);

	if (lease && !lease->held) {
		lease->held = true;
		leases->n_held++;
	}
}

void leases_end(struct leases *leases, uint64_t number)
{
	struct lease *lease = find(leases, number);

	if (lease)
		drop(leases, lease);
}

void leases_deinit(struct leases *leases)
{
	struct map_node *node;

	while ((node = map_first(&leases->map)))
		drop(leases, CONTAINER_OF(node, struct lease, node));
	map_deinit(&leases->map);
}
