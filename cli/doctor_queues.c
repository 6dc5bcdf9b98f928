/* SPDX-License-Identifier: MIT */

/* ipc doctor: queues that are full or soon will be, or that somebody should look at. */

#include "doctor.h"

#include "list.h"

enum {
	NEARLY_PERCENT = 80,
	FULL_PERCENT_BYTES = 99, /* a message of some size finds no room before 100 */
	OLD_MS = 24 * 3600 * 1000,
};

static double percent(int64_t n, int64_t max)
{
	return n > 0 && max > 0 ? 100.0 * (double)n / (double)max : 0;
}

enum level doctor_judge(int64_t messages, int64_t max, int64_t bytes, int64_t max_bytes)
{
	if ((max > 0 && messages >= max) ||
	    percent(bytes, max_bytes) >= FULL_PERCENT_BYTES)
		return LEVEL_PROBLEM;
	if (percent(messages, max) >= NEARLY_PERCENT ||
	    percent(bytes, max_bytes) >= NEARLY_PERCENT)
		return LEVEL_WARNING;
	return LEVEL_OK;
}

static struct subject queue_of(const struct ipc_record *queue)
{
	return (struct subject){ .check = "queue", .name = list_text(queue, "name") };
}

static int64_t count_messages(const struct ipc_record *queue)
{
	static const char *const states[] = { "ready", "delayed", "leased", "dead" };
	int64_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		n += ipc_record_get_integer(queue, states[i]);
	return n;
}

static void check_room(struct doctor *doctor, const struct ipc_record *queue)
{
	int64_t messages = count_messages(queue);
	int64_t max = ipc_record_get_integer(queue, "queue_messages");
	int64_t bytes = ipc_record_get_integer(queue, "bytes");
	int64_t max_bytes = ipc_record_get_integer(queue, "queue_bytes");
	enum level level = doctor_judge(messages, max, bytes, max_bytes);
	char text[LIST_TEXT], max_text[LIST_TEXT];

	if (level != LEVEL_OK)
		doctor_tell(doctor, level, queue_of(queue),
			    "receive from it, or raise its queue_messages and "
			    "queue_bytes with 'ipc name set'",
			    "it is %sfull: %lld of %lld messages, %s of %s",
			    level == LEVEL_PROBLEM ? "" : "nearly ", (long long)messages,
			    (long long)max, list_format_size(text, bytes),
			    list_format_size(max_text, max_bytes));
}

static void check_files(struct doctor *doctor, const struct ipc_record *queue)
{
	int64_t bytes = ipc_record_get_integer(queue, "file_bytes");
	int64_t max = ipc_record_get_integer(queue, "queue_file_bytes");
	enum level level = max > 0 ? doctor_judge(0, 1, bytes, max) : LEVEL_OK;
	char text[LIST_TEXT], max_text[LIST_TEXT];

	if (level != LEVEL_OK)
		doctor_tell(
			doctor, level, queue_of(queue),
			"receive from it, or raise its queue_file_bytes with 'ipc name "
			"set'",
			"it is %sfull: files of %s, of %s at most",
			level == LEVEL_PROBLEM ? "" : "nearly ",
			list_format_size(text, bytes), list_format_size(max_text, max));
}

static void check_dead(struct doctor *doctor, const struct ipc_record *queue)
{
	long long dead = ipc_record_get_integer(queue, "dead");

	if (dead > 0)
		doctor_tell(doctor, LEVEL_WARNING, queue_of(queue),
			    "see why with 'ipc receive NAME --dead --json'; 'ipc name "
			    "move' makes them ready again, 'ipc name purge --state dead' "
			    "throws them away",
			    "%lld message%s dead", dead, dead == 1 ? " is" : "s are");
}

/* Mail may lie in an inbox for as long as its owner likes. */
static void check_age(struct doctor *doctor, const struct ipc_record *queue)
{
	int64_t oldest = ipc_record_get_integer(queue, "oldest_ms");
	bool inbox = *list_text(queue, "name") == '@';
	char text[LIST_TEXT];

	if (oldest >= OLD_MS && ipc_record_get_integer(queue, "receivers") == 0)
		doctor_tell(doctor, inbox ? LEVEL_NOTE : LEVEL_WARNING, queue_of(queue),
			    "start a receiver, or throw away what is old with 'ipc name "
			    "purge NAME --filter \"age>1d\"'",
			    "its oldest message has waited for %s, and nobody receives",
			    list_format_time(text, oldest));
}

static void check_kept(struct doctor *doctor, const struct ipc_record *queue)
{
	if (doctor->keeps && !ipc_record_get_bool(queue, "durable"))
		doctor_tell(doctor, LEVEL_NOTE, queue_of(queue),
			    "if that is not meant, 'ipc name set NAME durable=true'",
			    "it is kept in memory (durable=false), and survives a stop "
			    "of the daemon, but no crash");
}

static void check_queue(struct doctor *doctor, const struct ipc_record *queue)
{
	check_room(doctor, queue);
	check_files(doctor, queue);
	check_dead(doctor, queue);
	check_age(doctor, queue);
	check_kept(doctor, queue);
}

int doctor_check_queues(struct doctor *doctor)
{
	_cleanup_list_ struct ipc_list *list = NULL;
	enum level before = doctor->worst;
	const struct ipc_record *queue;
	unsigned long long n = 0;
	int r = ipc_list_open(doctor->client, IPC_LIST_NAMES, NULL, &list);

	if (r < 0)
		return cli_fail_ipc(doctor->cli, NULL, doctor->client, r);
	doctor->worst = LEVEL_OK;
	for (; (queue = ipc_list_next(list)); n++)
		check_queue(doctor, queue);
	if (doctor->worst < LEVEL_WARNING)
		doctor_tell(doctor, LEVEL_OK, (struct subject){ .check = "queues" }, NULL,
			    "%llu can be seen: none is nearly full, has dead messages or "
			    "old ones that nobody receives",
			    n);
	if (doctor->worst < before)
		doctor->worst = before;
	return STATUS_OK;
}
