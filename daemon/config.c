/* SPDX-License-Identifier: MIT */

#include "config.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "listener.h"
#include "wire/json.h"

enum {
	CONFIG_MAX = 1024 * 1024, /* bytes of one file */
	NAME_SERVICE_MAX = 65536,
	LEVEL_TEXT_MAX = 16,
};

/* One file being read. */
struct reading {
	struct config *config;
	const char *file;
	struct json *json;
	struct buf *errors;
};

void config_init(struct config *config)
{
	*config = (struct config){ .level = LEVEL_INFO, .limits = limits_default };
}

void config_deinit(struct config *config)
{
	free(config->socket);
	free(config->state);
	rules_deinit(&config->rules);
	config_init(config);
}

/* ---- errors ---- */

/* "ipcd.conf:12: …" */
static int wrong(struct reading *rd, uint32_t at, const char *format, ...)
	PRINTF_LIKE(3, 4);
static int wrong(struct reading *rd, uint32_t at, const char *format, ...)
{
	char text[512];
	va_list args;
	int r;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	r = buf_printf(rd->errors, "%s:%zu: %s\n", rd->file, json_line(rd->json, at),
		       text);
	return r < 0 ? err_trace(r) : err_origin(-EINVAL);
}

static const struct json_value *value_at(const struct reading *rd, uint32_t at)
{
	return json_at(rd->json, at);
}

static int unknown_key(struct reading *rd, uint32_t at)
{
	const struct json_value *key = value_at(rd, at);

	return wrong(rd, at, "unknown key \"%.*s\"", (int)key->size,
		     json_text(rd->json, key));
}

/* ---- values ---- */

static int get_text(struct reading *rd, uint32_t at, const char *key, char **ret_text)
{
	const struct json_value *v = value_at(rd, at);
	char *text;

	if (v->type != JSON_STRING || !v->size)
		return wrong(rd, at, "\"%s\" must be a string, not %s", key,
			     v->type == JSON_STRING ? "empty" : json_type_name(v->type));
	text = strndup(json_text(rd->json, v), v->size);
	if (!text)
		return err_origin(-ENOMEM);
	free(*ret_text);
	*ret_text = text;
	return 0;
}

static int get_number(struct reading *rd, uint32_t at, const char *key, uint64_t min,
		      uint64_t max, uint64_t *ret_value)
{
	const struct json_value *v = value_at(rd, at);

	if (v->type != JSON_INTEGER)
		return wrong(rd, at, "\"%s\" must be an integer, not %s", key,
			     json_type_name(v->type));
	if (v->integer < 0 || (uint64_t)v->integer < min || (uint64_t)v->integer > max)
		return wrong(rd, at, "\"%s\" must be from %llu to %llu, not %lld", key,
			     (unsigned long long)min, (unsigned long long)max,
			     (long long)v->integer);
	*ret_value = (uint64_t)v->integer;
	return 0;
}

static int get_path(struct reading *rd, uint32_t at, const char *key, char **ret_path)
{
	int r = get_text(rd, at, key, ret_path);

	if (r == 0 && (*ret_path)[0] != '/')
		return wrong(rd, at, "\"%s\" must be an absolute path, not \"%s\"", key,
			     *ret_path);
	return err_trace(r);
}

static int get_socket(struct reading *rd, uint32_t at, char **ret_path)
{
	int r = get_path(rd, at, "socket", ret_path);

	if (r == 0 && strlen(*ret_path) > SOCKET_PATH_MAX)
		return wrong(rd, at, "\"socket\" must have at most %d bytes, not %zu",
			     SOCKET_PATH_MAX, strlen(*ret_path));
	return err_trace(r);
}

/* Octal, as chmod(1) takes it; only what means something for names. */
static int get_mode(struct reading *rd, uint32_t at, unsigned int *ret_mode)
{
	_cleanup_free_ char *text = NULL;
	unsigned long mode;
	char *end;
	int r = get_text(rd, at, "mode", &text);

	if (r < 0)
		return err_trace(r);
	mode = strtoul(text, &end, 8);
	if (*end || mode > 0777 || strspn(text, "01234567") != strlen(text))
		return wrong(rd, at, "\"mode\" must be octal, as \"0660\", not \"%s\"",
			     text);
	if (mode & 0111)
		return wrong(rd, at, "\"mode\" %s: names have r (4) and w (2) only",
			     text);
	*ret_mode = (unsigned int)mode;
	return 0;
}

