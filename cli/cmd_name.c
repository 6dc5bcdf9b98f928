/* SPDX-License-Identifier: MIT */

/* ipc name ls: which names there are. */

#include "list.h"

static const struct option options[] = {
	{ "long", no_argument, NULL, 'l' },
	CLI_OPTIONS,
};

struct names {
	const struct cli *cli;
	struct ipc_client *client;
	bool is_long;
	struct table table; /* for people */
};

/* As ls(1): what it is (q: a queue), then read and write for owner, group and others. */
static void add_mode(struct table *table, const struct ipc_record *record)
{
	unsigned long mode = strtoul(list_text(record, "mode"), NULL, 8);
	char text[] = "----------";

	text[0] = *list_text(record, "kind");
	for (int i = 0; i < 3; i++) {
		if (mode >> (6 - 3 * i) & 4)
			text[1 + 3 * i] = 'r';
		if (mode >> (6 - 3 * i) & 2)
			text[2 + 3 * i] = 'w';
	}
	table_add(table, "%s", text);
}

static void add_row(struct table *table, const struct ipc_record *record)
{
	static const char *const counts[] = { "ready", "delayed", "leased", "dead" };
	char group[LIST_TEXT];

	add_mode(table, record);
	table_add(table, "%s", list_owner(record));
	table_add(table, "%s", list_group(group, record));
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		list_add_number(table, record, counts[i]);
	list_add_size(table, record, "bytes");
	list_add_size(table, record, "file_bytes");
	list_add_age(table, record, "oldest_ms");
	list_add_number(table, record, "receivers");
	table_add(table, "%s",
		  ipc_record_get_bool(record, "durable") ? "disk" : "memory");
	table_add(table, "%s", list_text(record, "name"));
}

static void show(struct names *names, struct ipc_list *list)
{
	const struct ipc_record *record;

	while ((record = ipc_list_next(list))) {
		if (names->cli->json)
			out_json(ipc_record_get_json(record));
		else if (names->is_long)
			add_row(&names->table, record);
		else
			table_add(&names->table, "%s", list_text(record, "name"));
	}
}

/* name: one of them, or NULL: all. */
static int list(struct names *names, const char *name)
{
	_cleanup_list_ struct ipc_list *list = NULL;
	int r = ipc_list_open(names->client, IPC_LIST_NAMES, name, &list);

	if (r < 0)
		return cli_fail_ipc(names->cli, name, names->client, r);
	show(names, list);
	return STATUS_OK;
}

/* All that are named; the first failure is the status, as with ls(1). */
static int list_all(struct names *names, char **wanted)
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

/* Sorted, as ls(1) does. */
static int list_table(struct names *names, char **wanted)
{
	static const char *const heads[] = { "MODE",	"OWNER",  "GROUP",     "READY",
					     "DELAYED", "LEASED", "DEAD",      "BYTES",
					     "FILES",	"OLDEST", "RECEIVERS", "KEPT",
					     "NAME" };
	struct table *table = &names->table;
	int status;

	table_init(table, names->is_long ? "<<<>>>>>>>><<" : "<");
	for (size_t i = 0; names->is_long && i < ARRAY_SIZE(heads); i++)
		table_add(table, "%s", heads[i]);
	status = list_all(names, wanted);
	table_sort(table, names->is_long);
	if (table_print(table) < 0)
		return cli_fail(names->cli, NULL, "no memory");
	return status;
}

static int run(struct cli *cli, int argc, char **argv)
{
	_cleanup_client_ struct ipc_client *client = NULL;
	struct names names = { .cli = cli };
	int c, status;

	while ((c = cli_getopt(cli, argc, argv, ":l" CLI_LETTERS, options)) >= 0)
		names.is_long = true;
	if (c != GETOPT_END)
		return cli_getopt_status(c);
	status = cli_connect(cli, &client);
	if (status != STATUS_OK)
		return status;
	names.client = client;
	return cli->json ? list_all(&names, argv + optind)
			 : list_table(&names, argv + optind);
}

const struct command cmd_name_ls = {
	.name = "name ls",
	.arguments = "[-l] [NAME...]",
	.summary = "which names there are",
	.help = "Lists the names one may read from or write to; or only those given.\n"
		"\n"
		"  -l, --long  with mode, owner, group, how many messages are ready, delayed,\n"
		"              leased (received, not acknowledged) and dead, their size, the age\n"
		"              of the oldest that is not dead, how many receivers there are, and\n"
		"              whether it is kept on the disk (durable) or in memory\n",
	.autostart = true,
	.run = run,
};
