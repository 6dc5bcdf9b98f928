/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_LOG_H
#define DAEMON_LOG_H

/*
 * The log: lines on stderr, "<N>" in front as the journal reads it (sd-daemon(3)), UTF-8,
 * each line one write, control characters escaped whoever they came from. A reader that
 * does not read never stops the daemon: lines are dropped, counted, and the count is told.
 */

#include "base/util.h"

enum log_level {
	LEVEL_ERROR = 3, /* as syslog(3) numbers them */
	LEVEL_WARNING = 4,
	LEVEL_NOTICE = 5,
	LEVEL_INFO = 6,
	LEVEL_DEBUG = 7,
};

void log_set_level(enum log_level level);
enum log_level log_get_level(void);
const char *log_level_name(enum log_level level);
bool log_level_parse(const char *name, enum log_level *ret_level);

void log_print(enum log_level level, const char *format, ...) PRINTF_LIKE(2, 3);

#define log_error(...) log_print(LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_print(LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...) log_print(LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...) log_print(LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                       \
	do {                                                 \
		if (log_get_level() >= LEVEL_DEBUG)          \
			log_print(LEVEL_DEBUG, __VA_ARGS__); \
	} while (0)

#endif
