/* SPDX-License-Identifier: MIT */

/*
 * ipc receive: the options, what of them goes together, and the request.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "out.h"
#include "parse.h"
#include "receive.h"

enum {
	OPTION_LINES = OPTION_OF_VERB,
	OPTION_PEEK,
	OPTION_DEAD,
	OPTION_FILTER,
	OPTION_NO_ACK,
	OPTION_ACK_WAIT,
	OPTION_EXEC,
	OPTION_FORCE,
	OPTION_RENAME,
	OPTION_NO_UNPACK,
};

enum {
	WINDOW_MAX = 65536, /* ipc-protocol(7): window_max */
	JOBS_MAX = 1024,
};

#define COUNT_MAX ((UINT64_C(1) << 53) - 1) /* ipc-protocol(7): number_max */
#define LETTERS ":n:fw:j:W:o:" CLI_LETTERS

static const struct option options[] = {
	{ "count", required_argument, NULL, 'n' },
	{ "follow", no_argument, NULL, 'f' },
	{ "wait", required_argument, NULL, 'w' },
	{ "jobs", required_argument, NULL, 'j' },
	{ "window", required_argument, NULL, 'W' },
	{ "lines", no_argument, NULL, OPTION_LINES },
	{ "peek", no_argument, NULL, OPTION_PEEK },
	{ "dead", no_argument, NULL, OPTION_DEAD },
	{ "filter", required_argument, NULL, OPTION_FILTER },
	{ "no-ack", no_argument, NULL, OPTION_NO_ACK },
	{ "ack-wait", required_argument, NULL, OPTION_ACK_WAIT },
	{ "exec", no_argument, NULL, OPTION_EXEC },
	{ "output", required_argument, NULL, 'o' },
	{ "force", no_argument, NULL, OPTION_FORCE },
	{ "rename", no_argument, NULL, OPTION_RENAME },
	{ "no-unpack", no_argument, NULL, OPTION_NO_UNPACK },
	CLI_OPTIONS,
};

/* ---- the command line ---- */

struct given {
	bool count, jobs, window, ack_wait;
};

static int take_number(const struct receive *rx, char option, uint64_t max, uint64_t *ret)
{
	if (parse_number(optarg, max, ret) && *ret > 0)
		return 0;
	return cli_usage(rx->cli, "-%c needs a number from 1 to %llu, not '%s'", option,
			 (unsigned long long)max, optarg);
}

static int take_window(struct receive *rx, char option, uint64_t max, bool *ret_given)
{
	uint64_t value;

	if (take_number(rx, option, max, &value) < 0)
		return GETOPT_ERROR;
	rx->window = (unsigned int)value;
	*ret_given = true;
	return 0;
}

static int take_option(struct receive *rx, int c, struct given *given)
{
	switch (c) {
	case 'n':
		given->count = true;
		return take_number(rx, 'n', COUNT_MAX, &rx->count);
	case 'f':
		rx->forever = true;
		return 0;
	case 'w':
		rx->wait_text = optarg;
		return cli_parse_time(rx->cli, "-w", optarg, &rx->wait_ms);
	case 'j':
		return take_window(rx, 'j', JOBS_MAX, &given->jobs);
	case 'W':
		return take_window(rx, 'W', WINDOW_MAX, &given->window);
	case OPTION_LINES:
		rx->lines = true;
		return 0;
	case OPTION_PEEK:
		rx->peek = true;
		return 0;
	case OPTION_DEAD:
		rx->peek = rx->dead = true;
		return 0;
	case OPTION_FILTER:
		rx->filter = optarg;
		return 0;
	case OPTION_NO_ACK:
		rx->no_ack = true;
		return 0;
	case 'o':
		rx->output = optarg;
		return 0;
	case OPTION_FORCE:
		rx->save_flags |= IPC_SAVE_REPLACE;
		return 0;
	case OPTION_RENAME:
		rx->save_flags |= IPC_SAVE_RENAME;
		return 0;
	case OPTION_NO_UNPACK:
		rx->no_unpack = true;
		return 0;
	default: /* OPTION_ACK_WAIT */
		given->ack_wait = true;
		if (cli_parse_time(rx->cli, "--ack-wait", optarg, &rx->ack_wait_ms) < 0)
			return GETOPT_ERROR;
		if (rx->ack_wait_ms == 0)
			return cli_usage(rx->cli, "--ack-wait needs more than '%s'",
					 optarg);
		return 0;
	}
}

