/* SPDX-License-Identifier: MIT */

/* ipc disconnect: cut a connection. */

#include "cli.h"
#include "parse.h"

static int run(struct cli *cli, int argc, char **argv)
{
	_cleanup_client_ struct ipc_client *client = NULL;
	uint64_t peer;
	int r = cli_parse_plain(cli, argc, argv, 1, 1);

	if (r < 0)
		return cli_getopt_status(r);
	if (!parse_number(argv[optind], UINT64_MAX, &peer) || peer == 0)
		return cli_fail(cli, argv[optind],
				"not the number of a peer; see 'ipc peers'");
	r = cli_connect(cli, &client);
	if (r != STATUS_OK)
		return r;
	r = ipc_disconnect(client, peer);
	return r < 0 ? cli_fail_ipc(cli, argv[optind], client, r) : STATUS_OK;
}

const struct command cmd_disconnect = {
	.name = "disconnect",
	.arguments = "PEER",
	.summary = "cut a connection",
	.help = "Cuts the connection with this number, as 'ipc peers' shows it. Messages that\n"
		"it has received and not acknowledged are handed out again.\n",
	.run = run,
};
