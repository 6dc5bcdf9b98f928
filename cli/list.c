/* SPDX-License-Identifier: MIT */

#include "list.h"

#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/types.h>

const char *list_text(const struct ipc_record *record, const char *key)
{
	const char *text = ipc_record_get_string(record, key);

	return text && *text ? text : "-";
}

const char *list_owner(const struct ipc_record *record)
{
	int64_t uid = ipc_record_get_integer(record, "owner_uid");
	const struct passwd *user = uid >= 0 ? getpwuid((uid_t)uid) : NULL;

	return user ? user->pw_name : list_text(record, "owner");
}

const char *list_group(char text[static LIST_TEXT], const struct ipc_record *record)
{
	int64_t gid = ipc_record_get_integer(record, "group");
	const struct group *group = gid >= 0 ? getgrgid((gid_t)gid) : NULL;

	if (group)
		return group->gr_name;
	if (gid < 0 || gid == UINT32_MAX) /* none */
		return "-";
	snprintf(text, LIST_TEXT, "%lld", (long long)gid);
	return text;
}

void list_add_number(struct table *table, const struct ipc_record *record,
		     const char *key)
{
	int64_t value = ipc_record_get_integer(record, key);

	if (value < 0)
		table_add(table, "-");
	else
		table_add(table, "%lld", (long long)value);
}

const char *list_format_size(char text[static LIST_TEXT], int64_t bytes)
{
	static const char units[] = "BKMGTPE";
	double value = (double)bytes;
	size_t unit = 0;

	for (; value >= 1023.95 && unit + 2 < sizeof(units); unit++)
		value /= 1024;
	if (bytes < 0)
		snprintf(text, LIST_TEXT, "-");
	else if (unit == 0)
		snprintf(text, LIST_TEXT, "%lld", (long long)bytes);
	else
		snprintf(text, LIST_TEXT, "%.1f%c", value, units[unit]);
	return text;
}

const char *list_format_time(char text[static LIST_TEXT], int64_t ms)
{
	long long s = ms / 1000, m = s / 60, h = m / 60, d = h / 24;

	if (ms < 0)
		snprintf(text, LIST_TEXT, "-");
	else if (d > 0)
		snprintf(text, LIST_TEXT, "%lldd %lldh", d, h % 24);
	else if (h > 0)
		snprintf(text, LIST_TEXT, "%lldh %lldm", h, m % 60);
	else if (m > 0)
		snprintf(text, LIST_TEXT, "%lldm %llds", m, s % 60);
	else
		snprintf(text, LIST_TEXT, "%lld.%ds", s, (int)(ms % 1000 / 100));
	return text;
}

void list_add_size(struct table *table, const struct ipc_record *record, const char *key)
{
	char text[LIST_TEXT];

	table_add(table, "%s",
		  list_format_size(text, ipc_record_get_integer(record, key)));
}

void list_add_time(struct table *table, const struct ipc_record *record, const char *key)
{
	char text[LIST_TEXT];

	table_add(table, "%s",
		  list_format_time(text, ipc_record_get_integer(record, key)));
}

void list_add_age(struct table *table, const struct ipc_record *record, const char *key)
{
	char text[LIST_TEXT], *blank;

	list_format_time(text, ipc_record_get_integer(record, key));
	blank = strchr(text, ' ');
	if (blank)
		memmove(blank, blank + 1, strlen(blank));
	table_add(table, "%s", text);
}

int list_print_json(struct ipc_list *list)
{
	const struct ipc_record *record;

	while ((record = ipc_list_next(list)))
		out_json(ipc_record_get_json(record));
	return STATUS_OK;
}
