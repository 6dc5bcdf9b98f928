/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_FILE_TEXT_H
#define DAEMON_FILE_TEXT_H

/*
 * What a message says of a file: members of a header, as text, which is made once and stands
 * in each delivery as it is.
 */

#include "base/buf.h"
#include "filling.h"

/* What the sender says in a header: filename, mode, mtime, mtime_ns, archive; checked. Empty
 * if nothing. 0, FAULT, -ENOMEM. */
int file_text_get(const struct header *h, struct json_writer *w, struct buf *out,
		  struct fault *fault) MUST_CHECK;

/* With what is known in the end: size (UINT64_MAX: unknown), digests (hex of each kind, NULL or
 * "" for none), live. said: the text from above. 0 or -ENOMEM. */
int file_text_complete(struct json_writer *w, const struct buf *said, uint64_t size,
		       char (*hex)[DIGEST_HEX_MAX + 1], bool live,
		       struct buf *out) MUST_CHECK;

#endif
