/* SPDX-License-Identifier: MIT */

/*
 * ipc name explain: who may do what with a name, and why. Each right is a sentence that can
 * be read alone; the daemon has decided it, here it is only put into words.
 */

#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include "list.h"

struct explanation {
	const struct ipc_record *record;
	const char *user; /* who is asked about */
	const char *why;  /* in brackets, or "" */
};

/* "ann", or the number of one without a name; NULL: no memory. */
static char *format_user(int64_t uid)
{
	const struct passwd *user = uid >= 0 ? getpwuid((uid_t)uid) : NULL;
	char *text;
	int n = user ? asprintf(&text, "%s", user->pw_name)
		     : asprintf(&text, "%lld", (long long)uid);

	return n < 0 ? NULL : text;
}

/*
 * Of a name that is not there the daemon tells how it would be if this user made it. Where
 * the user would be its owner, the mode is not what forbids it.
 */
static bool is_about_making(const struct ipc_record *record)
{
	return !ipc_record_get_bool(record, "exists") &&
	       !ipc_record_get_bool(record, "create") &&
	       ipc_record_get_integer(record, "owner_uid") ==
		       ipc_record_get_integer(record, "uid");
}

/* Of a name on which one has no right the daemon may not tell. */
static char *format_why(const struct ipc_record *record, const char *user)
{
	_cleanup_free_ char *owner =
		format_user(ipc_record_get_integer(record, "owner_uid"));
	const char *rule = list_text(record, "rule");
	char *text;
	int n;

	if (!owner)
		return NULL;
	if (!ipc_record_get_string(record, "rule"))
		return strdup("");
	if (is_about_making(record))
		n = asprintf(&text, " (%s may not make it; %s)", user, rule);
	else
		n = asprintf(&text, " (mode %s, owner %s; %s)", list_text(record, "mode"),
			     owner, rule);
	return n < 0 ? NULL : text;
}

static void show_right(const struct explanation *e, const char *right, const char *verb)
{
	bool may = ipc_record_get_bool(e->record, right);

	out_print("%s: %s may %s%s %s%s\n", may ? "allowed" : "denied", e->user,
		  may ? "" : "not ", verb, list_text(e->record, "name"), e->why);
}

static void show_making(const struct explanation *e)
{
	if (!ipc_record_get_bool(e->record, "exists"))
		out_print("%s does not exist; %s may %smake it\n",
			  list_text(e->record, "name"), e->user,
			  ipc_record_get_bool(e->record, "create") ? "" : "not ");
}

static int show(const struct cli *cli, const struct ipc_record *record)
{
	_cleanup_free_ char *user = format_user(ipc_record_get_integer(record, "uid"));
	_cleanup_free_ char *why = user ? format_why(record, user) : NULL;
	const struct explanation e = { .record = record, .user = user, .why = why };

	if (!why)
		return cli_fail(cli, NULL, "no memory");
	show_right(&e, "write", "send to");
	show_right(&e, "read", "receive from");
	show_making(&e);
	return STATUS_OK;
}

static int run(struct cli *cli, int argc, char **argv)
{
	_cleanup_client_ struct ipc_client *client = NULL;
	_cleanup_list_ struct ipc_list *list = NULL;
	const struct ipc_record *record;
	int r = cli_parse_plain(cli, argc, argv, 1, 2);

	if (r < 0)
		return cli_getopt_status(r);
	r = cli_connect(cli, &client);
	if (r != STATUS_OK)
		return r;
	r = ipc_name_explain(client, argv[optind], argv[optind + 1], &list);
	if (r < 0)
		return cli_fail_ipc(cli, argv[optind], client, r);
	if (cli->json)
		return list_print_json(list);
	record = ipc_list_next(list);
	return record ? show(cli, record) : STATUS_OK;
}

const struct command cmd_name_explain = {
	.name = "name explain",
	.arguments = "NAME [USER]",
	.summary = "who may use a name, and why",
	.help = "Tells whether one may send to NAME and receive from it, and what decided that:\n"
		"its mode and owner, and the line of the configuration. The name need not exist.\n"
		"Only root and the user of the daemon may ask about another USER (a name or a\n"
		"number).\n",
	.autostart = true,
	.run = run,
};
