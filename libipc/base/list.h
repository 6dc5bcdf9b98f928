/* SPDX-License-Identifier: MIT */
#ifndef BASE_LIST_H
#define BASE_LIST_H

/*
 * Intrusive doubly linked list. A head and an unlinked element both point to themselves,
 * so list_remove() may be called on either and twice.
 */

#include "base/util.h"

struct list {
	struct list *next, *prev;
};

/* clang-format off */
#define LIST_INIT(name) { &(name), &(name) }
/* clang-format on */

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_is_empty(const struct list *l)
{
	return l->next == l;
}

static inline bool list_is_linked(const struct list *l)
{
	return l->next != l;
}

static inline void list_insert_between(struct list *l, struct list *prev,
				       struct list *next)
{
	l->prev = prev;
	l->next = next;
	prev->next = l;
	next->prev = l;
}

static inline void list_add_tail(struct list *head, struct list *l)
{
	list_insert_between(l, head->prev, head);
}

static inline void list_add_head(struct list *head, struct list *l)
{
	list_insert_between(l, head, head->next);
}

static inline void list_remove(struct list *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	list_init(l);
}

/* Moves all elements of from to the end of head; from is empty afterwards. */
static inline void list_splice_tail(struct list *head, struct list *from)
{
	if (list_is_empty(from))
		return;
	from->next->prev = head->prev;
	head->prev->next = from->next;
	from->prev->next = head;
	head->prev = from->prev;
	list_init(from);
}

#define LIST_ENTRY(ptr, type, member) CONTAINER_OF(ptr, type, member)

/* First element's container, or NULL. */
#define LIST_FIRST(head, type, member) \
	(list_is_empty(head) ? NULL : LIST_ENTRY((head)->next, type, member))

#define LIST_FOREACH(pos, head) \
	for (struct list *pos = (head)->next; pos != (head); pos = pos->next)

/* The body may remove pos (but not its successor). */
#define LIST_FOREACH_SAFE(pos, head)                                                  \
	for (struct list *pos = (head)->next, *pos##_next = pos->next; pos != (head); \
	     pos = pos##_next, pos##_next = pos->next)

#endif
