/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_RECORD_SUM_H
#define DAEMON_RECORD_SUM_H

/* The checksums of records, which the database keeps beside them. Those of a message are two,
 * so that a change of its state does not need its body. */

#include "record.h"

uint64_t record_sum_name(const struct name_record *n);
uint64_t record_sum_state(const struct message_record *m);

/* commit: the number of the one that put it. */
uint64_t record_sum_content(const struct message_record *m, uint64_t commit);
uint64_t record_sum_dedup(const struct dedup_record *d);

#endif