static int find_user(const char *name, uid_t *ret_uid)
{
	_cleanup_free_ char *space = malloc(NAME_SERVICE_MAX);
	struct passwd pw, *found = NULL;
	uint64_t uid;

	if (!space)
		return err_origin(-ENOMEM);
	if (parse_u64(name, UINT32_MAX - 1, &uid)) {
		*ret_uid = (uid_t)uid;
		return 0;
	}
	if (getpwnam_r(name, &pw, space, NAME_SERVICE_MAX, &found) != 0 || !found)
		return err_origin(-ENOENT);
	*ret_uid = pw.pw_uid;
	return 0;
}

static int get_owner(struct reading *rd, uint32_t at, uid_t *ret_uid)
{
	_cleanup_free_ char *name = NULL;
	int r = get_text(rd, at, "owner", &name);

	if (r == 0)
		r = find_user(name, ret_uid);
	if (r == -ENOENT)
		return wrong(rd, at, "there is no user \"%s\"", name);
	return err_trace(r);
}

static int get_group(struct reading *rd, uint32_t at, gid_t *ret_gid)
{
	_cleanup_free_ char *space = malloc(NAME_SERVICE_MAX), *name = NULL;
	struct group gr, *found = NULL;
	uint64_t gid;
	int r = get_text(rd, at, "group", &name);

	if (r < 0 || !space)
		return err_trace(r < 0 ? r : -ENOMEM);
	if (parse_u64(name, UINT32_MAX - 1, &gid)) {
		*ret_gid = (gid_t)gid;
		return 0;
	}
	if (getgrnam_r(name, &gr, space, NAME_SERVICE_MAX, &found) != 0 || !found)
		return wrong(rd, at, "there is no group \"%s\"", name);
	*ret_gid = gr.gr_gid;
	return 0;
}

/* "@ann.*" is kept by uid, as names are. */
static int canonical_pattern(struct reading *rd, uint32_t at, char **pattern)
{
	_cleanup_free_ char *user = NULL;
	char *canonical;
	size_t size;
	uid_t uid;
	int r;

	if ((*pattern)[0] != '@')
		return 0;
	size = strcspn(*pattern, ".") - 1;
	user = strndup(*pattern + 1, size);
	if (!user)
		return err_origin(-ENOMEM);
	if (user[0] == '*')
		return 0;
	r = find_user(user, &uid);
	if (r == -ENOENT)
		return wrong(rd, at, "there is no user \"%s\"", user);
	if (r < 0)
		return err_trace(r);
	if (asprintf(&canonical, "@%u%s", uid, *pattern + 1 + size) < 0)
		return err_origin(-ENOMEM);
	free(*pattern);
	*pattern = canonical;
	return 0;
}

static int get_pattern(struct reading *rd, uint32_t at, char **ret_pattern)
{
	int r = get_text(rd, at, "names", ret_pattern);

	if (r == 0 && !pattern_is_valid(*ret_pattern))
		return wrong(
			rd, at,
			"\"%s\" is no pattern: tokens as in names, or *, joined by dots; ** "
			"as the last one",
			*ret_pattern);
	return err_trace(r < 0 ? r : canonical_pattern(rd, at, ret_pattern));
}

static int get_backoff(struct reading *rd, uint32_t at, struct queue_settings *s)
{
	const struct json_value *v = value_at(rd, at);
	uint32_t element = at + 1;
	int r;

	if (v->type != JSON_ARRAY || !v->n_members || v->n_members > BACKOFF_STEPS_MAX)
		return wrong(rd, at,
			     "\"backoff\" must be an array of 1 to %d times in ms",
			     BACKOFF_STEPS_MAX);
	for (uint32_t i = 0; i < v->n_members;
	     i++, element = value_at(rd, element)->next) {
		r = get_number(rd, element, "backoff", 0, LIMIT_WAIT_MAX,
			       &s->backoff_ms[i]);
		if (r < 0)
			return err_trace(r);
	}
	s->n_backoff = v->n_members;
	s->set |= SETTING_BACKOFF;
	return 0;
}

