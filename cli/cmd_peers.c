/* SPDX-License-Identifier: MIT */

/* ipc peers: who is connected. */

#include "list.h"
#include "out.h"
#include "text.h"

/* What a process says of itself must not look like more than it is, whoever reads it. */
static void add_said(struct table *table, const struct ipc_record *record,
		     const char *key)
{
	_cleanup_free_ char *text = text_escape_name(list_text(record, key));

	table_add(table, "%s", text ? text : "-");
}

static void add_row(struct table *table, const struct ipc_record *record)
{
	list_add_number(table, record, "peer");
	table_add(table, "%s", list_text(record, "user"));
	list_add_number(table, record, "pid");
	list_add_time(table, record, "age_ms");
	list_add_number(table, record, "requests");
	list_add_number(table, record, "leases");
	list_add_size(table, record, "output_bytes");
	add_said(table, record, "command");
	add_said(table, record, "label");
}

static int run(struct cli *cli, int argc, char **argv)
{
	static const char *const heads[] = { "PEER",   "USER",	   "PID",
					     "SINCE",  "REQUESTS", "LEASES",
					     "OUTPUT", "COMMAND",  "LABEL" };
	_cleanup_client_ struct ipc_client *client = NULL;
	_cleanup_list_ struct ipc_list *list = NULL;
	const struct ipc_record *record;
	struct table table;
	int r = cli_parse_plain(cli, argc, argv, 0, 0);

	if (r < 0)
		return cli_getopt_status(r);
	r = cli_connect(cli, &client);
	if (r != STATUS_OK)
		return r;
	r = ipc_list_open(client, IPC_LIST_PEERS, NULL, &list);
	if (r < 0)
		return cli_fail_ipc(cli, NULL, client, r);
	if (cli->json)
		return list_print_json(list);

	table_init(&table, "><>>>>><<");
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
		table_add(&table, "%s", heads[i]);
	while ((record = ipc_list_next(list)))
		add_row(&table, record);
	return table_print(&table) < 0 ? cli_fail(cli, NULL, "no memory") : STATUS_OK;
}

const struct command cmd_peers = {
	.name = "peers",
	.arguments = "",
	.summary = "who is connected",
	.help = "Lists one's own connections, all of them for root and the user of the daemon:\n"
		"number, user, process, how long connected, requests under way, leased messages,\n"
		"bytes not read yet.\n",
	.run = run,
};
