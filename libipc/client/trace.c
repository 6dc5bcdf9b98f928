/* SPDX-License-Identifier: MIT */

/*
 * IPC_DEBUG=1: one line on standard error for each frame, the only thing the library ever
 * prints. Headers are quoted as they are, but for bytes that a terminal might obey.
 */

#include "client/client_internal.h"

#include <string.h>
#include <unistd.h>

#include "base/err.h"

/* Not for set-user-ID programs: their standard error may be another's, secure_getenv(3). */
bool trace_is_wanted(void)
{
	const char *value = secure_getenv("IPC_DEBUG");

	return value && !strcmp(value, "1");
}

static int put_escaped(struct buf *line, const char *text, size_t size)
{
	int r = 0;

	for (size_t i = 0; !r && i < size; i++) {
		unsigned char c = (unsigned char)text[i];

		r = c >= 0x20 && c < 0x7f ? buf_append(line, &text[i], 1)
					  : buf_printf(line, "\\x%02x", c);
	}
	return err_trace(r);
}

/* Without memory there is a line less. */
void trace_frame(const struct ipc_client *client, enum trace_direction direction,
		 const char *header, size_t header_size, uint64_t body_size)
{
	_cleanup_buf_ struct buf line = BUF_INIT;
	int before = errno;
	int r;

	if (!client->traced)
		return;
	r = buf_printf(&line, "ipc[%lld.%d] %s ", (long long)getpid(), client->stream.fd,
		       direction == TRACE_OUT ? "->" : "<-");
	if (!r)
		r = put_escaped(&line, header, header_size);
	if (!r && body_size)
		r = buf_printf(&line, " + %llu bytes", (unsigned long long)body_size);
	if (!r)
		r = buf_append(&line, "\n", 1);
	if (!r)
		(void)!write(STDERR_FILENO, line.data, line.size); /* in one piece */
	errno = before;
}
