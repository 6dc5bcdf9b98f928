/* SPDX-License-Identifier: MIT */

#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "out.h"
#include "parse.h"

/* ---- failures ---- */

/* "ipc: VERB NAME: TEXT; see 'ipc VERB --help'", as far as there is such a part. */
PRINTF_LIKE(4, 0)
static void report(const struct cli *cli, const char *name, bool with_help,
		   const char *format, va_list arguments)
{
	const char *verb = cli->command ? cli->command->name : "";
	_cleanup_free_ char *text = NULL, *help = NULL, *line = NULL;

	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	if (asprintf(&help, "; see 'ipc %s%s--help'", verb, *verb ? " " : "") < 0)
		help = NULL;
	if (!text || !help ||
	    asprintf(&line, "ipc: %s%s%s%s%s%s", verb, name ? " " : "", name ? name : "",
		     *verb ? ": " : "", text, with_help ? help : "") < 0)
		line = NULL;
	out_error(line ? line : "ipc: no memory");
}

void cli_say(const struct cli *cli, const char *name, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	report(cli, name, false, format, arguments);
	va_end(arguments);
}

int cli_fail(const struct cli *cli, const char *name, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	report(cli, name, false, format, arguments);
	va_end(arguments);
	return STATUS_LOCAL;
}

int cli_usage(const struct cli *cli, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	report(cli, NULL, true, format, arguments);
	va_end(arguments);
	return GETOPT_ERROR;
}

int cli_status(int error, bool remote)
{
	switch (error) {
	case 0:
		return STATUS_OK;
	case -ETIMEDOUT:
		return STATUS_TIMEOUT;
	case -EACCES:
		return STATUS_DENIED;
	case -ECONNRESET:
	case -ESHUTDOWN:
		return STATUS_NO_DAEMON;
	case -EPROTO:
	case -ECANCELED:
	case -EALREADY:
		return STATUS_REFUSED;
	default:
		return remote ? STATUS_REFUSED : STATUS_LOCAL;
	}
}

/* with_socket: which daemon it was may be the point. */
static void say_client_error(const struct cli *cli, const char *name,
			     const struct ipc_client *client, int error, bool with_socket,
			     const char *hint)
{
	const char *text = ipc_client_get_error(client);
	const char *socket = client ? ipc_client_get_socket(client) : "";

	if (!*text)
		text = strerror(-error);
	if (with_socket && *socket && !strstr(text, socket))
		cli_say(cli, name, "%s (the daemon at %s)%s", text, socket, hint);
	else
		cli_say(cli, name, "%s%s", text, hint);
}

int cli_fail_ipc(const struct cli *cli, const char *name, const struct ipc_client *client,
		 int error)
{
	bool remote = *ipc_client_get_error_word(client);
	int status = cli_status(error, remote);

	say_client_error(cli, name, client, error,
			 (error == -ENOENT && remote) || status == STATUS_NO_DAEMON, "");
	return status;
}

/* ---- options ---- */

static void option_error(const struct cli *cli, int c, char **argv, const char *letters)
{
	const char *text = argv[optind - 1];
	bool is_long = strncmp(text, "--", 2) == 0;
	int length = (int)strcspn(text, "=");

	if (c == ':' && is_long)
		cli_usage(cli, "option '%s' needs a value", text);
	else if (c == ':')
		cli_usage(cli, "option '-%c' needs a value", optopt);
	else if (optopt == 0)
		cli_usage(cli, "unknown or ambiguous option '%.*s'", length, text);
	else if (optopt >= OPTION_SOCKET || (is_long && strchr(letters, optopt)))
		cli_usage(cli, "option '%.*s' takes no value", length, text);
	else
		cli_usage(cli, "unknown option '-%c'", optopt);
}

/* Takes an option that goes with every verb; false for another. */
static bool take_option(struct cli *cli, int c)
{
	switch (c) {
	case OPTION_SOCKET:
		cli->socket = optarg;
		return true;
	case OPTION_USER:
		cli->open_flags |= IPC_OPEN_USER;
		return true;
	case OPTION_SYSTEM:
		cli->open_flags |= IPC_OPEN_SYSTEM;
		return true;
	case OPTION_JSON:
		cli->json = true;
		return true;
	case 'q':
		cli->quiet = true;
		return true;
	default:
		return false;
	}
}

