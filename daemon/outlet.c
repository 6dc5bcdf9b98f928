/* SPDX-License-Identifier: MIT */

#include "outlet.h"

#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

struct outlet {
	pthread_mutex_t mutex;
	int fd; /* -1: closed */
	bool taken;
	size_t n_sent;
	unsigned int refs; /* the loop's */
};

struct outlet *outlet_new(int fd, bool taken)
{
	struct outlet *outlet = malloc(sizeof(*outlet));

	if (!outlet)
		return NULL;
	*outlet = (struct outlet){ .fd = fd, .taken = taken, .refs = 1 };
	pthread_mutex_init(&outlet->mutex, NULL); /* cannot fail on Linux */
	return outlet;
}

struct outlet *outlet_ref(struct outlet *outlet)
{
	outlet->refs++;
	return outlet;
}

struct outlet *outlet_unref(struct outlet *outlet)
{
	if (!outlet || --outlet->refs)
		return NULL;
	pthread_mutex_destroy(&outlet->mutex);
	free(outlet);
	return NULL;
}

void outlet_close(struct outlet *outlet)
{
	pthread_mutex_lock(&outlet->mutex);
	outlet->fd = -1;
	pthread_mutex_unlock(&outlet->mutex);
}

void outlet_take(struct outlet *outlet)
{
	pthread_mutex_lock(&outlet->mutex);
	outlet->taken = true;
	pthread_mutex_unlock(&outlet->mutex);
}

void outlet_give(struct outlet *outlet)
{
	pthread_mutex_lock(&outlet->mutex);
	outlet->taken = false;
	pthread_mutex_unlock(&outlet->mutex);
}

size_t outlet_n_sent(struct outlet *outlet)
{
	size_t n;

	pthread_mutex_lock(&outlet->mutex);
	n = outlet->n_sent;
	pthread_mutex_unlock(&outlet->mutex);
	return n;
}

bool receipt_is_sent(struct receipt *receipt)
{
	bool sent;

	pthread_mutex_lock(&receipt->outlet->mutex);
	sent = receipt->state == RECEIPT_SENT;
	pthread_mutex_unlock(&receipt->outlet->mutex);
	return sent;
}

bool receipt_revoke(struct receipt *receipt)
{
	struct outlet *outlet = receipt->outlet;
	bool sent;

	pthread_mutex_lock(&outlet->mutex);
	sent = receipt->state == RECEIPT_SENT;
	if (sent)
		outlet->n_sent--;
	receipt->state = RECEIPT_REVOKED;
	pthread_mutex_unlock(&outlet->mutex);
	return !sent;
}

/* Those from first on, as many as have the same outlet and go into one write, which is added
 * to *n_writes; returns the one behind. The outlet's mutex is held. */
static struct receipt *send_some(struct receipt *first, size_t *n_writes)
{
	struct outlet *outlet = first->outlet;
	bool open = outlet->fd >= 0 && !outlet->taken;
	struct receipt *end = first;
	char data[RECEIPT_MAX];
	size_t size = 0;
	ssize_t sent;

	for (; end && end->outlet == outlet && end->size <= sizeof(data) - size;
	     end = end->next) {
		if (end->state != RECEIPT_WAITING)
			continue;
		memcpy(data + size, end->frame, end->size);
		size += end->size;
	}
	if (!open || !size)
		return end;
	sent = send(outlet->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent <= 0) /* the loop will see why */
		return end;
	(*n_writes)++;
	if ((size_t)sent < size) { /* the kernel never splits so little; if it did … */
		shutdown(outlet->fd, SHUT_RDWR);
		outlet->fd = -1;
	}
	for (struct receipt *r = first; r != end; r = r->next) {
		if (r->state != RECEIPT_WAITING)
			continue;
		r->state = RECEIPT_SENT;
		outlet->n_sent++;
	}
	return end;
}

size_t receipts_send(struct receipt *first)
{
	size_t n = 0;

	while (first) {
		struct outlet *outlet = first->outlet;

		pthread_mutex_lock(&outlet->mutex);
		first = send_some(first, &n);
		pthread_mutex_unlock(&outlet->mutex);
	}
	return n;
}