static int check_output(const struct receive *rx)
{
	const unsigned int both = IPC_SAVE_REPLACE | IPC_SAVE_RENAME;

	if (rx->output && !*rx->output)
		return cli_usage(rx->cli, "-o needs a directory");
	if (!rx->output && rx->save_flags)
		return cli_usage(rx->cli, "%s is for -o",
				 rx->save_flags & IPC_SAVE_RENAME ? "--rename"
								  : "--force");
	if (!rx->output && rx->no_unpack)
		return cli_usage(rx->cli, "--no-unpack is for -o");
	if (rx->save_flags == both)
		return cli_usage(rx->cli, "--force does not go together with --rename");
	return 0;
}

static int check(const struct receive *rx, const struct given *given)
{
	const char *peek = rx->dead ? "--dead" : "--peek";
	const bool told = rx->cli->json && !rx->output; /* the lease, also with -q */
	const struct {
		bool a, b;
		const char *a_name, *b_name;
	} clashes[] = {
		{ rx->forever, given->count, "-f", "-n" },
		{ rx->peek, rx->exec, peek, "--exec" },
		{ rx->peek, rx->no_ack, peek, "--no-ack" },
		{ rx->peek, rx->forever, peek, "-f" },
		{ rx->peek, rx->wait_text, peek, "-w" },
		{ rx->peek, given->ack_wait, peek, "--ack-wait" },
		{ rx->peek, given->window, peek, "-W" },
		{ rx->no_ack, rx->exec, "--no-ack", "--exec" },
		{ rx->no_ack, rx->forever, "--no-ack", "-f" },
		{ rx->no_ack, given->window, "--no-ack", "-W" },
		{ rx->no_ack && !told, rx->cli->quiet, "--no-ack",
		  "-q, which tells no lease" },
		{ rx->exec, given->window, "--exec", "-W (use -j)" },
		{ rx->exec, rx->lines, "--exec", "--lines" },
		{ rx->exec, rx->cli->json, "--exec", "--json" },
		{ rx->lines, rx->cli->json, "--lines", "--json" },
		{ rx->exec, rx->output, "--exec", "-o (its command finds $IPC_FILE)" },
		{ rx->lines, rx->output, "--lines", "-o" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(clashes); i++)
		if (clashes[i].a && clashes[i].b)
			return cli_usage(rx->cli, "%s does not go together with %s",
					 clashes[i].a_name, clashes[i].b_name);
	if (rx->filter && !rx->peek)
		return cli_usage(
			rx->cli,
			"--filter is for --peek and --dead; 'ipc name move' puts "
			"the messages of a filter into another queue");
	if (given->jobs && !rx->exec)
		return cli_usage(rx->cli, "-j is for --exec");
	if (rx->exec && !rx->exec[0])
		return cli_usage(rx->cli, "a command is missing after --exec");
	if (rx->no_ack && rx->count > WINDOW_MAX)
		return cli_usage(rx->cli, "--no-ack takes at most %d messages",
				 WINDOW_MAX);
	return check_output(rx);
}

/* What the options leave open. */
static void fill_in(struct receive *rx)
{
	if (rx->count == 0 && !rx->forever && !rx->peek)
		rx->count = 1;
	/* The window counts what is not acknowledged: all of them, with --no-ack. */
	if (rx->no_ack)
		rx->window = (unsigned int)rx->count;
	if (rx->window == 0)
		rx->window = 1;
	if (!rx->wait_text)
		rx->wait_ms = IPC_FOREVER;
}

/* 0, GETOPT_ERROR or GETOPT_HELP. */
static int parse(struct receive *rx, int argc, char **argv)
{
	struct given given = { 0 };
	int c;

	while ((c = cli_getopt(rx->cli, argc, argv, LETTERS, options)) >= 0) {
		if (c == OPTION_EXEC) {
			/* The rest is the command: for getopt the line ends here. */
			rx->exec = argv + optind;
			argc = optind;
		} else if (take_option(rx, c, &given) < 0) {
			return GETOPT_ERROR;
		}
	}
	if (c != GETOPT_END)
		return c;
	rx->names = argv + optind;
	rx->n_names = (size_t)(argc - optind);
	if (check(rx, &given) < 0)
		return GETOPT_ERROR;
	fill_in(rx);
	return 0;
}

/* No NAME: the inbox of this user. */
static int name_queues(struct receive *rx)
{
	char *grown;

	if (rx->n_names == 0)
		return asprintf(&rx->subject, "@%u", (unsigned int)geteuid()) < 0
			       ? -ENOMEM
			       : 0;
	for (size_t i = 0; i < rx->n_names; i++) {
		if (asprintf(&grown, "%s%s%s", i ? rx->subject : "", i ? " " : "",
			     rx->names[i]) < 0)
			return -ENOMEM;
		free(rx->subject);
		rx->subject = grown;
	}
	return 0;
}

/* ---- the request ---- */

static int add_queues(struct receive *rx)
{
	int r = 0;

	if (rx->n_names == 0)
		return ipc_receiver_add_queue(rx->receiver, rx->subject);
	for (size_t i = 0; i < rx->n_names && r == 0; i++)
		r = ipc_receiver_add_queue(rx->receiver, rx->names[i]);
	return r;
}

static int prepare(struct receive *rx)
{
	int r = ipc_receiver_new(rx->client, &rx->receiver);

	if (r == 0)
		r = add_queues(rx);
	if (r == 0)
		r = ipc_receiver_set_max(rx->receiver, rx->count);
	if (r == 0 && rx->filter)
		r = ipc_receiver_set_filter(rx->receiver, rx->filter);
	if (r == 0 && rx->peek)
		return rx->dead ? ipc_receiver_set_dead(rx->receiver, true)
				: ipc_receiver_set_peek(rx->receiver, true);
	if (r == 0)
		r = ipc_receiver_set_window(rx->receiver, rx->window);
	if (r == 0)
		r = ipc_receiver_set_wait(rx->receiver, rx->wait_ms);
	if (r == 0 && rx->ack_wait_ms > 0)
		r = ipc_receiver_set_ack_wait(rx->receiver, rx->ack_wait_ms);
	return r;
}

static int receive(struct receive *rx)
{
	int status = rx->output ? receive_open_output(rx) : STATUS_OK, r;

	if (status == STATUS_OK)
		status = cli_connect(rx->cli, &rx->client);
	if (status != STATUS_OK)
		return status;
	r = prepare(rx);
	if (r == -E2BIG)
		return cli_fail(rx->cli, NULL,
				"too many names: one receive takes at most 64");
	if (r < 0)
		return cli_fail_ipc(rx->cli, rx->subject, rx->client, r);
	return rx->exec ? receive_exec(rx) : receive_print(rx);
}

int receive_next(struct receive *rx, struct ipc_message **ret_message, bool *ret_ended)
{
	int r;

	*ret_message = NULL;
	*ret_ended = rx->count > 0 && rx->taken == rx->count;
	if (*ret_ended)
		return STATUS_OK;
	r = ipc_receiver_next(rx->receiver, 0, ret_message);
	if (r == -EMFILE) { /* it was given back and comes again */
		cli_say(rx->cli, rx->subject, "%s", ipc_client_get_error(rx->client));
		return STATUS_OK;
	}
	if (r == 1)
		rx->taken++;
	if (r >= 0 || r == -ETIMEDOUT) {
		*ret_ended = r == 0;
		return STATUS_OK;
	}
	return cli_fail_ipc(rx->cli, rx->subject, rx->client, r);
}

void receive_give_back(struct receive *rx, const struct ipc_message *message,
		       int64_t delay_ms, const char *reason)
{
	/* or it would come to us again at once, and be lost with us */
	rx->receiver = ipc_receiver_free(rx->receiver);
	if (*ipc_message_get_lease(message) &&
	    ipc_settle(rx->client, IPC_VERDICT_NACK, ipc_message_get_number(message),
		       ipc_message_get_lease(message), delay_ms, true, reason) < 0)
		return; /* then the end of the connection gives it back */
}

static int nothing_more(const struct receive *rx)
{
	if (rx->taken > 0 && (rx->count == 0 || rx->peek))
		return STATUS_OK; /* -f -w or --peek: all there was */
	if (rx->cli->quiet)
		return STATUS_TIMEOUT;
	if (rx->taken > 0)
		cli_say(rx->cli, rx->subject, "only %llu of %llu messages came",
			(unsigned long long)rx->taken, (unsigned long long)rx->count);
	else if (rx->wait_ms > 0)
		cli_say(rx->cli, rx->subject, "nothing came in %s", rx->wait_text);
	else
		cli_say(rx->cli, rx->subject, "there is nothing");
	return STATUS_TIMEOUT;
}

static int end_status(const struct receive *rx)
{
	const char *end = rx->receiver ? ipc_receiver_get_end(rx->receiver) : "";

	if (rx->count > 0 && rx->taken == rx->count)
		return STATUS_OK;
	if (strcmp(end, "timeout") == 0 || strcmp(end, "peeked") == 0)
		return nothing_more(rx);
	if (strcmp(end, "shutting-down") == 0) {
		cli_say(rx->cli, rx->subject, "the daemon at %s is stopping",
			ipc_client_get_socket(rx->client));
		return STATUS_NO_DAEMON;
	}
	if (*end) {
		cli_say(rx->cli, rx->subject, "ended by the daemon: %s", end);
		return STATUS_REFUSED;
	}
	return STATUS_OK;
}

/* That fewer came is the lesser news. */
int receive_status(const struct receive *rx)
{
	int status = end_status(rx);

	if ((rx->rejected || rx->late) &&
	    (status == STATUS_OK || status == STATUS_TIMEOUT))
		return STATUS_REFUSED;
	return status;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct receive rx = { .cli = cli, .output_fd = -1 };
	int r = parse(&rx, argc, argv), status;

	if (r < 0)
		return cli_getopt_status(r);
	if (name_queues(&rx) < 0)
		status = cli_fail(cli, NULL, "no memory");
	else
		status = receive(&rx);
	ipc_receiver_free(rx.receiver);
	ipc_client_close(rx.client);
	progress_free(rx.progress);
	if (rx.output_fd >= 0)
		close(rx.output_fd);
	free(rx.subject);
	return status;
}

const struct command cmd_receive = {
	.name = "receive",
	.arguments = "[NAME...] [OPTION...] [--exec COMMAND...]",
	.summary = "take messages from queues",
	.help = "Waits for one message from the queues NAME (in this order of preference; none:\n"
		"this user's inbox), prints its body and acknowledges it; with -o it is saved\n"
		"as a file, and the path is printed.\n"
		"\n"
		"  -o, --output DIR  save each message in DIR under the name its sender gave it,\n"
		"                    or as message-NUMBER; directories are unpacked\n"
		"      --force       of -o: replace a file, or an empty directory by another\n"
		"      --rename      of -o: save as 'x (1)' if x exists\n"
		"      --no-unpack   of -o: save a directory as the tar it was sent as\n"
		"  -n, --count N     N messages\n"
		"  -f, --follow      for ever\n"
		"  -w, --wait T      wait no longer than T for the next one; exit status 3 if\n"
		"                    nothing came, or fewer than N\n"
		"      --lines       add a newline to each body\n"
		"      --peek        show what is there (-n: the first N) and leave it there\n"
		"      --dead        likewise, but what is dead: rejected, or handed out too often\n"
		"      --filter EXPR of --peek and --dead only some, as 'age>1h sender=ann\n"
		"                    attempt>=3 priority<4 meta.kind=thumb': all of it must hold\n"
		"      --no-ack      do not acknowledge: tell number and lease, see 'ipc ack'\n"
		"      --ack-wait T  let the daemon hand out anew what is not acknowledged in T\n"
		"  -W, --window N    take up to N at a time, which is faster\n"
		"      --exec COMMAND...  for each message run COMMAND with the body on standard\n"
		"                    input and acknowledge if its exit status is 0; must be last.\n"
		"                    A message with a filename is saved for it as $IPC_FILE\n"
		"  -j, --jobs N      with --exec: N at the same time\n"
		"\n"
		"T is a time: 500ms, 2s, 5m, 2h, 1d, or seconds.\n",
	.autostart = true,
	.run = run,
};