/* 0 or GETOPT_ERROR. */
static int check_options(const struct cli *cli)
{
	const unsigned int both = IPC_OPEN_USER | IPC_OPEN_SYSTEM;

	if (cli->socket && !*cli->socket)
		return cli_usage(cli, "--socket needs a path");
	if (cli->socket && cli->open_flags)
		return cli_usage(cli,
				 "--socket does not go together with --user or --system");
	if ((cli->open_flags & both) == both)
		return cli_usage(cli, "--user and --system do not go together");
	return 0;
}

int cli_getopt(struct cli *cli, int argc, char **argv, const char *letters,
	       const struct option *options)
{
	int c;

	opterr = 0;
	do {
		c = getopt_long(argc, argv, letters, options, NULL);
		if (c == '?' || c == ':') {
			option_error(cli, c, argv, letters);
			return GETOPT_ERROR;
		}
		if (c == 'h' && cli->command) {
			cli_help(cli->command);
			return GETOPT_HELP;
		}
	} while (take_option(cli, c));

	if (c == GETOPT_END && check_options(cli) < 0)
		return GETOPT_ERROR;
	return c;
}

int cli_getopt_status(int c)
{
	return c == GETOPT_HELP ? STATUS_OK : STATUS_LOCAL;
}

int cli_check_count(const struct cli *cli, int argc, char **argv, int min, int max)
{
	if (argc < min)
		return cli_usage(cli, "%s is missing",
				 argc == 0 ? "an argument" : "one more argument");
	if (max >= 0 && argc > max)
		return cli_usage(cli, "'%s' is one argument too many", argv[max]);
	return 0;
}

int cli_parse_plain(struct cli *cli, int argc, char **argv, int min, int max)
{
	static const struct option options[] = { CLI_OPTIONS };
	int c = cli_getopt(cli, argc, argv, ":" CLI_LETTERS, options);

	if (c != GETOPT_END)
		return c;
	return cli_check_count(cli, argc - optind, argv + optind, min, max);
}

int cli_parse_time(const struct cli *cli, const char *option, const char *text,
		   int64_t *ret_ms)
{
	switch (parse_time(text, ret_ms)) {
	case 0:
		return 0;
	case -ERANGE:
		return cli_usage(cli, "%s is at most " TIME_MAX ", not '%s'", option,
				 text);
	default:
		return cli_usage(cli,
				 "%s needs a time as 500ms, 2s, 5m, 2h or 1d, not '%s'",
				 option, text);
	}
}

void cli_help(const struct command *command)
{
	out_print("usage: ipc %s %s\n\n%s\n"
		  "Options of all commands: --socket PATH, --user, --system, --json, -q,"
		  " --help; see ipc(1).\n",
		  command->name, command->arguments, command->help);
}

/* ---- the connection ---- */

static int connect_failed(const struct cli *cli, const struct ipc_client *client,
			  int error)
{
	bool nobody = error == -ENOENT || error == -ECONNREFUSED;

	say_client_error(cli, NULL, client, error, true,
			 nobody ? "; is ipcd running?" : "");
	switch (error) {
	case -EACCES:
		return STATUS_DENIED;
	case -ENOMEM:
	case -EINVAL:
	case -ENAMETOOLONG:
		return STATUS_LOCAL;
	default: /* whatever is there, it is no daemon to talk to */
		return STATUS_NO_DAEMON;
	}
}

int cli_connect(const struct cli *cli, struct ipc_client **ret_client)
{
	unsigned int flags = cli->open_flags;
	struct ipc_client *client;
	int r, status;

	if (cli->command->autostart)
		flags |= IPC_OPEN_AUTOSTART;
	r = ipc_client_open(cli->socket, cli->socket ? 0 : flags, &client);
	if (r < 0) {
		status = connect_failed(cli, client, r);
		ipc_client_close(client);
		return status;
	}
	*ret_client = client;
	return STATUS_OK;
}
