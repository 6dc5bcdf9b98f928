/* SPDX-License-Identifier: MIT */

/* ipc status: the daemon in a few lines, or one queue. */

#include <pwd.h>
#include <string.h>
#include <sys/types.h>

#include "list.h"

enum { OPTION_FORMAT = OPTION_OF_VERB };

static const struct option options[] = {
	{ "format", required_argument, NULL, OPTION_FORMAT },
	CLI_OPTIONS,
};

/* 0, GETOPT_ERROR or GETOPT_HELP. */
static int parse(struct cli *cli, int argc, char **argv)
{
	int c;

	while ((c = cli_getopt(cli, argc, argv, ":" CLI_LETTERS, options)) >= 0) {
		if (strcmp(optarg, "json") == 0)
			cli->json = true;
		else if (strcmp(optarg, "human") == 0)
			cli->json = false;
		else
			return cli_usage(cli, "--format is human or json, not '%s'",
					 optarg);
	}
	return c == GETOPT_END ? cli_check_count(cli, argc - optind, argv + optind, 0, 1)
			       : c;
}

/* ---- lines: a head of fixed width, then a text ---- */

#define HEAD "%-12s"

static void show_text(const char *head, const struct ipc_record *record, const char *key)
{
	const char *text = ipc_record_get_string(record, key);

	if (text && *text)
		out_print(HEAD "%s\n", head, text);
}

static void show_time(const char *head, const struct ipc_record *record, const char *key)
{
	int64_t ms = ipc_record_get_integer(record, key);
	char text[LIST_TEXT];

	if (ms >= 0)
		out_print(HEAD "%s\n", head, list_format_time(text, ms));
}

/* "HEAD ready 3, leased 1": numbers with what they count; those not there are left out. */
static void show_counts(const char *head, const struct ipc_record *record,
			const char *const (*counts)[2], size_t n)
{
	const char *separator = "";

	out_print(HEAD, head);
	for (size_t i = 0; i < n; i++) {
		int64_t value = ipc_record_get_integer(record, counts[i][0]);

		if (value < 0)
			continue;
		out_print("%s%s %lld", separator, counts[i][1], (long long)value);
		separator = ", ";
	}
	out_print("\n");
}

static void show_size(const char *head, const struct ipc_record *record, const char *key)
{
	int64_t bytes = ipc_record_get_integer(record, key);
	char text[LIST_TEXT];

	if (bytes >= 0)
		out_print(HEAD "%s%s\n", head, list_format_size(text, bytes),
			  bytes < 1024 ? " bytes" : "");
}

/* ---- the daemon ---- */

static void show_process(const struct ipc_record *record)
{
	long long pid = ipc_record_get_integer(record, "pid");
	int64_t uid = ipc_record_get_integer(record, "uid");
	const struct passwd *user = uid >= 0 ? getpwuid((uid_t)uid) : NULL;
	const char *mode = ipc_record_get_string(record, "mode");

	out_print(HEAD "%lld, user %s", "process", pid, user ? user->pw_name : "");
	if (!user)
		out_print("%lld", (long long)uid);
	if (mode)
		out_print(" (a %s daemon)",
			  strcmp(mode, "system") == 0 ? "system" : "user's");
	out_print("\n");
}

/* "HEAD works, on ext4": what keeps durable queues; nothing where there is no store. */
static void show_store(const struct ipc_record *record)
{
	const char *state = ipc_record_get_string(record, "store.state");
	const char *file_system = ipc_record_get_string(record, "store.file_system");

	if (!state)
		return;
	out_print(HEAD "%s, on %s%s\n", "store", state, file_system ? file_system : "?",
		  ipc_record_get_bool(record, "store.durable")
			  ? ""
			  : ", which keeps no promises");
	show_text("", record, "store.warning");
	show_text("error", record, "store.error");
	show_text("damage", record, "store.damage");
	show_text("set aside", record, "store.set_aside");
}

static void show_commits(const struct ipc_record *record)
{
	int64_t n = ipc_record_get_integer(record, "store.commits");
	double last = ipc_record_get_number(record, "store.last_commit_us");
	double longest = ipc_record_get_number(record, "store.longest_commit_us");

	if (n >= 0)
		out_print(HEAD "%lld, the last in %.1f ms, the longest in %.1f ms\n",
			  "commits", (long long)n, last / 1e3, longest / 1e3);
}

