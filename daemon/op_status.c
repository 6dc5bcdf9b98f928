/* SPDX-License-Identifier: MIT */

/* names, stats, peers, disconnect: what goes on. Lists are NDJSON in the body; one sees what
 * one has a right on, one's own connections, and root all. */

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "listing.h"
#include "log.h"
#include "op_name.h"
#include "op_receive.h"
#include "ops.h"
#include "store.h"

static int put_line_end(struct json_writer *w, struct buf *out)
{
	int r = json_writer_end(w);

	return err_trace(r < 0 ? r : buf_append(out, "\n", 1));
}

/* ---- names ---- */

static int put_display_name(struct json_writer *w, const struct name *name)
{
	_cleanup_buf_ struct buf display = BUF_INIT;
	int r = name_append_display(name, &display);

	if (r == 0)
		json_put_string(w, "name", display.data, display.size);
	return err_trace(r);
}

static void put_counters(struct json_writer *w, const struct counters *c)
{
	json_put_u64(w, "sent", c->sent);
	json_put_u64(w, "delivered", c->delivered);
	json_put_u64(w, "acked", c->acked);
	json_put_u64(w, "nacked", c->nacked);
	json_put_u64(w, "rejected", c->rejected);
	json_put_u64(w, "died", c->died);
	json_put_u64(w, "expired", c->expired);
	json_put_u64(w, "lost", c->lost);
}

static void put_rate(struct json_writer *w, const char *key, struct rate *rate,
		     uint64_t now_ns)
{
	uint64_t n = rate_per_100s(rate, now_ns);
	char text[32];
	int size = snprintf(text, sizeof(text), "%llu.%02llu",
			    (unsigned long long)(n / 100), (unsigned long long)(n % 100));

	json_put_raw(w, key, text, (size_t)size);
}

static void put_oldest(struct json_writer *w, struct queue *q)
{
	uint64_t now_ms = clock_ns(CLOCK_REALTIME) / NS_PER_MS;
	const struct message *m = queue_oldest(q);

	if (m) /* the clock may have been set back */
		json_put_u64(w, "oldest_ms",
			     now_ms > m->sent_ms ? now_ms - m->sent_ms : 0);
}

/* Those that hold: its own, or the daemon's. */
static void put_settings(struct json_writer *w, const struct queue *q)
{
	size_t n = q->settings.set & SETTING_BACKOFF ? q->settings.n_backoff
						     : ARRAY_SIZE(limits_backoff_ms);

	json_put_u64(w, "queue_messages", queue_max_messages(q));
	json_put_u64(w, "queue_bytes", queue_max_bytes(q));
	json_put_u64(w, "queue_file_bytes", queue_max_file_bytes(q));
	json_put_u64(w, "max_attempts", queue_max_attempts(q));
	json_put_u64(w, "lost_delay", queue_lost_delay_ms(q));
	json_put_array(w, "backoff");
	for (size_t i = 0; i < n; i++)
		json_put_u64(w, NULL, queue_backoff_ms(q, i + 1));
	json_put_end(w);
}

static int put_queue(struct server *server, struct buf *out, struct name *name)
{
	struct json_writer *w = server->writer;
	struct queue *q = queue_of_name(name);
	uint64_t now_ns = server->loop.now_ns;
	char mode[8];
	int r;

	snprintf(mode, sizeof(mode), "%04o", name->mode);
	json_writer_begin(w, out);
	r = put_display_name(w, name);
	json_put_text(w, "kind", "queue");
	json_put_text(w, "owner", name->owner->name);
	json_put_u64(w, "owner_uid", name->owner->uid);
	json_put_u64(w, "group", name->gid);
	json_put_text(w, "mode", mode);
	json_put_bool(w, "durable", queue_is_durable(q));
	for (enum message_state i = MESSAGE_READY; i < MESSAGE_N_STATES; i++)
		json_put_u64(w, message_state_name(i), q->n_in_state[i]);
	json_put_u64(w, "bytes", q->bytes);
	json_put_u64(w, "file_bytes", q->file_bytes);
	put_settings(w, q);
	put_oldest(w, q);
	put_rate(w, "sent_rate", &q->sent_rate, now_ns);
	put_rate(w, "acked_rate", &q->acked_rate, now_ns);
	json_put_u64(w, "receivers", q->n_receivers);
	json_put_u64(w, "waiting", q->n_waiting);
	put_counters(w, &q->counters);
	return err_trace(r < 0 ? r : put_line_end(w, out));
}

