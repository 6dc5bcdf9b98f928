/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_OPS_H
#define DAEMON_OPS_H

/* The handlers of dispatch.c's table; see dispatch.h for what they return. */

#include "dispatch.h"

int op_hello(struct call *call);
int op_ping(struct call *call);
int op_cancel(struct call *call);
int op_send(struct call *call);

/* A send whose body is still to come: would it be taken? *size is what is known of its size,
 * on return perhaps more. As a handler, but without effect. */
int op_send_check(struct call *call, uint64_t *size);

int op_receive(struct call *call);
int op_ack(struct call *call);
int op_nack(struct call *call);
int op_reject(struct call *call);
int op_touch(struct call *call);
int op_names(struct call *call);
int op_stats(struct call *call);
int op_peers(struct call *call);
int op_disconnect(struct call *call);
int op_create(struct call *call);
int op_set(struct call *call);
int op_delete(struct call *call);
int op_purge(struct call *call);
int op_move(struct call *call);
int op_explain(struct call *call);

/* "limits": all of them, with the values that hold. */
void op_put_limits(struct json_writer *w, const struct limits *limits);

#endif
