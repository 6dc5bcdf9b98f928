/* SPDX-License-Identifier: MIT */

/* See harness_load.h. */

#include "integration/harness_load.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "integration/harness_powercut.h"

enum {
	N_PRODUCERS = 4,
	N_CONSUMERS = 2,
	UNDER_WAY_MAX = 24, /* of one producer */
	WINDOW = 32,
	N_HELD = 8,
	N_VERDICTS = 4096, /* without a reply: whoever acked has credit at once */
	LEFT_MAX = 400,	   /* so many wait for a consumer, then producers wait */
	REST_MS = 5,	   /* after a send was refused */
	PATIENCE_MS = 20,
	BODY_MAX = 300 * 1024,
	RECEIVE_ID = 1,
	FIRST_ID = 1000,
};

/* Of a message. SAID: the request was, OK: its success was heard. */
enum {
	SEND_OK = 1,
	SEND_REFUSED = 2,
	ACK_SAID = 4,
	ACK_OK = 8,
	REJECT_SAID = 16,
	REJECT_OK = 32,
	SETTLING = 64, /* delivered to load_settle() */
	COUNTED =
		128, /* in counts.left: it has to come, or has come and has to be acked */
};

struct item {
	uint64_t number; /* the daemon's; 0: not known */
	unsigned char flags, producer;
	bool delayed;
	bool repeated; /* sent once more, for nobody knew what became of it */
};

struct producer {
	struct client *client;
	bool repeats;
	uint32_t under_way[UNDER_WAY_MAX]; /* in order */
	int n_under_way;
	uint64_t rests_until_ns;
	int64_t last; /* delivered to load_settle() */
};

struct verdict {
	uint64_t id;
	uint32_t item;
	bool reject;
};

struct consumer {
	struct client *client;
	struct verdict verdicts[N_VERDICTS];
	int n_verdicts;
	struct held {
		uint32_t item;
		uint64_t number;
		char lease[40];
	} held[N_HELD];
	unsigned int n_held;
};

static struct {
	uint64_t random;
	struct item *items;
	uint32_t n_items, capacity;
	struct load_counts counts;
	const char *expected; /* error */
	uint64_t next_id;
	uint64_t highest, highest_before; /* number so far, and at this start */
	uint32_t first_new;		  /* item since this start */
	bool quiet;
	struct producer producers[N_PRODUCERS];
	struct consumer consumers[N_CONSUMERS];
} load;

static unsigned int below(unsigned int n)
{
	return (unsigned int)random_below(&load.random, n);
}

/* ---- bodies ---- */

/* The sizes where ipcd begins to keep a body elsewhere, and their neighbours, are among
 * them. */
size_t load_body_size(uint64_t n)
{
	static const size_t sizes[] = { 0,    1,      100,    100,   5120,
					4096, 4097,   100,    20000, 100,
					0,    262144, 262145, 100,   BODY_MAX };
	uint64_t state = n;

	return random_below(&state, 4) ? 10 + n % 90
				       : sizes[random_below(&state, ARRAY_SIZE(sizes))];
}

const char *load_body(uint64_t n)
{
	static char body[BODY_MAX + 8];
	uint64_t state = n * 1000003;

	for (size_t at = 0; at < load_body_size(n); at += 8) {
		uint64_t x = random_next(&state);

		memcpy(body + at, &x, sizeof(x));
	}
	return body;
}

/* ---- what was promised ---- */

static struct item *item_of(const struct frame *f)
{
	int64_t n = json_int(f->header, "meta.n");

	if (n < 0 || n >= load.n_items)
		fail_msg("a message nobody sent: %s", f->header);
	if (f->body_size != load_body_size((uint64_t)n) ||
	    memcmp(f->body, load_body((uint64_t)n), f->body_size) != 0)
		fail_msg("a corrupt body of %zu bytes, %zu were sent: %s", f->body_size,
			 load_body_size((uint64_t)n), f->header);
	return &load.items[n];
}