static void show_disk(const struct ipc_record *record)
{
	char file[LIST_TEXT], log[LIST_TEXT], left[LIST_TEXT];
	int64_t bytes = ipc_record_get_integer(record, "store.file_bytes");
	int64_t free_bytes = ipc_record_get_integer(record, "store.disk_free_bytes");

	if (bytes < 0)
		return;
	if (free_bytes < 0) {
		out_print(HEAD "unknown: the state directory is not where it was\n",
			  "disk");
		return;
	}
	list_format_size(file, bytes);
	list_format_size(log, ipc_record_get_integer(record, "store.log_bytes"));
	list_format_size(left, free_bytes);
	out_print(HEAD "file %s, log %s, free %s\n", "disk", file, log, left);
}

static void show_daemon(const struct ipc_client *client, const struct ipc_record *record)
{
	static const char *const now[][2] = { { "peers", "peers" },
					      { "names", "names" },
					      { "messages", "messages" } };
	static const char *const total[][2] = { { "sent", "sent" },
						{ "delivered", "delivered" },
						{ "acked", "acknowledged" } };

	out_print(HEAD "%s\n", "daemon", ipc_client_get_server(client));
	out_print(HEAD "%s\n", "socket", ipc_client_get_socket(client));
	show_process(record);
	if (ipc_record_get_string(record, "state"))
		show_text("state", record, "state");
	else
		out_print(HEAD "none: what is here ends with the daemon\n", "state");
	show_store(record);
	show_commits(record);
	show_disk(record);
	show_time("up", record, "uptime_ms");
	show_counts("now", record, now, ARRAY_SIZE(now));
	show_size("size", record, "bytes");
	show_counts("since start", record, total, ARRAY_SIZE(total));
	show_text("log level", record, "log_level");
}

/* ---- one queue ---- */

static void show_owner(const struct ipc_record *record)
{
	char group[LIST_TEXT];

	out_print(HEAD "%s, mode %s, group %s\n", "owner", list_owner(record),
		  list_text(record, "mode"), list_group(group, record));
}

/* Messages a second, by the last minute. */
static void show_rates(const struct ipc_record *record)
{
	double sent = ipc_record_get_number(record, "sent_rate");
	double acked = ipc_record_get_number(record, "acked_rate");

	if (sent >= 0 && acked >= 0)
		out_print(HEAD "sent %.2f/s, acknowledged %.2f/s\n", "last minute", sent,
			  acked);
}

static void show_name(const struct ipc_client *client, const struct ipc_record *record)
{
	static const char *const now[][2] = { { "ready", "ready" },
					      { "delayed", "delayed" },
					      { "leased", "leased" },
					      { "dead", "dead" } };
	static const char *const peers[][2] = {
		{ "receivers", "receivers" }, { "waiting", "senders waiting for room" }
	};
	static const char *const total[][2] = { { "sent", "sent" },
						{ "acked", "acknowledged" } };

	show_text("name", record, "name");
	show_text("kind", record, "kind");
	show_owner(record);
	show_counts("messages", record, now, ARRAY_SIZE(now));
	show_size("size", record, "bytes");
	if (ipc_record_get_integer(record, "file_bytes") > 0)
		show_size("files", record, "file_bytes");
	show_time("oldest", record, "oldest_ms");
	show_counts("peers", record, peers, ARRAY_SIZE(peers));
	show_counts("since start", record, total, ARRAY_SIZE(total));
	show_rates(record);
	out_print(HEAD "%s\n", "socket", ipc_client_get_socket(client));
}

/* ---- the verb ---- */

static int show(const struct cli *cli, struct ipc_client *client, const char *name)
{
	_cleanup_list_ struct ipc_list *list = NULL;
	const struct ipc_record *record;
	int r = ipc_list_open(client, name ? IPC_LIST_NAMES : IPC_LIST_STATS, name,
			      &list);

	if (r < 0)
		return cli_fail_ipc(cli, name, client, r);
	if (cli->json)
		return list_print_json(list);
	while ((record = ipc_list_next(list))) {
		if (name)
			show_name(client, record);
		else
			show_daemon(client, record);
	}
	return STATUS_OK;
}

static int run(struct cli *cli, int argc, char **argv)
{
	_cleanup_client_ struct ipc_client *client = NULL;
	int r = parse(cli, argc, argv);

	if (r < 0)
		return cli_getopt_status(r);
	r = cli_connect(cli, &client);
	return r == STATUS_OK ? show(cli, client, argv[optind]) : r;
}

const struct command cmd_status = {
	.name = "status",
	.arguments = "[NAME] [--format human|json]",
	.summary = "what the daemon, or one queue, is doing",
	.help = "Shows the daemon: its socket, version, user, peers and messages; with a NAME\n"
		"that queue. Starts no daemon.\n"
		"\n"
		"      --format human|json  for people, or as --json\n",
	.run = run,
};
