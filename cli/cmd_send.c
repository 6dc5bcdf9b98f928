/* SPDX-License-Identifier: MIT */

/*
 * ipc send: one message from -m or standard input. What --lines does is in send_lines.c.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "input.h"
#include "out.h"
#include "parse.h"
#include "send.h"

enum {
	OPTION_LINES = OPTION_OF_VERB,
	OPTION_DELAY,
	OPTION_TTL,
	OPTION_WAIT,
	OPTION_WAIT_ACK,
	OPTION_META,
	OPTION_DEDUP,
};

#define LETTERS ":m:p:v" CLI_LETTERS

static const struct option options[] = {
	{ "message", required_argument, NULL, 'm' },
	{ "priority", required_argument, NULL, 'p' },
	{ "verbose", no_argument, NULL, 'v' },
	{ "lines", no_argument, NULL, OPTION_LINES },
	{ "delay", required_argument, NULL, OPTION_DELAY },
	{ "ttl", required_argument, NULL, OPTION_TTL },
	{ "wait", required_argument, NULL, OPTION_WAIT },
	{ "wait-ack", no_argument, NULL, OPTION_WAIT_ACK },
	{ "meta", required_argument, NULL, OPTION_META },
	{ "dedup", required_argument, NULL, OPTION_DEDUP },
	CLI_OPTIONS,
};

/* ---- the command line ---- */

static int take_meta(struct send *send)
{
	switch (ipc_message_set_meta(send->message, optarg)) {
	case 0:
		return 0;
	case -EMSGSIZE:
		return cli_usage(send->cli, "--meta is too large: at most 32768 bytes");
	case -ENOMEM:
		return cli_usage(send->cli, "no memory for --meta");
	default:
		return cli_usage(send->cli, "--meta needs a JSON object, as '{\"a\":1}'");
	}
}

static int take_option(struct send *send, int c)
{
	uint64_t priority;
	int64_t ms;

	switch (c) {
	case 'm':
		send->text = optarg;
		return 0;
	case 'v':
		send->verbose = true;
		return 0;
	case 'p':
		if (!parse_number(optarg, 9, &priority) ||
		    ipc_message_set_priority(send->message, (unsigned int)priority) < 0)
			return cli_usage(
				send->cli,
				"the priority is 0 (first) to 9 (last), not '%s'",
				optarg);
		return 0;
	case OPTION_LINES:
		send->lines = true;
		return 0;
	case OPTION_DELAY:
		if (cli_parse_time(send->cli, "--delay", optarg, &ms) < 0)
			return GETOPT_ERROR;
		if (ipc_message_set_delay(send->message, ms) < 0)
			return cli_usage(send->cli, "--delay cannot be '%s'", optarg);
		return 0;
	case OPTION_TTL:
		if (cli_parse_time(send->cli, "--ttl", optarg, &ms) < 0)
			return GETOPT_ERROR;
		if (ipc_message_set_ttl(send->message, ms) < 0)
			return cli_usage(send->cli, "--ttl cannot be '%s'", optarg);
		return 0;
	case OPTION_WAIT:
		return cli_parse_time(send->cli, "--wait", optarg, &send->wait_ms);
	case OPTION_WAIT_ACK:
		send->flags |= IPC_SEND_WAIT_ACKED;
		return 0;
	case OPTION_DEDUP:
		send->dedup = optarg;
		return 0;
	default: /* OPTION_META */
		return take_meta(send);
	}
}

int send_set_dedup(const struct send *send, uint64_t line)
{
	_cleanup_free_ char *id = NULL;

	if (!send->dedup)
		return 0;
	if (!send->lines)
		return ipc_message_set_dedup_id(send->message, send->dedup);
	if (asprintf(&id, "%s-%llu", send->dedup, (unsigned long long)line) < 0) {
		id = NULL;
		return -ENOMEM;
	}
	return ipc_message_set_dedup_id(send->message, id);
}

/* With --lines: also for the last line there could be. 0 or GETOPT_ERROR. */
static int check_dedup(const struct send *send)
{
	switch (send->dedup && !*send->dedup ? -EINVAL
					     : send_set_dedup(send, UINT64_MAX)) {
	case 0:
		return 0;
	case -EMSGSIZE:
		return cli_usage(send->cli,
				 "--dedup is too long: at most 255 bytes, 234 with "
				 "--lines");
	case -ENOMEM:
		return cli_usage(send->cli, "no memory for --dedup");
	default:
		return cli_usage(send->cli, "--dedup needs a text, in UTF-8");
	}
}