/* ---- rules ---- */

static bool is_key(const struct reading *rd, uint32_t at, const char *key)
{
	const struct json_value *v = value_at(rd, at);

	return v->size == strlen(key) && !memcmp(json_text(rd->json, v), key, v->size);
}

/* 1: it was one of the settings. */
static int read_setting(struct reading *rd, uint32_t at, struct queue_settings *s)
{
	if (is_key(rd, at, "durable")) {
		const struct json_value *v = value_at(rd, at + 1);

		if (v->type != JSON_TRUE && v->type != JSON_FALSE)
			return wrong(rd, at + 1,
				     "\"durable\" must be true or false, not %s",
				     json_type_name(v->type));
		s->durable = v->type == JSON_TRUE;
		s->set |= SETTING_DURABLE;
		return 1;
	}
	if (is_key(rd, at, "backoff")) {
		int r = get_backoff(rd, at + 1, s);

		return r < 0 ? err_trace(r) : 1;
	}
	for (size_t i = 0; i < N_SETTING_NUMBERS; i++) {
		const struct limit_info *limit;
		uint64_t value;
		int r;

		if (!is_key(rd, at, setting_numbers[i].key))
			continue;
		limit = limits_find(setting_numbers[i].key);
		r = get_number(rd, at + 1, setting_numbers[i].key, limit->min, limit->max,
			       &value);
		if (r < 0)
			return err_trace(r);
		memcpy((char *)s + setting_numbers[i].offset, &value, sizeof(value));
		s->set |= setting_numbers[i].bit;
		return 1;
	}
	return 0;
}

static int read_rule_key(struct reading *rd, uint32_t at, struct rule *rule)
{
	int r;

	if (is_key(rd, at, "names"))
		return err_trace(get_pattern(rd, at + 1, &rule->pattern));
	if (is_key(rd, at, "owner")) {
		rule->has_owner = true;
		return err_trace(get_owner(rd, at + 1, &rule->owner));
	}
	if (is_key(rd, at, "group")) {
		rule->has_group = true;
		return err_trace(get_group(rd, at + 1, &rule->group));
	}
	if (is_key(rd, at, "mode")) {
		rule->has_mode = true;
		return err_trace(get_mode(rd, at + 1, &rule->mode));
	}
	r = read_setting(rd, at, &rule->settings);
	if (r < 0)
		return err_trace(r);
	return r ? 0 : unknown_key(rd, at);
}

static int fill_rule(struct reading *rd, uint32_t at, struct rule *rule)
{
	const struct json_value *v = value_at(rd, at);
	const char *base = strrchr(rd->file, '/');
	uint32_t key = at + 1;
	int r;

	if (v->type != JSON_OBJECT)
		return wrong(rd, at, "a rule must be an object, not %s",
			     json_type_name(v->type));
	for (uint32_t i = 0; i < v->n_members; i++, key = value_at(rd, key + 1)->next) {
		r = read_rule_key(rd, key, rule);
		if (r < 0)
			return err_trace(r);
	}
	if (!rule->pattern)
		return wrong(rd, at, "a rule needs \"names\", the pattern it is for");
	if (asprintf(&rule->where, "%s:%zu", base ? base + 1 : rd->file,
		     json_line(rd->json, at)) < 0) {
		rule->where = NULL;
		return err_origin(-ENOMEM);
	}
	return 0;
}

