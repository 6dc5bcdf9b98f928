/* SPDX-License-Identifier: MIT */

/*
 * ipc receive -o: one message saved, and what becomes of one that cannot be.
 *
 * What nobody can save (its digest differs, its archive is damaged or leads out) is rejected,
 * and the next one comes. What could not be saved here and now goes back to its queue, the
 * attempt does not count, and that is the end: it would only come again. Signals wait until
 * nothing half done is left.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "interrupt.h"
#include "out.h"
#include "receive.h"
#include "save.h"

int receive_open_output(struct receive *rx)
{
	rx->output_fd = open(rx->output, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (rx->output_fd < 0)
		return cli_fail(rx->cli, rx->subject, "-o %s: %s", rx->output,
				errno == ENOENT
					? "there is no such directory; make it first"
					: strerror(errno));
	rx->progress = progress_new(rx->cli);
	return STATUS_OK;
}

/* ---- while it is saved ---- */

static int on_progress(uint64_t done, uint64_t total, void *userdata)
{
	const struct receive *rx = userdata;

	progress_update(done, total, rx->progress);
	return interrupt_is_pending();
}

static void on_left_out(const char *path, const char *what, void *userdata)
{
	const struct receive *rx = userdata;

	if (!rx->cli->quiet)
		cli_say(rx->cli, rx->subject, "in the archive %s is %s and left out",
			path, what);
}

static char *join(const struct receive *rx, const char *name)
{
	size_t n = strlen(rx->output);
	char *path;

	if (asprintf(&path, "%s%s%s", rx->output,
		     n > 0 && rx->output[n - 1] == '/' ? "" : "/", name) < 0)
		return NULL;
	return path;
}

/* ---- when it is saved ---- */

static void tell_json(const struct receive *rx, const struct ipc_message *message,
		      const char *path)
{
	uint64_t size = ipc_message_get_size(message);

	out_print("{\"event\":\"saved\",\"message\":%llu,\"path\":",
		  (unsigned long long)ipc_message_get_number(message));
	out_json_string(path);
	if (size != UINT64_MAX)
		out_print(",\"file_size\":%llu", (unsigned long long)size);
	if (rx->no_ack) {
		out_print(",\"lease\":");
		out_json_string(ipc_message_get_lease(message));
	}
	out_print("}\n");
}

static void tell(const struct receive *rx, const struct ipc_message *message,
		 const char *path)
{
	if (rx->cli->quiet || !path)
		return;
	if (rx->cli->json) {
		tell_json(rx, message, path);
		return;
	}
	out_name(path);
	out_print("\n");
}

/* ---- when it is not ---- */

/* Nobody can use it. What is only looked at stays as it is. */
int receive_reject(struct receive *rx, const struct ipc_message *message,
		   const char *reason)
{
	int r = 0;

	rx->rejected = true;
	if (!rx->no_ack && *ipc_message_get_lease(message))
		r = ipc_reject(rx->client, message, reason);
	return r < 0 ? cli_fail_ipc(rx->cli, rx->subject, rx->client, r) : STATUS_OK;
}

static int give_back(struct receive *rx, const struct ipc_message *message,
		     int64_t delay_ms)
{
	if (!rx->no_ack)
		receive_give_back(rx, message, delay_ms,
				  "the receiver could not save it");
	return STATUS_LOCAL;
}

/* Why --force does not do it. */
static const char *why_not_replaced(int error)
{
	switch (error) {
	case -EISDIR:
		return "is a directory, which --force does not replace by a file";
	case -ENOTDIR:
		return "is not a directory, and --force does not replace it by one";
	default:
		return "is a directory with something in it, which --force does not replace";
	}
}

/* Its name is taken. */
static int fail_taken(struct receive *rx, const struct save *save,
		      const struct ipc_message *message, const char *name, int error)
{
	_cleanup_free_ char *path = join(rx, name);
	_cleanup_free_ char *other =
		save_other_name(name, 1, save_is_archive(save, message));

	if (!path || !other)
		cli_say(rx->cli, rx->subject, "no memory");
	else if (error != -EEXIST)
		cli_say(rx->cli, rx->subject, "%s %s; --rename saves as '%s'", path,
			why_not_replaced(error), other);
	else if (save_check_replace(save, message, name) < 0)
		cli_say(rx->cli, rx->subject, "%s exists; --rename saves as '%s'", path,
			other);
	else
		cli_say(rx->cli, rx->subject,
			"%s exists; --force replaces it, --rename saves as '%s'", path,
			other);
	return give_back(rx, message, 0);
}

static int fail(struct receive *rx, const struct save *save,
		const struct ipc_message *message, int error, const char *why)
{
	_cleanup_free_ char *name = save_name(save, message);
	unsigned long long number = ipc_message_get_number(message);

	if (!name || error == -ECANCELED) /* a signal has ended it, and will end us */
		return give_back(rx, message, 0);
	switch (error) {
	case -EEXIST:
	case -EISDIR:
	case -ENOTDIR:
	case -ENOTEMPTY:
		return fail_taken(rx, save, message, name, error);
	case -EBADMSG:
		cli_say(rx->cli, rx->subject, "message %llu, %s: %s", number, name,
			why ? why : RECEIVE_DIFFERS);
		return receive_reject(rx, message,
				      why ? "its archive cannot be unpacked"
					  : RECEIVE_DIFFERS);
	default:
		cli_say(rx->cli, rx->subject, "message %llu, %s: %s%s", number, name,
			why ? why : strerror(-error),
			*ipc_message_get_lease(message) ? "; it stays in the queue" : "");
		return give_back(rx, message, -1);
	}
}

/* ---- the whole ---- */

static int save(struct receive *rx, struct ipc_message *message, bool *ret_saved)
{
	const struct save save = {
		.dirfd = rx->output_fd,
		.flags = rx->save_flags,
		.unpack = !rx->no_unpack,
		.progress = on_progress,
		.note = on_left_out,
		.userdata = rx,
	};
	_cleanup_free_ char *name = NULL, *why = NULL, *path = NULL;
	int r = save_message(&save, message, &name, &why);

	progress_end(rx->progress);
	if (r < 0)
		return fail(rx, &save, message, r, why);
	*ret_saved = true;
	path = join(rx, name);
	tell(rx, message, path);
	return STATUS_OK;
}

int receive_save(struct receive *rx, struct ipc_message *message, bool *ret_saved)
{
	const char *filename = ipc_message_get_filename(message);

	*ret_saved = false;
	interrupt_hold();
	progress_begin(rx->progress, filename ? filename : "message", rx->taken,
		       rx->count);
	return save(rx, message, ret_saved);
}