/* 0, GETOPT_ERROR or GETOPT_HELP. */
static int parse(struct send *send, int argc, char **argv)
{
	int c;

	while ((c = cli_getopt(send->cli, argc, argv, LETTERS, options)) >= 0)
		if (take_option(send, c) < 0)
			return GETOPT_ERROR;
	if (c != GETOPT_END)
		return c;

	argc -= optind;
	argv += optind;
	if (argc == 0)
		return cli_usage(send->cli, "a NAME to send to is missing");
	if (send->lines && send->text)
		return cli_usage(send->cli, "-m and --lines do not go together");
	if (argc > 1 && (strcmp(argv[1], "-") != 0 || send->text))
		return cli_usage(send->cli,
				 "'%s' is one argument too many; text goes with -m, "
				 "other input on standard input",
				 argv[1]);
	send->name = argv[0];
	return check_dedup(send) < 0 ? GETOPT_ERROR
				     : cli_check_count(send->cli, argc, argv, 1, 2);
}

/* ---- sending ---- */

static void tell_json(const struct send *send, uint64_t line, uint64_t number,
		      unsigned int sent)
{
	out_print("{");
	if (send->lines)
		out_print("\"line\":%llu,", (unsigned long long)line);
	out_print("\"message\":%llu%s%s}\n", (unsigned long long)number,
		  sent & IPC_SENT_DUPLICATE ? ",\"duplicate\":true" : "",
		  sent & IPC_SENT_NOT_DURABLE ? ",\"durable\":false" : "");
}

void send_tell(const struct send *send, uint64_t line, uint64_t number, unsigned int sent)
{
	if (send->cli->json)
		tell_json(send, line, number, sent);
	else if (send->verbose)
		out_print("%llu%s\n", (unsigned long long)number,
			  sent & IPC_SENT_DUPLICATE ? " duplicate" : "");
}

bool send_in_vain(const struct send *send, int error)
{
	return error == -EAGAIN && send->wait_ms > 0;
}

static int send_one(const struct send *send, const void *data, size_t size)
{
	_cleanup_client_ struct ipc_client *client = NULL;
	uint64_t number;
	int r = cli_connect(send->cli, &client);

	if (r != STATUS_OK)
		return r;
	ipc_message_set_body(send->message, data, size);
	r = ipc_send_message(client, send->name, send->message, send->wait_ms,
			     send->flags | IPC_SEND_TELL, &number);
	if (send_in_vain(send, r)) {
		cli_say(send->cli, send->name, SEND_IN_VAIN);
		return STATUS_TIMEOUT;
	}
	if (r < 0)
		return cli_fail_ipc(send->cli, send->name, client, r);
	send_tell(send, 0, number, (unsigned int)r);
	return STATUS_OK;
}

static int send_input(const struct send *send)
{
	__attribute__((cleanup(input_deinit))) struct input input = { 0 };
	int r = input_read_all(&input);

	if (r == -EMSGSIZE)
		return cli_fail(send->cli, send->name,
				"standard input is larger than any message (1 GiB)");
	if (r < 0)
		return cli_fail(send->cli, send->name, "cannot read standard input: %s",
				strerror(-r));
	return send_one(send, input.data, input.end);
}

static int run(struct cli *cli, int argc, char **argv)
{
	_cleanup_message_ struct ipc_message *message = NULL;
	struct send send = { .cli = cli };
	int r;

	if (ipc_message_new(&message) < 0)
		return cli_fail(cli, NULL, "no memory");
	send.message = message;
	r = parse(&send, argc, argv);
	if (r < 0)
		return cli_getopt_status(r);

	if (send.text)
		return send_one(&send, send.text, strlen(send.text));
	if (isatty(STDIN_FILENO) && !cli->quiet)
		cli_say(cli, send.name, "reading %s from the terminal, up to Ctrl-D",
			send.lines ? "messages, one a line," : "the message");
	return send.lines ? send_lines(&send) : send_input(&send);
}

const struct command cmd_send = {
	.name = "send",
	.arguments = "NAME [-m TEXT | -] [OPTION...]",
	.summary = "hand a message to a queue",
	.help = "Hands a message to the queue NAME: TEXT, or what comes on standard input.\n"
		"@USER is the inbox of a user. Prints nothing if it went well.\n"
		"\n"
		"  -m, --message TEXT  the message itself\n"
		"      --lines         each line of standard input is a message\n"
		"  -p, --priority N    0 (first) to 9 (last); 4 if not given\n"
		"      --delay T       hand it out no sooner than in T\n"
		"      --ttl T         let it vanish if nobody has taken it in T\n"
		"      --wait T        if the queue is full wait up to T for room\n"
		"      --wait-ack      wait until a receiver has acknowledged it\n"
		"      --meta JSON     a JSON object to pass on with it\n"
		"      --dedup ID      do nothing if a message with this ID was sent before;\n"
		"                      with --lines the IDs are ID-1, ID-2 and so on, by line\n"
		"  -v, --verbose       print the message's number\n"
		"\n"
		"T is a time: 500ms, 2s, 5m, 2h, 1d, or seconds.\n",
	.autostart = true,
	.run = run,
};