static int read_rules(struct reading *rd, uint32_t at)
{
	const struct json_value *v = value_at(rd, at);
	struct rules *rules = &rd->config->rules;
	uint32_t element = at + 1;

	if (v->type != JSON_ARRAY)
		return wrong(rd, at, "\"rules\" must be an array of objects, not %s",
			     json_type_name(v->type));
	for (uint32_t i = 0; i < v->n_members;
	     i++, element = value_at(rd, element)->next) {
		struct rule *grown =
			realloc(rules->rules, (rules->n + 1) * sizeof(*rules->rules));
		int r;

		if (!grown)
			return err_origin(-ENOMEM);
		rules->rules = grown;
		rules->rules[rules->n] = (struct rule){ .mode = 0600 };
		r = fill_rule(rd, element, &rules->rules[rules->n++]);
		if (r < 0)
			return err_trace(r);
	}
	return 0;
}

/* ---- the top level ---- */

static int read_limits(struct reading *rd, uint32_t at)
{
	const struct json_value *v = value_at(rd, at);
	uint32_t key = at + 1;

	if (v->type != JSON_OBJECT)
		return wrong(rd, at, "\"limits\" must be an object, not %s",
			     json_type_name(v->type));
	for (uint32_t i = 0; i < v->n_members; i++, key = value_at(rd, key + 1)->next) {
		const struct json_value *k = value_at(rd, key);
		_cleanup_free_ char *text = strndup(json_text(rd->json, k), k->size);
		const struct limit_info *limit = text ? limits_find(text) : NULL;
		uint64_t value;
		int r;

		if (!text)
			return err_origin(-ENOMEM);
		if (!limit)
			return unknown_key(rd, key);
		r = get_number(rd, key + 1, limit->key, limit->min, limit->max, &value);
		if (r < 0)
			return err_trace(r);
		memcpy((char *)&rd->config->limits + limit->offset, &value,
		       sizeof(value));
	}
	return 0;
}

static int read_level(struct reading *rd, uint32_t at)
{
	_cleanup_free_ char *text = NULL;
	int r = get_text(rd, at, "log_level", &text);

	if (r == 0 && !log_level_parse(text, &rd->config->level))
		return wrong(
			rd, at,
			"\"log_level\" must be error, warning, notice, info or debug, "
			"not \"%s\"",
			text);
	rd->config->has_level = true;
	return err_trace(r);
}

static int read_mode(struct reading *rd, uint32_t at)
{
	_cleanup_free_ char *text = NULL;
	int r = get_text(rd, at, "mode", &text);

	if (r < 0)
		return err_trace(r);
	rd->config->has_mode = true;
	rd->config->system_mode = !strcmp(text, "system");
	if (!rd->config->system_mode && strcmp(text, "user") != 0)
		return wrong(rd, at,
			     "\"mode\" must be \"system\" or \"user\", not \"%s\"", text);
	return 0;
}

static int read_key(struct reading *rd, uint32_t at)
{
	if (is_key(rd, at, "socket"))
		return err_trace(get_socket(rd, at + 1, &rd->config->socket));
	if (is_key(rd, at, "state"))
		return err_trace(get_path(rd, at + 1, "state", &rd->config->state));
	if (is_key(rd, at, "mode"))
		return err_trace(read_mode(rd, at + 1));
	if (is_key(rd, at, "log_level"))
		return err_trace(read_level(rd, at + 1));
	if (is_key(rd, at, "limits"))
		return err_trace(read_limits(rd, at + 1));
	if (is_key(rd, at, "rules"))
		return err_trace(read_rules(rd, at + 1));
	return unknown_key(rd, at);
}

static int no_json(const char *file, const struct json *json, struct buf *errors)
{
	size_t line = json_error_line(json);
	int r = line ? buf_printf(errors, "%s:%zu: %s\n", file, line, json_error(json))
		     : buf_printf(errors, "%s: %s\n", file, json_error(json));

	return r < 0 ? err_trace(r) : err_origin(-EINVAL);
}

static int read_text(struct config *config, const char *file, const struct buf *text,
		     struct buf *errors)
{
	CLEANUP(json_freep) struct json *json = NULL;
	struct reading rd = { config, file, NULL, errors };
	uint32_t key = 1;
	int r = json_new(&json, text->size, true);

