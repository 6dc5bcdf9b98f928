/* SPDX-License-Identifier: MIT */

/*
 * ipc ack, nack, reject and touch: what becomes of a message that `ipc receive --no-ack`
 * has left leased. One request each, which differs in a word.
 */

#include "cli.h"
#include "parse.h"

#define MESSAGE_MAX ((UINT64_C(1) << 53) - 1) /* ipc-protocol(7): number_max */

struct settle {
	enum ipc_verdict verdict;
	uint64_t number;
	const char *lease;
	int64_t delay_ms;
	bool uncounted;
	const char *reason;
};

enum {
	OPTION_DELAY = OPTION_OF_VERB,
	OPTION_REASON,
	OPTION_NO_COUNT,
};

static const struct option no_options[] = { CLI_OPTIONS };
static const struct option reject_options[] = {
	{ "reason", required_argument, NULL, OPTION_REASON },
	CLI_OPTIONS,
};
static const struct option nack_options[] = {
	{ "delay", required_argument, NULL, OPTION_DELAY },
	{ "no-count", no_argument, NULL, OPTION_NO_COUNT },
	{ "reason", required_argument, NULL, OPTION_REASON },
	CLI_OPTIONS,
};

/* 0, GETOPT_ERROR or GETOPT_HELP. */
static int parse(struct cli *cli, int argc, char **argv, const struct option *options,
		 struct settle *settle)
{
	int c;

	while ((c = cli_getopt(cli, argc, argv, ":" CLI_LETTERS, options)) >= 0) {
		if (c == OPTION_REASON)
			settle->reason = optarg;
		else if (c == OPTION_NO_COUNT)
			settle->uncounted = true;
		else if (cli_parse_time(cli, "--delay", optarg, &settle->delay_ms) < 0)
			return GETOPT_ERROR;
	}
	if (c != GETOPT_END)
		return c;
	if (argc - optind < 2)
		return cli_usage(cli, "the message's number and its lease are needed");
	if (!parse_number(argv[optind], MESSAGE_MAX, &settle->number) ||
	    settle->number == 0)
		return cli_usage(cli, "'%s' is no number of a message", argv[optind]);
	settle->lease = argv[optind + 1];
	return cli_check_count(cli, argc - optind, argv + optind, 2, 2);
}

static int run(struct cli *cli, int argc, char **argv, const struct option *options,
	       enum ipc_verdict verdict)
{
	_cleanup_client_ struct ipc_client *client = NULL;
	struct settle settle = { .verdict = verdict, .delay_ms = -1 };
	int r = parse(cli, argc, argv, options, &settle);

	if (r < 0)
		return cli_getopt_status(r);
	r = cli_connect(cli, &client);
	if (r != STATUS_OK)
		return r;
	r = ipc_settle(client, settle.verdict, settle.number, settle.lease,
		       settle.delay_ms, settle.uncounted, settle.reason);
	if (r < 0)
		return cli_fail_ipc(cli, argv[optind], client, r);
	return STATUS_OK;
}

static int run_ack(struct cli *cli, int argc, char **argv)
{
	return run(cli, argc, argv, no_options, IPC_VERDICT_ACK);
}

static int run_nack(struct cli *cli, int argc, char **argv)
{
	return run(cli, argc, argv, nack_options, IPC_VERDICT_NACK);
}

static int run_reject(struct cli *cli, int argc, char **argv)
{
	return run(cli, argc, argv, reject_options, IPC_VERDICT_REJECT);
}

static int run_touch(struct cli *cli, int argc, char **argv)
{
	return run(cli, argc, argv, no_options, IPC_VERDICT_TOUCH);
}

#define WHICH                                                                                \
	"MESSAGE and LEASE are what 'ipc receive --no-ack' has told. They count until the\n" \
	"message is handed out anew; 5 s after the receiver's end it may be.\n"

const struct command cmd_ack = {
	.name = "ack",
	.arguments = "MESSAGE LEASE",
	.summary = "a received message is done",
	.help = "The message is done: it leaves its queue.\n\n" WHICH,
	.autostart = true,
	.run = run_ack,
};

const struct command cmd_nack = {
	.name = "nack",
	.arguments = "MESSAGE LEASE [OPTION...]",
	.summary = "hand a received message out again",
	.help = "The message could not be handled: it is handed out again.\n"
		"\n"
		"      --delay T      in T, not after the queue's own time (1 s, 5 s, 30 s …)\n"
		"      --no-count     this attempt does not count\n"
		"      --reason TEXT  why, for people who look at the queue\n"
		"\n" WHICH,
	.autostart = true,
	.run = run_nack,
};

const struct command cmd_reject = {
	.name = "reject",
	.arguments = "MESSAGE LEASE [--reason TEXT]",
	.summary = "a received message is of no use to anybody",
	.help = "Nobody can handle the message: it is dead, and kept aside in its queue.\n"
		"\n"
		"      --reason TEXT  why, for people who look at the queue\n"
		"\n" WHICH,
	.autostart = true,
	.run = run_reject,
};

const struct command cmd_touch = {
	.name = "touch",
	.arguments = "MESSAGE LEASE",
	.summary = "a received message needs more time",
	.help = "Still at it: the time of 'ipc receive --ack-wait' starts anew. That works while\n"
		"the receiver is connected, as in a command of 'ipc receive --exec', which has\n"
		"$IPC_MESSAGE and $IPC_LEASE.\n",
	.autostart = true,
	.run = run_touch,
};
