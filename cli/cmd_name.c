/* SPDX-License-Identifier: MIT */

/* ipc name ls: which names there are. */

#include <grp.h>
#include <sys/types.h>

#include "list.h"

static const struct option options[] = {
	{ "long", no_argument, NULL, 'l' },
	CLI_OPTIONS,
};

struct names {
	const struct cli *cli;
	struct ipc_client *client;
	struct table *table; /* with -l */
};

static void add_group(struct table *table, const struct ipc_record *record)
{
	int64_t gid = ipc_record_get_integer(record, "group");
	const struct group *group = gid >= 0 ? getgrgid((gid_t)gid) : NULL;

	if (group)
		table_add(table, "%s", group->gr_name);
	else
		list_add_number(table, record, "group");
}

static void add_row(struct table *table, const struct ipc_record *record)
{
	static const char *const counts[] = { "ready", "delayed", "leased", "dead" };

	table_add(table, "%s", list_text(record, "kind"));
	table_add(table, "%s", list_text(record, "mode"));
	table_add(table, "%s", list_text(record, "owner"));
	add_group(table, record);
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		list_add_number(table, record, counts[i]);
	list_add_size(table, record, "bytes");
	list_add_number(table, record, "receivers");
	table_add(table, "%s", list_text(record, "name"));
}

static void show(const struct names *names, struct ipc_list *list)
{
	const struct ipc_record *record;

	while ((record = ipc_list_next(list))) {
		if (names->cli->json)
			out_json(ipc_record_get_json(record));
		else if (names->table)
			add_row(names->table, record);
		else
			out_print("%s\n", list_text(record, "name"));
	}
}

/* name: one of them, or NULL: all. */
static int list(const struct names *names, const char *name)
{
	_cleanup_list_ struct ipc_list *list = NULL;
	int r = ipc_list_open(names->client, IPC_LIST_NAMES, name, &list);

	if (r < 0)
		return cli_fail_ipc(names->cli, name, names->client, r);
	show(names, list);
	return STATUS_OK;
}

/* All that are named; the first failure is the status, as with ls(1). */
static int list_all(const struct names *names, char **wanted)
{
	int status = STATUS_OK;

	if (!*wanted)
		return list(names, NULL);
	for (; *wanted; wanted++) {
		int s = list(names, *wanted);

		status = status ? status : s;
	}
	return status;
}

static int list_long(struct names *names, char **wanted)
{
	static const char *const heads[] = { "KIND",  "MODE",	   "OWNER",  "GROUP",
					     "READY", "DELAYED",   "LEASED", "DEAD",
					     "BYTES", "RECEIVERS", "NAME" };
	struct table table;
	int status;

	table_init(&table, "<<<<>>>>>><");
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
		table_add(&table, "%s", heads[i]);
	names->table = &table;
	status = list_all(names, wanted);
	if (table_print(&table) < 0)
		return cli_fail(names->cli, NULL, "no memory");
	return status;
}

static int run(struct cli *cli, int argc, char **argv)
{
	_cleanup_client_ struct ipc_client *client = NULL;
	struct names names = { .cli = cli };
	bool is_long = false;
	int c, status;

	while ((c = cli_getopt(cli, argc, argv, ":l" CLI_LETTERS, options)) >= 0)
		is_long = true;
	if (c != GETOPT_END)
		return cli_getopt_status(c);
	status = cli_connect(cli, &client);
	if (status != STATUS_OK)
		return status;
	names.client = client;
	return is_long && !cli->json ? list_long(&names, argv + optind)
				     : list_all(&names, argv + optind);
}

const struct command cmd_name_ls = {
	.name = "name ls",
	.arguments = "[-l] [NAME...]",
	.summary = "which names there are",
	.help = "Lists the names one may read from or write to; or only those given.\n"
		"\n"
		"  -l, --long  with kind, mode, owner, group, and how many messages are ready,\n"
		"              delayed, leased (received, not acknowledged) and dead\n",
	.autostart = true,
	.run = run,
};
