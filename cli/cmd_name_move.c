/* SPDX-License-Identifier: MIT */

/*
 * ipc name purge and move: many messages of a queue at once. How many is told also when it
 * ended with a failure, for what was done before stays done.
 */

#include <string.h>

#include "out.h"

enum {
	OPTION_STATE = OPTION_OF_VERB,
	OPTION_TO,
	OPTION_FILTER,
};

struct sweep {
	const char *name, *to, *state, *filter;
};

static const struct option purge_options[] = {
	{ "state", required_argument, NULL, OPTION_STATE },
	{ "filter", required_argument, NULL, OPTION_FILTER },
	CLI_OPTIONS,
};
static const struct option move_options[] = {
	{ "state", required_argument, NULL, OPTION_STATE },
	{ "filter", required_argument, NULL, OPTION_FILTER },
	{ "to", required_argument, NULL, OPTION_TO },
	CLI_OPTIONS,
};

/* 0 or GETOPT_ERROR. */
static int check_state(const struct cli *cli, const char *state)
{
	static const char *const states[] = { "ready", "delayed", "dead", "all" };

	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		if (strcmp(state, states[i]) == 0)
			return 0;
	return cli_usage(cli, "the state is ready, delayed, dead or all, not '%s'",
			 state);
}

/* 0, GETOPT_ERROR or GETOPT_HELP. */
static int parse(struct cli *cli, int argc, char **argv, const struct option *options,
		 struct sweep *sweep)
{
	int c;

	while ((c = cli_getopt(cli, argc, argv, ":" CLI_LETTERS, options)) >= 0) {
		if (c == OPTION_TO)
			sweep->to = optarg;
		else if (c == OPTION_FILTER)
			sweep->filter = optarg;
		else if (check_state(cli, optarg) < 0)
			return GETOPT_ERROR;
		else
			sweep->state = optarg;
	}
	if (c == GETOPT_END)
		c = cli_check_count(cli, argc - optind, argv + optind, 1, 1);
	sweep->name = argv[optind];
	return c;
}

static void tell(const struct cli *cli, const char *done, uint64_t n)
{
	out_print(cli->json ? "{\"%s\":%llu}\n" : "%s %llu\n", done,
		  (unsigned long long)n);
}

/* The name that the last error is about: room is what the other queue has none of. */
static const char *failed_name(const struct sweep *sweep, const struct ipc_client *client)
{
	static const char *const words[] = { "full", "quota", "too-large" };
	const char *word = ipc_client_get_error_word(client);

	for (size_t i = 0; sweep->to && i < ARRAY_SIZE(words); i++)
		if (strcmp(word, words[i]) == 0)
			return sweep->to;
	return sweep->name;
}

static int end(const struct cli *cli, const struct sweep *sweep, const char *done,
	       const struct ipc_client *client, int r, uint64_t n)
{
	if (r == 0 || n > 0)
		tell(cli, done, n);
	return r < 0 ? cli_fail_ipc(cli, failed_name(sweep, client), client, r)
		     : STATUS_OK;
}

static int run_purge(struct cli *cli, int argc, char **argv)
{
	_cleanup_client_ struct ipc_client *client = NULL;
	struct sweep sweep = { 0 };
	uint64_t n = 0;
	int r = parse(cli, argc, argv, purge_options, &sweep);

	if (r < 0)
		return cli_getopt_status(r);
	r = cli_connect(cli, &client);
	if (r != STATUS_OK)
		return r;
	r = ipc_name_purge(client, sweep.name, sweep.state, sweep.filter, &n);
	return end(cli, &sweep, "purged", client, r, n);
}

static int run_move(struct cli *cli, int argc, char **argv)
{
	_cleanup_client_ struct ipc_client *client = NULL;
	struct sweep sweep = { 0 };
	uint64_t n = 0;
	int r = parse(cli, argc, argv, move_options, &sweep);

	if (r < 0)
		return cli_getopt_status(r);
	r = cli_connect(cli, &client);
	if (r != STATUS_OK)
		return r;
	r = ipc_name_move(client, sweep.name, sweep.to, sweep.state, sweep.filter, &n);
	return end(cli, &sweep, "moved", client, r, n);
}

const struct command cmd_name_purge = {
	.name = "name purge",
	.arguments = "NAME [--state STATE] [--filter EXPR]",
	.summary = "throw messages away",
	.help = "Throws away the messages of a queue of one's own and prints how many it were.\n"
		"What is leased (received, not acknowledged) stays.\n"
		"\n"
		"      --state STATE  only those: ready, delayed, dead or all of these;\n"
		"                     else the ready and the delayed\n"
		"      --filter EXPR  and of those only some, as 'age>1h sender=ann attempt>=3\n"
		"                     priority<4 meta.kind=thumb': all of it must hold\n",
	.autostart = true,
	.run = run_purge,
};

const struct command cmd_name_move = {
	.name = "name move",
	.arguments = "NAME [--state STATE] [--filter EXPR] [--to NAME]",
	.summary = "put messages elsewhere, or dead ones back",
	.help = "Makes the dead messages of a queue of one's own ready again, or puts messages\n"
		"into another queue, and prints how many it were.\n"
		"\n"
		"      --state STATE  only those: ready, delayed, dead or all of these; else dead\n"
		"      --filter EXPR  and of those only some, as 'age>1h sender=ann attempt>=3\n"
		"                     priority<4 meta.kind=thumb': all of it must hold\n"
		"      --to NAME      the queue they go to; else they stay in theirs\n",
	.autostart = true,
	.run = run_move,
};