static int put_one_name(struct call *call, struct buf *out)
{
	struct name_ref ref;
	struct name *name;
	int r = op_name_get(call, KEY_NAME, &ref);

	if (r)
		return err_trace(r);
	name = name_find(&call->server->broker, &ref);
	if (!name || !name_is_shown(name, &call->peer->who))
		return name_refuse_unknown(&call->server->broker, &ref, call->fault);
	return err_trace(put_queue(call->server, out, name));
}

/* Behind the one that was looked at last, which may be gone. */
static struct list *find_place(const struct listing *listing, struct broker *broker)
{
	struct name *name = name_find(broker, &listing->name);

	if (name && queue_of_name(name)->id == listing->at)
		return name->link.next;
	LIST_FOREACH(link, &broker->all_names)
		if (queue_of_name(LIST_ENTRY(link, struct name, link))->id > listing->at)
			return link;
	return &broker->all_names;
}

static int put_names(struct listing *listing, unsigned int n)
{
	struct peer *peer = listing->request.peer;
	struct broker *broker = &peer->server->broker;
	struct list *link = find_place(listing, broker);
	struct name *name = NULL;

	for (; n && link != &broker->all_names; n--, link = link->next) {
		int r;

		name = LIST_ENTRY(link, struct name, link);
		if (queue_of_name(name)->id > listing->last)
			return 0;
		r = name_is_shown(name, &peer->who)
			    ? put_queue(peer->server, &listing->body, name)
			    : 0;
		if (r < 0)
			return err_trace(r);
	}
	if (n)
		return 0;
	listing->at = queue_of_name(name)->id;
	listing->name.size = name->size;
	memcpy(listing->name.text, name->text, name->size + 1);
	return 1;
}

int op_names(struct call *call)
{
	_cleanup_buf_ struct buf body = BUF_INIT;
	int r;

	if (!header_has(call->header, KEY_NAME))
		return err_trace(listing_start(
			call, call->server->broker.next_queue_id - 1, put_names));
	r = put_one_name(call, &body);
	return r ? err_trace(r) : call_reply_body(call, &body);
}

/* ---- stats ---- */

static void put_store(struct json_writer *w, struct store *store)
{
	struct store_report report;

	store_describe(store, &report);
	json_put_object(w, "store");
	json_put_text(w, "state", store_state_name(report.state));
	json_put_text(w, "file_system", report.file_system);
	json_put_bool(w, "durable", !report.warning);
	if (report.options)
		json_put_text(w, "options", report.options);
	if (report.warning)
		json_put_text(w, "warning", report.warning);
	if (report.error)
		json_put_text(w, "error", report.error);
	if (report.damage)
		json_put_text(w, "damage", report.damage);
	if (report.set_aside)
		json_put_text(w, "set_aside", report.set_aside);
	free(report.set_aside);
	json_put_u64(w, "commits", report.commits);
	json_put_u64(w, "last_commit_us", report.last_commit_us);
	json_put_u64(w, "longest_commit_us", report.longest_commit_us);
	json_put_u64(w, "file_bytes", report.file_bytes);
	json_put_u64(w, "log_bytes", report.log_bytes);
	if (report.is_there)
		json_put_u64(w, "disk_free_bytes", report.disk_free_bytes);
	json_put_end(w);
}

/* Of the one who asks; what limits it is in "limits". */
static void put_usage(struct json_writer *w, const struct user *user)
{
	json_put_object(w, "usage");
	json_put_text(w, "user", user->name);
	json_put_u64(w, "uid", user->uid);
	json_put_u64(w, "connections", user->usage.connections);
	json_put_u64(w, "names", user->usage.names);
	json_put_u64(w, "messages", user->usage.messages);
	json_put_u64(w, "bytes", user->usage.bytes);
	json_put_u64(w, "file_bytes", user->usage.file_bytes);
	json_put_u64(w, "live", user->usage.live);
	json_put_u64(w, "bodies", user->usage.bodies);
	json_put_u64(w, "outgoing", user->usage.outgoing);
	json_put_u64(w, "outgoing_bytes", user->usage.outgoing_bytes);
	json_put_u64(w, "dedup_ids", user->usage.dedups);
	json_put_u64(w, "buffer_bytes", user->usage.buffer_bytes);
	json_put_u64(w, "waiting_bytes", user->usage.waiting_bytes);
	json_put_u64(w, "request_bytes", user->usage.request_bytes);
	json_put_u64(w, "held_bytes", user->usage.held_bytes);
	json_put_end(w);
}

