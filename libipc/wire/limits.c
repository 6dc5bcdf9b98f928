/* SPDX-License-Identifier: MIT */

#include "wire/limits.h"

#include <string.h>

#include "base/err.h"

/* clang-format off */
const struct limits limits_default = {
#define X(key, value, min, max, unit, what) .key = value,
	LIMITS_SETTABLE(X)
#undef X
};

const struct limit_info limits_table[] = {
#define X(name, key, value, unit, what) \
	{ #key, unit, what, value, value, value, SIZE_MAX },
	LIMITS_FIXED(X)
#undef X
#define X(key, value, min, max, unit, what) \
	{ #key, unit, what, value, min, max, offsetof(struct limits, key) },
	LIMITS_SETTABLE(X)
#undef X
};
/* clang-format on */
const size_t limits_table_size = ARRAY_SIZE(limits_table);

const uint32_t limits_backoff_ms[4] = { 1000, 5000, 30000, 300000 };

const struct limit_info *limits_find(const char *key)
{
	for (size_t i = 0; i < limits_table_size; i++)
		if (limits_table[i].offset != SIZE_MAX &&
		    !strcmp(limits_table[i].key, key))
			return &limits_table[i];
	return NULL;
}

int limits_set(struct limits *limits, const char *assignment,
	       const struct limit_info **ret_info)
{
	_cleanup_free_ char *key = strdup(assignment);
	char *equals = key ? strchr(key, '=') : NULL;
	const struct limit_info *info;
	uint64_t value;

	if (!equals)
		return err_origin(key ? -EINVAL : -ENOMEM);
	*equals = '\0';
	info = limits_find(key);
	if (!info)
		return err_origin(-ENOENT);
	if (!parse_u64(equals + 1, UINT64_MAX, &value))
		return err_origin(-EINVAL);
	if (value < info->min || value > info->max) {
		*ret_info = info;
		return err_origin(-ERANGE);
	}
	memcpy((char *)limits + info->offset, &value, sizeof(value));
	return 0;
}
