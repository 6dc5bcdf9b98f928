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

int limits_set(struct limits *limits, const char *assignment,
	       const struct limit_info **ret_info)
{
	const char *equals = strchr(assignment, '=');
	uint64_t value;

	if (!equals)
		return err_origin(-EINVAL);
	for (size_t i = 0; i < limits_table_size; i++) {
		const struct limit_info *info = &limits_table[i];

		if (info->offset == SIZE_MAX ||
		    strlen(info->key) != (size_t)(equals - assignment) ||
		    strncmp(info->key, assignment, strlen(info->key)) != 0)
			continue;
		if (!parse_u64(equals + 1, UINT64_MAX, &value))
			return err_origin(-EINVAL);
		if (value < info->min || value > info->max) {
			*ret_info = info;
			return err_origin(-ERANGE);
		}
		memcpy((char *)limits + info->offset, &value, sizeof(value));
		return 0;
	}
	return err_origin(-ENOENT);
}