static void note_number(struct item *item, const char *header)
{
	uint64_t number = (uint64_t)json_int(header, "message");

	if (item->number && item->number != number)
		fail_msg("item %td was %" PRIu64 ", now it is: %s", item - load.items,
			 item->number, header);
	if (item - load.items >= load.first_new && number <= load.highest_before)
		fail_msg("a number given twice: %s", header);
	item->number = number;
	load.highest = number > load.highest ? number : load.highest;
}

static void check_delivery(const struct item *item, const char *header)
{
	if (item->flags & ACK_OK)
		fail_msg("comes again after its ack was answered: %s", header);
	if (item->flags & REJECT_OK)
		fail_msg("comes again after its reject was answered: %s", header);
	if (item->flags & SEND_REFUSED)
		fail_msg("comes though its send was refused: %s", header);
}

/* Did it certainly not happen? */
static bool is_refused(const char *header)
{
	const char *word = json_string(header, "error");

	if (strcmp(word, "shutting-down") != 0 &&
	    (!load.expected ||
	     (strcmp(word, load.expected) != 0 && strcmp(word, "internal") != 0)))
		fail_msg("refused: %s", header);
	return strcmp(word, "internal") != 0;
}

static void count(struct item *item)
{
	load.counts.left += !(item->flags & COUNTED);
	item->flags |= COUNTED;
}

/* It has ended, or nobody knows: then it may come again. */
static void count_no_more(struct item *item)
{
	load.counts.left -= (item->flags & COUNTED) != 0;
	item->flags &= (unsigned char)~COUNTED;
}

/* ---- producers ---- */