	if (r < 0)
		return err_trace(r);
	rd.json = json;
	r = json_parse(json, text->data, text->size);
	if (r == -EBADMSG)
		return err_trace(no_json(file, json, errors));
	for (uint32_t i = 0; r == 0 && i < json_at(json, 0)->n_members;
	     i++, key = json_at(json, key + 1)->next)
		r = read_key(&rd, key);
	return err_trace(r);
}

/* ---- files ---- */

static int bad_file(const char *file, int error, const char *why, struct buf *errors)
{
	int r = buf_printf(errors, "%s: %s\n", file, why);

	return r < 0 ? err_trace(r) : err_origin(error);
}

static int no_file(const char *file, int error, struct buf *errors)
{
	return bad_file(file, error, strerror(-error), errors);
}

static int too_large(const char *file, struct buf *errors)
{
	char why[64];

	snprintf(why, sizeof(why), "it has more than %d bytes", CONFIG_MAX);
	return bad_file(file, -EFBIG, why, errors);
}

static int slurp(const char *file, struct buf *text, struct buf *errors)
{
	_cleanup_fd_ int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	ssize_t n = 1;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return no_file(file, -errno, errors);
	if (!S_ISREG(st.st_mode))
		return bad_file(file, -EINVAL, "it is not a regular file", errors);
	if (st.st_size > CONFIG_MAX)
		return too_large(file, errors);
	while (n > 0 && text->size <= CONFIG_MAX) {
		r = buf_reserve(text, 4096);
		if (r < 0)
			return err_trace(r);
		n = read(fd, text->data + text->size, 4096);
		if (n < 0)
			return no_file(file, -errno, errors);
		text->size += (size_t)n;
	}
	return text->size > CONFIG_MAX ? too_large(file, errors) : 0;
}

static int load_one(struct config *config, const char *file, struct buf *errors)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	int r = slurp(file, &text, errors);

	config->n_files++;
	return err_trace(r < 0 ? r : read_text(config, file, &text, errors));
}

static int is_conf(const struct dirent *entry)
{
	size_t size = strlen(entry->d_name);

	return size > 5 && !strcmp(entry->d_name + size - 5, ".conf") &&
	       entry->d_name[0] != '.';
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name); /* not by locale */
}

static int load_drop_ins(struct config *config, const char *file, struct buf *errors)
{
	_cleanup_free_ char *directory = NULL;
	struct dirent **entries = NULL;
	int n, r = 0;

	if (asprintf(&directory, "%s.d", file) < 0) {
		directory = NULL;
		return err_origin(-ENOMEM);
	}
	n = scandir(directory, &entries, is_conf, by_name);
	if (n < 0)
		return errno == ENOENT ? 0 : no_file(directory, -errno, errors);
	for (int i = 0; i < n; i++) {
		char *path = NULL;

		if (r == 0 &&
		    asprintf(&path, "%s/%s", directory, entries[i]->d_name) < 0) {
			path = NULL;
			r = err_origin(-ENOMEM);
		}
		if (r == 0)
			r = load_one(config, path, errors);
		free(path);
		free(entries[i]);
	}
	free(entries);
	return err_trace(r);
}

int config_load(struct config *config, const char *file, bool must_exist,
		struct buf *errors)
{
	int r = 0;

	if (must_exist || access(file, F_OK) == 0 || errno != ENOENT)
		r = load_one(config, file, errors);
	return err_trace(r < 0 ? r : load_drop_ins(config, file, errors));
}

/* ---- dump ---- */

static int dump_limits(const struct config *config, struct buf *out)
{
	const char *comma = "";
	int r = buf_append_string(out, "\t\"limits\": {\n");

	for (size_t i = 0; r == 0 && i < limits_table_size; i++) {
		const struct limit_info *info = &limits_table[i];
		uint64_t value;

		if (info->offset == SIZE_MAX)
			continue;
		memcpy(&value, (const char *)&config->limits + info->offset,
		       sizeof(value));
		r = buf_printf(
			out,
			"%s\t\t// %s. In %s, %llu to %llu, default %llu.\n\t\t\"%s\": %llu",
			comma, info->what, info->unit, (unsigned long long)info->min,
			(unsigned long long)info->max, (unsigned long long)info->value,
			info->key, (unsigned long long)value);
		comma = ",\n";
	}
	return err_trace(r < 0 ? r : buf_append_string(out, "\n\t},\n"));
}

