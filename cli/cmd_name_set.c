/* SPDX-License-Identifier: MIT */

/* ipc name create and set: what a queue is to be like. The settings are the library's. */

#include "cli.h"

typedef int (*set_fn)(struct ipc_client *client, const char *name,
		      const char *const *settings, size_t n_settings);

static int run(struct cli *cli, int argc, char **argv, int min, set_fn set)
{
	_cleanup_client_ struct ipc_client *client = NULL;
	const char *const *settings;
	int r = cli_parse_plain(cli, argc, argv, min, -1);

	if (r < 0)
		return cli_getopt_status(r);
	r = cli_connect(cli, &client);
	if (r != STATUS_OK)
		return r;
	settings = (const char *const *)argv + optind + 1;
	r = set(client, argv[optind], settings, (size_t)(argc - optind - 1));
	return r < 0 ? cli_fail_ipc(cli, argv[optind], client, r) : STATUS_OK;
}

static int run_create(struct cli *cli, int argc, char **argv)
{
	return run(cli, argc, argv, 1, ipc_name_create);
}

static int run_set(struct cli *cli, int argc, char **argv)
{
	return run(cli, argc, argv, 2, ipc_name_set);
}

#define SETTINGS                                                                       \
	"  owner=USER group=GROUP   by name or number\n"                               \
	"  mode=0660                who may: read 4, write 2; owner, group, others\n"  \
	"  queue_messages=N         how many messages it holds at most\n"              \
	"  queue_bytes=N            how many bytes of memory\n"                        \
	"  queue_file_bytes=N       how many bytes of files, on the disk\n"            \
	"  max_attempts=N           after so many deliveries a message is dead\n"      \
	"  backoff=MS,MS...         milliseconds before it comes again after a nack\n" \
	"  lost_delay=MS            the same after a receiver was lost\n"              \
	"  durable=true|false       keep on the disk what is sent from now on\n"

const struct command cmd_name_create = {
	.name = "name create",
	.arguments = "NAME [KEY=VALUE...]",
	.summary = "make a queue",
	.help = "Makes the queue NAME. What is not set is as the daemon's rules say.\n"
		"\n" SETTINGS,
	.autostart = true,
	.run = run_create,
};

const struct command cmd_name_set = {
	.name = "name set",
	.arguments = "NAME KEY=VALUE...",
	.summary = "change the settings of a name",
	.help = "Changes a name of one's own. What is not set stays as it is.\n"
		"\n" SETTINGS,
	.autostart = true,
	.run = run_set,
};
