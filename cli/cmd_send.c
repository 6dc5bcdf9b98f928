/* SPDX-License-Identifier: MIT */

/*
 * ipc send: the options, and one message from -m. What --lines does is in send_lines.c, FILEs
 * and standard input are in send_files.c.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

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
	OPTION_LIVE,
	OPTION_DIGEST,
	OPTION_AS,
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
	{ "live", no_argument, NULL, OPTION_LIVE },
	{ "digest", required_argument, NULL, OPTION_DIGEST },
	{ "as", required_argument, NULL, OPTION_AS },
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
		return cli_usage(send->cli,
				 "--meta needs a JSON object of at most 31 levels, as "
				 "'{\"a\":1}', in UTF-8, without NUL (\\u0000) and with "
				 "no key twice");
	}
}

static int take_digest(struct send *send)
{
	static const struct {
		const char *name;
		unsigned int flag;
	} digests[] = { { "xxh3", IPC_FILE_XXH3 },
			{ "sha256", IPC_FILE_SHA256 },
			{ "md5", IPC_FILE_MD5 } };

	for (size_t i = 0; i < ARRAY_SIZE(digests); i++) {
		if (strcmp(optarg, digests[i].name) == 0) {
			send->file_flags |= digests[i].flag;
			return 0;
		}
	}
	return cli_usage(send->cli, "--digest is xxh3, sha256 or md5, not '%s'", optarg);
}

static int take_option(struct send *send, int c)
{
	uint64_t priority;
	int64_t ms;

	switch (c) {
	case 'm':
		if (send->text)
			return cli_usage(send->cli, "there is more than one -m");
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
	case OPTION_LIVE:
		send->file_flags |= IPC_FILE_LIVE;
		return 0;
	case OPTION_DIGEST:
		return take_digest(send);
	case OPTION_AS:
		send->filename = optarg;
		return 0;
	default: /* OPTION_META */
		return take_meta(send);
	}
}

int send_set_dedup(const struct send *send, uint64_t index)
{
	_cleanup_free_ char *id = NULL;

	if (!send->dedup)
		return 0;
	if (!send->lines && send->n_files < 2)
		return ipc_message_set_dedup_id(send->message, send->dedup);
	if (asprintf(&id, "%s-%llu", send->dedup, (unsigned long long)index) < 0) {
		id = NULL;
		return -ENOMEM;
	}
	return ipc_message_set_dedup_id(send->message, id);
}

/* With --lines, or several files: also for the last one there could be. 0 or
 * GETOPT_ERROR. */
static int check_dedup(const struct send *send)
{
	switch (send->dedup && !*send->dedup ? -EINVAL
					     : send_set_dedup(send, UINT64_MAX)) {
	case 0:
		return 0;
	case -EMSGSIZE:
		return cli_usage(send->cli,
				 "--dedup is too long: at most 255 bytes, 234 with "
				 "--lines or several files");
	case -ENOMEM:
		return cli_usage(send->cli, "no memory for --dedup");
	default:
		return cli_usage(send->cli, "--dedup needs a text, in UTF-8");
	}
}

/* What of the options and arguments goes together. 0 or GETOPT_ERROR. */
static int check(const struct send *send)
{
	const unsigned int live = send->file_flags & IPC_FILE_LIVE;
	const char *file = send->n_files ? send->files[0] : NULL;
	const struct {
		bool a, b;
		const char *a_name, *b_name;
	} clashes[] = {
		{ send->text, send->lines, "-m", "--lines" },
		{ send->text, live, "-m", "--live" },
		{ send->text, send->file_flags, "-m", "--digest" },
		{ send->text, send->filename, "-m", "--as" },
		{ send->lines, live, "--lines", "--live" },
		{ send->lines, send->file_flags, "--lines", "--digest" },
		{ send->lines, send->filename, "--lines", "--as" },
		{ live, send->file_flags != live, "--live", "--digest" },
		{ send->filename, send->n_files > 1, "--as", "several files" },
	};

	if (file && send->text)
		return cli_usage(send->cli, "'%s' is one argument too many: there is -m",
				 file);
	if (send->lines && (send->n_files > 1 || (file && strcmp(file, "-") != 0)))
		return cli_usage(send->cli,
				 "--lines reads standard input: '%s' is one argument "
				 "too many",
				 send->files[send->n_files - 1]);
	for (size_t i = 0; i < ARRAY_SIZE(clashes); i++)
		if (clashes[i].a && clashes[i].b)
			return cli_usage(send->cli, "%s does not go together with %s",
					 clashes[i].a_name, clashes[i].b_name);
	return check_dedup(send);
}