static int dump_settings(const struct queue_settings *s, struct buf *out)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < N_SETTING_NUMBERS; i++) {
		uint64_t value;

		memcpy(&value, (const char *)s + setting_numbers[i].offset,
		       sizeof(value));
		if (s->set & setting_numbers[i].bit)
			r = buf_printf(out, ", \"%s\": %llu", setting_numbers[i].key,
				       (unsigned long long)value);
	}
	if (r == 0 && s->set & SETTING_DURABLE)
		r = buf_printf(out, ", \"durable\": %s", s->durable ? "true" : "false");
	if (r < 0 || !(s->set & SETTING_BACKOFF))
		return err_trace(r);
	r = buf_append_string(out, ", \"backoff\": [");
	for (unsigned int i = 0; r == 0 && i < s->n_backoff; i++)
		r = buf_printf(out, "%s%llu", i ? ", " : "",
			       (unsigned long long)s->backoff_ms[i]);
	return err_trace(r < 0 ? r : buf_append_string(out, "]"));
}

static int dump_rules(const struct rules *rules, struct buf *out)
{
	int r = buf_append_string(
		out, "\t// For names of a pattern (* one token, ** the rest); the most "
		     "specific wins.\n\t\"rules\": [");

	for (size_t i = 0; r == 0 && i < rules->n; i++) {
		const struct rule *rule = &rules->rules[i];

		r = buf_printf(out, "%s\n\t\t// %s\n\t\t{ \"names\": \"%s\"",
			       i ? "," : "", rule->where, rule->pattern);
		if (r == 0 && rule->has_owner)
			r = buf_printf(out, ", \"owner\": \"%u\"", rule->owner);
		if (r == 0 && rule->has_group)
			r = buf_printf(out, ", \"group\": \"%u\"", rule->group);
		if (r == 0 && rule->has_mode)
			r = buf_printf(out, ", \"mode\": \"%04o\"", rule->mode);
		if (r == 0)
			r = dump_settings(&rule->settings, out);
		if (r == 0)
			r = buf_append_string(out, " }");
	}
	return err_trace(r < 0 ? r
			       : buf_append_string(out, rules->n ? "\n\t]\n" : "]\n"));
}

static int dump_text(struct buf *out, const char *what, const char *key,
		     const char *value)
{
	_cleanup_buf_ struct buf line = BUF_INIT;
	CLEANUP(json_writer_freep) struct json_writer *w = NULL;
	int r = json_writer_new(&w);

	if (r == 0) {
		json_writer_begin(w, &line);
		json_put_text(w, key, value ? value : "");
		r = json_writer_end(w);
	}
	if (r == 0) /* without the braces; what is not said is a comment */
		r = buf_printf(out, "\t// %s\n\t%s%.*s,\n", what, value ? "" : "// ",
			       (int)line.size - 2, line.data + 1);
	return err_trace(r);
}

int config_dump(const struct config *config, struct buf *out)
{
	const char *mode = !config->has_mode	 ? NULL
			   : config->system_mode ? "system"
						 : "user";
	int r = buf_append_string(out, "{\n");

	if (r == 0)
		r = dump_text(out, "Where to listen.", "socket", config->socket);
	if (r == 0)
		r = dump_text(out, "The state directory.", "state", config->state);
	if (r == 0)
		r = dump_text(
			out,
			"\"system\": names belong to their creators; \"user\": to the "
			"user of the daemon.",
			"mode", mode);
	if (r == 0)
		r = dump_text(out, "error, warning, notice, info or debug.", "log_level",
			      log_level_name(config->level));
	if (r == 0)
		r = dump_limits(config, out);
	if (r == 0)
		r = dump_rules(&config->rules, out);
	return err_trace(r < 0 ? r : buf_append_string(out, "}\n"));
}
