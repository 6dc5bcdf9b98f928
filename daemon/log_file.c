/* SPDX-License-Identifier: MIT */

#include "log_file.h"

#include <pthread.h>
#include <sqlite3.h>
#include <string.h>

#include "base/util.h"

/* A page of SQLite's has 64 KiB at most; and its own layer writes less than 128 KiB at once. */
enum { GATHER_BYTES = 120 * 1024 };

struct log_file {
	sqlite3_file base;
	sqlite3_file *below; /* in the memory behind this */
	sqlite3_int64 at;    /* where what has gathered belongs */
	int n;
	char *gathered;
};

static const char layer_name[] = "ipcd";

static struct log_file *log_file_of(sqlite3_file *base)
{
	return CONTAINER_OF(base, struct log_file, base);
}

static sqlite3_file *below_of(sqlite3_file *base)
{
	return log_file_of(base)->below;
}

/* Before something else is done. What cannot be written stays: the transaction goes on for
 * SQLite, if the other is what fails. */
static int write_first(struct log_file *log)
{
	int rc = SQLITE_OK;

	if (log->n)
		rc = log->below->pMethods->xWrite(log->below, log->gathered, log->n,
						  log->at);
	if (rc == SQLITE_OK)
		log->n = 0;
	return rc;
}

/* For a write or sync, which ends the transaction if it fails. */
static int write_gathered(struct log_file *log)
{
	int rc = write_first(log);

	log->n = 0;
	return rc;
}

/* ---- what SQLite does with the log ---- */

/* What has not been synced belongs to no commit. */
static int log_close(sqlite3_file *base)
{
	struct log_file *log = log_file_of(base);
	int rc = log->below->pMethods->xClose(log->below);

	sqlite3_free(log->gathered);
	return rc;
}

static int log_write(sqlite3_file *base, const void *data, int size, sqlite3_int64 at)
{
	struct log_file *log = log_file_of(base);
	int rc = SQLITE_OK;

	if (log->n && (at != log->at + log->n || size > GATHER_BYTES - log->n))
		rc = write_gathered(log);
	if (rc != SQLITE_OK)
		return rc;
	if (size > GATHER_BYTES)
		return log->below->pMethods->xWrite(log->below, data, size, at);
	if (!log->n)
		log->at = at;
	memcpy(log->gathered + log->n, data, (size_t)size);
	log->n += size;
	return SQLITE_OK;
}

static int log_read(sqlite3_file *base, void *data, int size, sqlite3_int64 at)
{
	int rc = write_first(log_file_of(base));
	sqlite3_file *below = below_of(base);

	return rc == SQLITE_OK ? below->pMethods->xRead(below, data, size, at) : rc;
}

static int log_truncate(sqlite3_file *base, sqlite3_int64 size)
{
	int rc = write_first(log_file_of(base));
	sqlite3_file *below = below_of(base);

	return rc == SQLITE_OK ? below->pMethods->xTruncate(below, size) : rc;
}

static int log_sync(sqlite3_file *base, int flags)
{
	int rc = write_gathered(log_file_of(base));
	sqlite3_file *below = below_of(base);

	return rc == SQLITE_OK ? below->pMethods->xSync(below, flags) : rc;
}

static int log_size(sqlite3_file *base, sqlite3_int64 *ret_size)
{
	int rc = write_first(log_file_of(base));
	sqlite3_file *below = below_of(base);

	return rc == SQLITE_OK ? below->pMethods->xFileSize(below, ret_size) : rc;
}

static int log_lock(sqlite3_file *base, int level)
{
	return below_of(base)->pMethods->xLock(below_of(base), level);
}

static int log_unlock(sqlite3_file *base, int level)
{
	return below_of(base)->pMethods->xUnlock(below_of(base), level);
}

static int log_check_lock(sqlite3_file *base, int *ret_locked)
{
	return below_of(base)->pMethods->xCheckReservedLock(below_of(base), ret_locked);
}

static int log_control(sqlite3_file *base, int op, void *arg)
{
	return below_of(base)->pMethods->xFileControl(below_of(base), op, arg);
}

static int log_sector_size(sqlite3_file *base)
{
	return below_of(base)->pMethods->xSectorSize(below_of(base));
}

static int log_characteristics(sqlite3_file *base)
{
	return below_of(base)->pMethods->xDeviceCharacteristics(below_of(base));
}

static const sqlite3_io_methods log_methods = {
	.iVersion = 1,
	.xClose = log_close,
	.xRead = log_read,
	.xWrite = log_write,
	.xTruncate = log_truncate,
	.xSync = log_sync,
	.xFileSize = log_size,
	.xLock = log_lock,
	.xUnlock = log_unlock,
	.xCheckReservedLock = log_check_lock,
	.xFileControl = log_control,
	.xSectorSize = log_sector_size,
	.xDeviceCharacteristics = log_characteristics,
};

/* ---- the layer ---- */

static sqlite3_vfs *layer_below;

/* Behind struct log_file, aligned as SQLite's own memory. */
enum { BELOW_AT = (sizeof(struct log_file) + 15) / 16 * 16 };

static int open_log(sqlite3_vfs *layer, const char *name, struct log_file *log, int flags,
		    int *ret_flags)
{
	sqlite3_file *file = (sqlite3_file *)((char *)log + BELOW_AT);
	char *gathered = sqlite3_malloc(GATHER_BYTES);
	int rc = SQLITE_NOMEM;

	*log = (struct log_file){ 0 };
	if (gathered)
		rc = layer_below->xOpen(layer, name, file, flags, ret_flags);
	if (rc != SQLITE_OK) {
		sqlite3_free(gathered);
		return rc;
	}
	*log = (struct log_file){ { &log_methods }, file, 0, 0, gathered };
	return SQLITE_OK;
}

static int layer_open(sqlite3_vfs *layer, const char *name, sqlite3_file *file, int flags,
		      int *ret_flags)
{
	if (!(flags & SQLITE_OPEN_WAL))
		return layer_below->xOpen(layer, name, file, flags, ret_flags);
	return open_log(layer, name, (struct log_file *)file, flags, ret_flags);
}

static const char *registered;

static void register_layer(void)
{
	static sqlite3_vfs layer;

	layer_below = sqlite3_vfs_find(NULL);
	if (!layer_below)
		return;
	layer = *layer_below; /* but for opening it is the same */
	layer.pNext = NULL;
	layer.zName = layer_name;
	layer.szOsFile += BELOW_AT;
	layer.xOpen = layer_open;
	if (sqlite3_vfs_register(&layer, 0) == SQLITE_OK)
		registered = layer_name;
}

const char *log_file_layer(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, register_layer);
	return registered;
}
