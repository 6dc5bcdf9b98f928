/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_OP_NAME_H
#define DAEMON_OP_NAME_H

/* What the operations on names have in common. 0, FAULT, DISPATCH_WAIT or -ENOMEM. */

#include "dispatch.h"

/* The name that stands at key; it need not exist. */
int op_name_get(struct call *call, enum header_key key,
		struct name_ref *ret_ref) MUST_CHECK;

/* The name at "name", which must be the caller's own. */
int op_name_find_own(struct call *call, struct name **ret_name) MUST_CHECK;

#endif