/* 0, GETOPT_ERROR or GETOPT_HELP. */
static int parse(struct send *send, int argc, char **argv)
{
	static char dash[] = "-", *standard_input[] = { dash, NULL };
	int c;

	while ((c = cli_getopt(send->cli, argc, argv, LETTERS, options)) >= 0)
		if (take_option(send, c) < 0)
			return GETOPT_ERROR;
	if (c != GETOPT_END)
		return c;
	if (optind == argc)
		return cli_usage(send->cli, "a NAME to send to is missing");
	send->name = argv[optind];
	send->files = argv + optind + 1;
	send->n_files = (size_t)(argc - optind - 1);
	if (send->n_files == 0 && !send->text) {
		send->files = standard_input;
		send->n_files = 1;
	}
	return check(send);
}

/* ---- sending ---- */

static void tell_json(const struct send *send, uint64_t line, const char *filename,
		      uint64_t number, unsigned int sent)
{
	out_print("{");
	if (send->lines)
		out_print("\"line\":%llu,", (unsigned long long)line);
	out_print("\"message\":%llu", (unsigned long long)number);
	if (filename) {
		out_print(",\"filename\":");
		out_json_string(filename);
	}
	out_print("%s%s}\n", sent & IPC_SENT_DUPLICATE ? ",\"duplicate\":true" : "",
		  sent & IPC_SENT_NOT_DURABLE ? ",\"durable\":false" : "");
}

void send_tell(const struct send *send, uint64_t line, const char *filename,
	       uint64_t number, unsigned int sent)
{
	if (send->cli->json) {
		tell_json(send, line, filename, number, sent);
	} else if (send->verbose) {
		out_print("%llu%s", (unsigned long long)number,
			  sent & IPC_SENT_DUPLICATE ? " duplicate" : "");
		if (filename && send->n_files > 1) {
			out_print(" ");
			out_name(filename);
		}
		out_print("\n");
	}
}

bool send_in_vain(const struct send *send, int error)
{
	return (error == -EAGAIN || error == -EDQUOT) && send->wait_ms > 0;
}

const char *send_why_in_vain(int error, const char *text)
{
	return error == -EAGAIN
		       ? "the queue is full, and there was no room in the time of --wait"
		       : text;
}

static int send_text(const struct send *send)
{
	_cleanup_client_ struct ipc_client *client = NULL;
	uint64_t number;
	int r = cli_connect(send->cli, &client);

	if (r != STATUS_OK)
		return r;
	ipc_message_set_body(send->message, send->text, strlen(send->text));
	r = ipc_send_message(client, send->name, send->message, send->wait_ms,
			     send->flags | IPC_SEND_TELL, &number);
	if (send_in_vain(send, r)) {
		cli_say(send->cli, send->name, "%s",
			send_why_in_vain(r, ipc_client_get_error(client)));
		return STATUS_TIMEOUT;
	}
	if (r < 0)
		return cli_fail_ipc(send->cli, send->name, client, r);
	send_tell(send, 0, NULL, number, (unsigned int)r);
	return STATUS_OK;
}

/* Somebody who has forgotten the text should know what it waits for. */
static void note_terminal(const struct send *send)
{
	bool wanted = false;

	for (size_t i = 0; i < send->n_files; i++)
		wanted |= strcmp(send->files[i], "-") == 0;
	if (wanted && isatty(STDIN_FILENO) && !send->cli->quiet &&
	    !(send->file_flags & IPC_FILE_LIVE))
		cli_say(send->cli, send->name,
			"reading %s from the terminal, up to Ctrl-D",
			send->lines ? "messages, one a line," : "the message");
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
		return send_text(&send);
	note_terminal(&send);
	return send.lines ? send_lines(&send) : send_files(&send);
}

const struct command cmd_send = {
	.name = "send",
	.arguments = "NAME [FILE... | -m TEXT | -] [OPTION...]",
	.summary = "hand a message, or files, to a queue",
	.help = "Hands a message to the queue NAME: each FILE with its name, a directory with all\n"
		"that is in it; or TEXT; or what comes on standard input. @USER is the inbox of\n"
		"a user. Prints nothing if it went well.\n"
		"\n"
		"  -m, --message TEXT  the message itself\n"
		"      --lines         each line of standard input is a message\n"
		"      --as FILENAME   the name that the receiver is told\n"
		"      --live          hand over the open file (pipe, terminal ...) itself, not\n"
		"                      what is in it; only to queues with durable=false\n"
		"      --digest KIND   have xxh3, sha256 or md5 made of it for the receiver\n"
		"  -p, --priority N    0 (first) to 9 (last); 4 if not given\n"
		"      --delay T       hand it out no sooner than in T\n"
		"      --ttl T         let it vanish if nobody has taken it in T\n"
		"      --wait T        if the queue is full wait up to T for room\n"
		"      --wait-ack      wait until a receiver has acknowledged it\n"
		"      --meta JSON     a JSON object to pass on with it\n"
		"      --dedup ID      do nothing if a message with this ID was sent before;\n"
		"                      of lines and of several FILEs the IDs are ID-1, ID-2 ...\n"
		"  -v, --verbose       print the message's number\n"
		"\n"
		"T is a time: 500ms, 2s, 5m, 2h, 1d, or seconds.\n",
	.autostart = true,
	.run = run,
};
