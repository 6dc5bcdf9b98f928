/* SPDX-License-Identifier: MIT */

/*
 * ipc name delete: end names. Messages in a queue are lost with it, so a queue that has some
 * is deleted only when that was asked for. It is the person at the keyboard who is guarded
 * here: what arrives between the look and the deletion is deleted, too.
 */

#include "cli.h"

static const struct option options[] = {
	{ "force", no_argument, NULL, 'f' },
	CLI_OPTIONS,
};

struct delete
{
	const struct cli *cli;
	struct ipc_client *client;
	bool force;
};

static int64_t count(const struct ipc_record *record)
{
	static const char *const states[] = { "ready", "delayed", "leased", "dead" };
	int64_t sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		int64_t n = ipc_record_get_integer(record, states[i]);

		sum += n > 0 ? n : 0;
	}
	return sum;
}

/* Also false for the daemon's own user, who may delete all: then --force is just not told. */
static bool is_ours(const struct ipc_record *record)
{
	return geteuid() == 0 ||
	       ipc_record_get_integer(record, "owner_uid") == (int64_t)geteuid();
}

/* STATUS_OK if nothing is lost with the name. */
static int check_empty(const struct delete *delete, const char *name)
{
	_cleanup_list_ struct ipc_list *list = NULL;
	const struct ipc_record *record;
	int r = ipc_list_open(delete->client, IPC_LIST_NAMES, name, &list);
	long long n;

	if (r < 0)
		return cli_fail_ipc(delete->cli, name, delete->client, r);
	record = ipc_list_next(list);
	n = record ? count(record) : 0;
	if (n > 0 && !is_ours(record))
		return cli_fail(delete->cli, name,
				"there %s %lld message%s in it, and it belongs to %s",
				n == 1 ? "is" : "are", n, n == 1 ? "" : "s",
				ipc_record_get_string(record, "owner"));
	if (n > 0)
		return cli_fail(delete->cli, name,
				"there %s %lld message%s in it; --force deletes %s, too",
				n == 1 ? "is" : "are", n, n == 1 ? "" : "s",
				n == 1 ? "it" : "them");
	return STATUS_OK;
}

static int delete_one(const struct delete *delete, const char *name)
{
	int r = delete->force ? STATUS_OK : check_empty(delete, name);

	if (r != STATUS_OK)
		return r;
	r = ipc_name_delete(delete->client, name);
	return r < 0 ? cli_fail_ipc(delete->cli, name, delete->client, r) : STATUS_OK;
}

/* The first failure is the status, as with rm(1); but without a daemon none can go well. */
static int delete_all(const struct delete *delete, char **names)
{
	int status = STATUS_OK;

	for (; *names; names++) {
		int s = delete_one(delete, *names);

		status = status ? status : s;
		if (s == STATUS_NO_DAEMON)
			break;
	}
	return status;
}

static int run(struct cli *cli, int argc, char **argv)
{
	_cleanup_client_ struct ipc_client *client = NULL;
	struct delete delete = { .cli = cli };
	int c, status;

	while ((c = cli_getopt(cli, argc, argv, ":f" CLI_LETTERS, options)) >= 0)
		delete.force = true;
	if (c == GETOPT_END)
		c = cli_check_count(cli, argc - optind, argv + optind, 1, -1);
	if (c < 0)
		return cli_getopt_status(c);
	status = cli_connect(cli, &client);
	if (status != STATUS_OK)
		return status;
	delete.client = client;
	return delete_all(&delete, argv + optind);
}

const struct command cmd_name_delete = {
	.name = "name delete",
	.arguments = "[-f] NAME...",
	.summary = "end names",
	.help = "Deletes names of one's own. A queue with messages in it, whatever their state,\n"
		"is deleted only with --force.\n"
		"\n"
		"  -f, --force  and all messages with it\n",
	.autostart = true,
	.run = run,
};