int op_stats(struct call *call)
{
	_cleanup_buf_ struct buf body = BUF_INIT;
	struct server *server = call->server;
	struct json_writer *w = server->writer;
	char epoch[16];
	int r;

	format_hex64(epoch, server->epoch);
	json_writer_begin(w, &body);
	json_put_text(w, "server", "ipcd " IPCD_VERSION);
	json_put_u64(w, "version", 1);
	json_put_string(w, "epoch", epoch, sizeof(epoch));
	json_put_u64(w, "pid", (uint64_t)getpid());
	json_put_u64(w, "uid", server->broker.owner_uid);
	json_put_text(w, "mode", server->config->system_mode ? "system" : "user");
	json_put_text(w, "socket", server->config->socket);
	if (server->config->state)
		json_put_text(w, "state", server->config->state);
	json_put_text(w, "log_level", log_level_name(log_get_level()));
	json_put_u64(w, "uptime_ms",
		     (server->loop.now_ns - server->started_ns) / NS_PER_MS);
	json_put_u64(w, "peers", server->n_peers);
	json_put_u64(w, "names", server->broker.names.n);
	json_put_u64(w, "messages", server->broker.messages.n);
	json_put_u64(w, "bytes", server->broker.message_bytes);
	put_counters(w, &server->broker.counters);
	if (server->broker.store)
		put_store(w, server->broker.store);
	put_usage(w, call->peer->user);
	op_put_limits(w, &server->limits);
	r = put_line_end(w, &body);
	return r < 0 ? err_trace(r) : call_reply_body(call, &body);
}

/* ---- peers ---- */

static bool may_see_peer(const struct peer *asker, const struct peer *peer)
{
	const struct broker *broker = &asker->server->broker;
	uid_t uid = asker->who.uid;

	return name_may_all(broker, uid) ||
	       (peer->who.uid == uid && uid != broker->overflow_uid) || peer == asker;
}

static int put_peer(struct buf *out, const struct peer *peer)
{
	struct json_writer *w = peer->server->writer;
	uint64_t age = peer->server->loop.now_ns - peer->accepted_ns;
	char command[32];

	peer_read_command(peer, command);
	json_writer_begin(w, out);
	json_put_u64(w, "peer", peer->number);
	json_put_u64(w, "uid", peer->who.uid);
	json_put_u64(w, "gid", peer->who.gid);
	json_put_u64(w, "pid", (uint64_t)peer->pid);
	json_put_text(w, "user", peer->user->name);
	json_put_text(w, "label", peer->label ? peer->label : "");
	json_put_text(w, "command", command);
	json_put_u64(w, "requests", peer_n_requests(peer));
	json_put_u64(w, "leases", op_receive_leases(peer));
	json_put_u64(w, "output_bytes", stream_pending(&peer->stream));
	json_put_u64(w, "age_ms", age / NS_PER_MS);
	return err_trace(put_line_end(w, out));
}

static struct peer *find_peer(const struct server *server, uint64_t number)
{
	struct map_node *node = map_find(&server->peers_by_number, map_u64(number));

	return node ? CONTAINER_OF(node, struct peer, by_number) : NULL;
}

/* As find_place(). */
static struct list *find_peer_place(const struct listing *listing, struct server *server)
{
	struct peer *peer = find_peer(server, listing->at);

	if (peer)
		return peer->link.next;
	LIST_FOREACH(link, &server->peers)
		if (LIST_ENTRY(link, struct peer, link)->number > listing->at)
			return link;
	return &server->peers;
}

static int put_peers(struct listing *listing, unsigned int n)
{
	const struct peer *asker = listing->request.peer;
	struct server *server = asker->server;
	struct list *link = find_peer_place(listing, server);

	for (; n && link != &server->peers; n--, link = link->next) {
		const struct peer *peer = LIST_ENTRY(link, struct peer, link);
		int r;

		if (peer->number > listing->last)
			return 0;
		r = may_see_peer(asker, peer) && peer->state != PEER_CLOSED
			    ? put_peer(&listing->body, peer)
			    : 0;
		if (r < 0)
			return err_trace(r);
		listing->at = peer->number;
	}
	return n ? 0 : 1;
}

int op_peers(struct call *call)
{
	return err_trace(listing_start(call, call->server->next_peer - 1, put_peers));
}

int op_disconnect(struct call *call)
{
	struct peer *peer;
	uint64_t number;
	int r = header_get_u64(call->header, KEY_PEER, 1, LIMIT_NUMBER_MAX, &number,
			       call->fault);

	if (r < 0)
		return FAULT;
	if (r == 0)
		return call_missing(call, KEY_PEER);
	peer = find_peer(call->server, number);
	if (!peer || !may_see_peer(call->peer, peer) || peer->state >= PEER_LINGERING)
		return fault_set(call->fault, FAULT_NOT_FOUND,
				 "there is no connection %llu",
				 (unsigned long long)number);
	if (peer_may_log(call->peer))
		log_notice("%s is disconnected by uid %u", peer_describe(peer),
			   call->peer->who.uid);
	r = call_done(call);
	peer_linger(peer);
	return r;
}
