/* SPDX-License-Identifier: MIT */

#include "broker.h"

#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include "base/err.h"
#include "dedup.h"
#include "queue.h"

enum {
	OVERFLOW_ID_DEFAULT = 65534,
	FLOOD_BYTES = 16 * 1024 * 1024, /* less than this is kept for the next messages */
};

/* Which one stands for all that a container's namespace does not map, user_namespaces(7). */
static unsigned int read_overflow_id(const char *path)
{
	FILE *f = fopen(path, "re");
	unsigned int id = OVERFLOW_ID_DEFAULT;

	if (f) {
		if (fscanf(f, "%u", &id) != 1)
			id = OVERFLOW_ID_DEFAULT;
		fclose(f);
	}
	return id;
}

static void on_delayed(struct timer *timer)
{
	message_delayed_due(CONTAINER_OF(timer, struct broker, delayed_timer));
}

static void on_expiring(struct timer *timer)
{
	message_expiring_due(CONTAINER_OF(timer, struct broker, expiring_timer));
}

int broker_init(struct broker *broker, struct loop *loop, struct users *users,
		const struct limits *limits, const struct rules *rules, bool system_mode)
{
	int r;

	*broker = (struct broker){
		.loop = loop,
		.limits = limits,
		.users = users,
		.rules = rules,
		.system_mode = system_mode,
		.owner_uid = geteuid(),
		.overflow_uid = read_overflow_id("/proc/sys/kernel/overflowuid"),
		.overflow_gid = read_overflow_id("/proc/sys/kernel/overflowgid"),
		.next_number = 1,
		.next_queue_id = 1,
	};
	blobs_init(&broker->blobs, users->workers);
	map_init(&broker->names);
	list_init(&broker->all_names);
	map_init(&broker->messages);
	map_init(&broker->confirms);
	heap_init(&broker->delayed);
	heap_init(&broker->expiring);
	timer_init(&broker->delayed_timer, TIMER_BOOTTIME, on_delayed);
	timer_init(&broker->expiring_timer, TIMER_BOOTTIME, on_expiring);
	dedup_init(broker);
	r = hash_key_random(&broker->name_key);
	if (r == 0)
		r = hash_key_random(&broker->lease_key);
	return err_trace(r);
}

void broker_deinit(struct broker *broker)
{
	struct name *name;

	while ((name = LIST_FIRST(&broker->all_names, struct name, link)))
		queue_free(queue_of_name(name));
	timer_cancel(broker->loop, &broker->delayed_timer);
	timer_cancel(broker->loop, &broker->expiring_timer);
	heap_deinit(&broker->delayed);
	heap_deinit(&broker->expiring);
	dedup_deinit(broker);
	free(broker->dump_numbers);
	map_deinit(&broker->confirms);
	map_deinit(&broker->messages);
	map_deinit(&broker->names);
	json_free(broker->meta_parser);
	json_writer_free(broker->history_writer);
}

static void arm(struct broker *broker, struct timer *timer, const struct heap *heap)
{
	const struct heap_node *first = heap_first(heap);

	if (!first)
		timer_cancel(broker->loop, timer);
	else if (!timer_is_set(timer) || timer->node.key != first->key)
		(void)!timer_set(broker->loop, timer, first->key);
}

void broker_arm_timers(struct broker *broker)
{
	arm(broker, &broker->delayed_timer, &broker->delayed);
	arm(broker, &broker->expiring_timer, &broker->expiring);
}

void broker_count_bytes(struct broker *broker, int64_t change)
{
	broker->message_bytes += (uint64_t)change;
	broker->peak_bytes = max_u64(broker->peak_bytes, broker->message_bytes);
	if (broker->peak_bytes < FLOOD_BYTES ||
	    broker->message_bytes > broker->peak_bytes / 8)
		return;
	broker->peak_bytes = broker->message_bytes;
	malloc_trim(0);
}