/* The daemon may have gone: then it is as if nothing had been said. */
static void say_carelessly(struct client *c, const char *bytes, size_t size)
{
	while (size) {
		ssize_t n = send(client_fd(c), bytes, size, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		bytes += n;
		size -= (size_t)n;
	}
}

static void say_send(struct producer *p, uint32_t n)
{
	const struct item *item = &load.items[n];
	const char *keys = item->delayed ? ",'delay_ms':30" : "";
	size_t size;
	char *bytes;

	if (p->repeats)
		keys = keep_printf("%s,'dedup_id':'item %u'", keys, n);
	bytes = frame_encode(&size, load_body(n), load_body_size(n), "%s",
			     with_quotes(keep_printf("{'op':'send','id':%u,'queue':'%s',"
						     "'meta':{'n':%u}%s}",
						     FIRST_ID + n, LOAD_QUEUE, n, keys)));
	say_carelessly(p->client, bytes, size);
}

static uint32_t add_item(const struct producer *p)
{
	struct item *item;

	if (load.n_items == load.capacity) {
		load.capacity = load.capacity ? load.capacity * 2 : 4096;
		load.items = realloc(load.items, load.capacity * sizeof(*load.items));
		assert_non_null(load.items);
	}
	item = &load.items[load.n_items];
	*item = (struct item){ .producer = (unsigned char)(p - load.producers),
			       .delayed = below(20) == 0 };
	return load.n_items++;
}

static void forget_send(struct producer *p, uint32_t n)
{
	int i = 0;

	while (i < p->n_under_way && p->under_way[i] != n)
		i++;
	if (i == p->n_under_way)
		fail_msg("a reply to no request: item %u", n);
	memmove(&p->under_way[i], &p->under_way[i + 1],
		(size_t)(--p->n_under_way - i) * sizeof(p->under_way[0]));
}

static void hear_send_reply(struct producer *p, const struct frame *f)
{
	uint32_t n = (uint32_t)(json_int(f->header, "re") - FIRST_ID);
	struct item *item = &load.items[n];

	forget_send(p, n);
	if (json_has(f->header, "error")) {
		/* whether it is there since an earlier send of it is not told by that */
		if (is_refused(f->header) && !item->repeated)
			item->flags |= SEND_REFUSED;
		load.counts.refused_sends++;
		p->rests_until_ns = deadline_after(clock_ns(CLOCK_MONOTONIC), REST_MS);
		return;
	}
	note_number(item, f->header);
	item->flags |= SEND_OK;
	if (!(item->flags & (ACK_SAID | REJECT_SAID)))
		count(item);
	load.counts.sends++;
}

static void produce(struct producer *p)
{
	struct frame *f;

	while ((f = client_hear_now(p->client))) {
		load.counts.heard++;
		if (json_has(f->header, "re")) /* else last words */
			hear_send_reply(p, f);
	}
	if (clock_ns(CLOCK_MONOTONIC) < p->rests_until_ns)
		return;
	while (!load.quiet && load.counts.left < LEFT_MAX &&
	       p->n_under_way < UNDER_WAY_MAX) {
		uint32_t n = add_item(p);

		p->under_way[p->n_under_way++] = n;
		say_send(p, n);
	}
}

/* NULL if the daemon has gone already. */
static struct client *try_connect(void)
{
	struct client *c = NULL;

	return client_try_connect(geteuid(), &c) < 0 ? NULL : c;
}

static bool producer_connect(struct producer *p)
{
	p->client = try_connect();
	if (!p->client)
		return false;
	p->repeats = (p - load.producers) % 2;
	if (!p->repeats)
		p->n_under_way = 0; /* nobody knows what became of them */
	for (int i = 0; i < p->n_under_way; i++) {
		load.items[p->under_way[i]].repeated = true;
		say_send(p, p->under_way[i]);
	}
	return true;
}

/* ---- consumers ---- */

static bool consumer_connect(struct consumer *c)
{
	size_t size;
	char *bytes = frame_encode(&size, NULL, 0,
				   "{'op':'receive','id':%d,'queue':'%s','max':0,"
				   "'window':%d,'wait_ms':-1}",
				   RECEIVE_ID, LOAD_QUEUE, WINDOW);

	*c = (struct consumer){ .client = try_connect() };
	if (!c->client)
		return false;
	say_carelessly(c->client, bytes, size);
	return true;
}

static void consumer_close(struct consumer *c)
{
	for (int i = 0; i < c->n_verdicts; i++)
		count_no_more(&load.items[c->verdicts[i].item]);
	if (c->client)
		client_close(TAKE_PTR(c->client));
}

static void say_settle(struct client *c, const char *op, const struct held *h,
		       const char *keys)
{
	size_t size;
	char *bytes =
		frame_encode(&size, NULL, 0, "%s",
			     with_quotes(keep_printf("{'op':'%s','message':%" PRIu64
						     ",'lease':'%s'%s}",
						     op, h->number, h->lease, keys)));

	say_carelessly(c, bytes, size);
}

/* An ack or reject whose reply is waited for. */
static void say_verdict(struct consumer *c, const struct held *h, bool reject)
{
	struct verdict *v = &c->verdicts[c->n_verdicts++];

	assert_in_range(c->n_verdicts, 1, N_VERDICTS);
	*v = (struct verdict){ FIRST_ID + load.next_id++, h->item, reject };
	load.items[h->item].flags |= reject ? REJECT_SAID : ACK_SAID;
	say_settle(c->client, reject ? "reject" : "ack", h,
		   keep_printf(",'id':%" PRIu64, v->id));
}

static void settle_held(struct consumer *c)
{
	while (c->n_held)
		say_verdict(c, &c->held[--c->n_held], false);
}

static void decide(struct consumer *c, const struct held *h)
{
	unsigned int dice = below(100);

	if (dice < 10) {
		if (c->n_held == N_HELD)
			settle_held(c);
		c->held[c->n_held++] = *h;
	} else if (dice < 15) {
		say_settle(c->client, "nack", h,
			   keep_printf(",'delay_ms':%u", below(20)));
	} else {
		say_verdict(c, h, dice < 18);
	}
}

static struct held hold(const struct item *item, const struct frame *f)
{
	struct held h = { .item = (uint32_t)(item - load.items),
			  .number = (uint64_t)json_int(f->header, "message") };

	snprintf(h.lease, sizeof(h.lease), "%s", json_string(f->header, "lease"));
	return h;
}

static void consumer_take(struct consumer *c, const struct frame *f)
{
	struct item *item = item_of(f);
	struct held h = hold(item, f);

	check_delivery(item, f->header);
	note_number(item, f->header);
	if (item->flags & SEND_OK)
		count(item);
	decide(c, &h);
}

static void hear_verdict(struct consumer *c, const struct frame *f)
{
	uint64_t id = (uint64_t)json_int(f->header, "re");
	struct item *item;
	int i = 0;

	while (i < c->n_verdicts && c->verdicts[i].id != id)
		i++;
	if (i == c->n_verdicts)
		fail_msg("a reply to no request: %s", f->header);
	item = &load.items[c->verdicts[i].item];
	if (json_has(f->header, "error")) {
		is_refused(f->header);
		count_no_more(item);
		load.counts.refused_acks++;
	} else {
		load.counts.acks++;
		item->flags |= c->verdicts[i].reject ? REJECT_OK : ACK_OK;
		count_no_more(item);
	}
	c->verdicts[i] = c->verdicts[--c->n_verdicts];
}

/* False: it could not connect again. */
static bool consume(struct consumer *c)
{
	struct frame *f;

	if (load.quiet)
		settle_held(c);
	while ((f = client_hear_now(c->client))) {
		load.counts.heard++;
		if (!json_has(f->header, "re"))
			continue; /* last words, or a nack that came with them */
		if (json_int(f->header, "re") != RECEIVE_ID)
			hear_verdict(c, f);
		else if (!json_has(f->header, "end"))
			consumer_take(c, f);
		if (!below(1000)) {
			consumer_close(c);
			return consumer_connect(c);
		}
	}
	return true;
}

/* ---- all ---- */

void load_begin(uint64_t seed)
{
	load_end();
	load.random = seed;
}

void load_end(void)
{
	free(load.items);
	memset(&load, 0, sizeof(load));
}

const struct load_counts *load_counts(void)
{
	return &load.counts;
}

void load_produce(bool on)
{
	load.quiet = !on;
}

void load_expect(const char *word)
{
	load.expected = word;
}

bool load_connect(void)
{
	load.highest_before = load.highest;
	load.first_new = load.n_items;
	for (int i = 0; i < N_PRODUCERS; i++)
		if (!producer_connect(&load.producers[i]))
			return false;
	for (int i = 0; i < N_CONSUMERS; i++)
		if (!consumer_connect(&load.consumers[i]))
			return false;
	return true;
}

void load_disconnect(void)
{
	for (int i = 0; i < N_PRODUCERS; i++)
		if (load.producers[i].client)
			client_close(TAKE_PTR(load.producers[i].client));
	for (int i = 0; i < N_CONSUMERS; i++)
		consumer_close(&load.consumers[i]);
}

bool load_is_quiet(void)
{
	for (int i = 0; i < N_PRODUCERS; i++)
		if (load.producers[i].n_under_way)
			return false;
	return load.quiet;
}

static void wait_for_any(void)
{
	struct pollfd pollfds[N_PRODUCERS + N_CONSUMERS];
	nfds_t n = 0;

	for (int i = 0; i < N_PRODUCERS; i++)
		pollfds[n++] =
			(struct pollfd){ client_fd(load.producers[i].client), POLLIN, 0 };
	for (int i = 0; i < N_CONSUMERS; i++)
		pollfds[n++] =
			(struct pollfd){ client_fd(load.consumers[i].client), POLLIN, 0 };
	poll(pollfds, n, PATIENCE_MS);
}

static int count_ended(void)
{
	int n = 0;

	for (int i = 0; i < N_PRODUCERS; i++)
		n += client_has_ended(load.producers[i].client);
	for (int i = 0; i < N_CONSUMERS; i++)
		n += client_has_ended(load.consumers[i].client);
	return n;
}

bool load_turn(void)
{
	size_t mark = keep_mark();
	bool connected = true;

	if (!count_ended())
		wait_for_any();
	for (int i = 0; i < N_PRODUCERS; i++)
		produce(&load.producers[i]);
	for (int i = 0; connected && i < N_CONSUMERS; i++)
		connected = consume(&load.consumers[i]);
	keep_release(mark);
	return connected && count_ended() < N_PRODUCERS + N_CONSUMERS;
}

/* ---- the account ---- */

static bool must_be_there(const struct item *item)
{
	return (item->flags & SEND_OK) && !(item->flags & (ACK_SAID | REJECT_SAID));
}

static void check_order(struct item *item, const char *header)
{
	struct producer *p = &load.producers[item->producer];

	if (item->delayed)
		return;
	if (item - load.items < p->last)
		fail_msg("comes after item %" PRId64 ": %s", p->last, header);
	p->last = item - load.items;
}

/* All that is there, to one receiver. */
static void take_all(struct client *c)
{
	say(c, "{'op':'receive','id':%d,'queue':'%s','max':0,'window':1,'wait_ms':0}",
	    RECEIVE_ID, LOAD_QUEUE);
	for (;;) {
		size_t mark = keep_mark();
		struct frame *f = hear_reply(c, RECEIVE_ID);
		struct item *item;
		struct held h;

		if (json_has(f->header, "end"))
			break;
		item = item_of(f);
		check_delivery(item, f->header);
		note_number(item, f->header);
		check_order(item, f->header);
		item->flags |= SETTLING;
		h = hold(item, f);
		say_settle(c, "ack", &h, "");
		keep_release(mark);
	}
}

static void take_dead(struct client *c)
{
	say(c, "{'op':'receive','id':%d,'queue':'%s','peek':true,'max':0}", RECEIVE_ID,
	    LOAD_QUEUE);
	for (;;) {
		size_t mark = keep_mark();
		struct frame *f = hear_reply(c, RECEIVE_ID);
		struct item *item;

		if (json_has(f->header, "end"))
			break;
		if (strcmp(json_string(f->header, "state"), "dead") != 0)
			continue;
		item = item_of(f);
		note_number(item, f->header);
		if (!(item->flags & REJECT_SAID) || (item->flags & (ACK_OK | SETTLING)))
			fail_msg("is dead: %s", f->header);
		item->flags |= SETTLING;
		keep_release(mark);
	}
}

/* What was given back, or sent with a delay, has become ready. */
static bool is_at_rest(struct client *c)
{
	struct frame *f = list(c, "names");
	const char *line;

	for (unsigned int i = 0; (line = frame_line(f, i)); i++)
		if (json_int(line, "delayed") || json_int(line, "leased"))
			return false;
	return true;
}

void load_settle(void)
{
	struct client *c = client_connect();
	uint64_t n_sent = 0, n_acked = 0, n_left = 0;

	for (int i = 0; i < N_PRODUCERS; i++)
		load.producers[i].last = -1;
	wait_for(is_at_rest(c));
	take_all(c);
	take_dead(c);
	for (uint32_t i = 0; i < load.n_items; i++) {
		const struct item *item = &load.items[i];

		n_sent += (item->flags & SEND_OK) != 0;
		n_acked += (item->flags & ACK_OK) != 0;
		n_left += (item->flags & SETTLING) != 0;
		if (must_be_there(item) && !(item->flags & SETTLING))
			fail_msg("lost: item %u, message %" PRIu64 " of %zu bytes", i,
				 item->number, load_body_size(i));
		if ((item->flags & REJECT_OK) && !(item->flags & SETTLING))
			fail_msg("lost when dead: item %u, message %" PRIu64, i,
				 item->number);
	}
	print_message("%" PRIu64 " sends and %" PRIu64 " acks answered, %" PRIu64
		      " messages at the end\n",
		      n_sent, n_acked, n_left);
	client_close(c);
}
