/* SPDX-License-Identifier: MIT */

/*
 * nats-server on 127.0.0.1 (it has no Unix sockets), by libnats, with JetStream: a stream
 * in memory (variant "file": in files) that is a work queue, and a pull consumer. One job:
 * publish and wait, fetch 1, acknowledge and wait. Batches: publish asynchronously and
 * wait for all, fetch up to as many, acknowledge without waiting.
 */

#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <nats/nats.h>

enum { WAIT_MS = 20000 };

struct conn {
	natsConnection *nats;
	jsCtx *jetstream;
	natsSubscription *jobs;
};

static int hello(void)
{
	static const char greeting[] =
		"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n"
		"PING\r\n";
	int fd = dial(opt.address);

	if (fd >= 0 && read_until(fd, "\r\n") &&
	    write_all(fd, greeting, strlen(greeting)) && read_until(fd, "PONG\r\n"))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static void check(natsStatus status)
{
	if (status != NATS_OK)
		die("nats: %s: %s", natsStatus_GetText(status), nats_GetLastError(NULL));
}

static struct conn *connect_nats(void)
{
	struct conn *conn = calloc(1, sizeof(*conn));
	natsOptions *options;
	jsOptions js_options;
	char url[64];

	must(conn);
	snprintf(url, sizeof(url), "nats://%s", opt.address);
	check(natsOptions_Create(&options));
	check(natsOptions_SetURL(options, url));
	check(natsOptions_SetSendAsap(options,
				      true)); /* no wait for the flusher thread */
	check(natsConnection_Connect(&conn->nats, options));
	natsOptions_Destroy(options);
	jsOptions_Init(&js_options);
	js_options.Wait = WAIT_MS;
	check(natsConnection_JetStream(&conn->jetstream, conn->nats, &js_options));
	return conn;
}

static void prepare(void)
{
	static const char *subjects[] = { "job" };
	struct conn *conn = connect_nats();
	jsConsumerConfig consumer;
	jsStreamConfig stream;

	jsStreamConfig_Init(&stream);
	stream.Name = "J";
	stream.Subjects = subjects;
	stream.SubjectsLen = 1;
	stream.Retention = js_WorkQueuePolicy;
	if (strcmp(opt.variant, "file") != 0)
		stream.Storage = js_MemoryStorage;
	check(js_AddStream(NULL, conn->jetstream, &stream, NULL, NULL));
	jsConsumerConfig_Init(&consumer);
	consumer.Durable = "w";
	consumer.AckPolicy = js_AckExplicit;
	consumer.MaxAckPending = 20000;
	check(js_AddConsumer(NULL, conn->jetstream, "J", &consumer, NULL, NULL));
}

static void *open_conn(void)
{
	struct conn *conn = connect_nats();
	jsSubOptions options;

	jsSubOptions_Init(&options);
	options.Stream = "J";
	options.Consumer = "w";
	check(js_PullSubscribe(&conn->jobs, conn->jetstream, "job", "w", NULL, &options,
			       NULL));
	return conn;
}

static void put(void *arg, unsigned int n)
{
	struct conn *conn = arg;
	int size = (int)opt.size;
	jsPubOptions options;

	if (n == 1) {
		check(js_Publish(NULL, conn->jetstream, "job", opt.body, size, NULL,
				 NULL));
		return;
	}
	for (unsigned int i = 0; i < n; i++)
		check(js_PublishAsync(conn->jetstream, "job", opt.body, size, NULL));
	jsPubOptions_Init(&options);
	options.MaxWait = WAIT_MS;
	check(js_PublishAsyncComplete(conn->jetstream, &options));
}

static unsigned int take(void *arg, unsigned int max)
{
	struct conn *conn = arg;
	natsMsgList list;
	natsStatus status;
	unsigned int n;

	do
		status = natsSubscription_Fetch(&list, conn->jobs, (int)max, WAIT_MS,
						NULL);
	while (status == NATS_TIMEOUT);
	check(status);
	n = (unsigned int)list.Count;
	for (unsigned int i = 0; i < n; i++)
		check(max == 1 ? natsMsg_AckSync(list.Msgs[i], NULL, NULL)
			       : natsMsg_Ack(list.Msgs[i], NULL));
	natsMsgList_Destroy(&list);
	return n;
}

static uint64_t left(void)
{
	struct conn *conn = connect_nats();
	jsStreamInfo *info;
	uint64_t n;

	check(js_GetStreamInfo(&info, conn->jetstream, "J", NULL, NULL));
	n = info->State.Msgs;
	jsStreamInfo_Destroy(info);
	jsCtx_Destroy(conn->jetstream);
	natsConnection_Destroy(conn->nats);
	free(conn);
	return n;
}

int main(int argc, char **argv)
{
	static const struct driver driver = {
		.hello = hello,
		.prepare = prepare,
		.open = open_conn,
		.put = put,
		.take = take,
		.left = left,
	};

	return bench_main(argc, argv, &driver, NULL);
}
