/* SPDX-License-Identifier: MIT */
#ifndef CLI_LIBARCHIVE_H
#define CLI_LIBARCHIVE_H

/*
 * libarchive, loaded when a directory is packed or unpacked. Were the command linked with it,
 * each start of it would load what libarchive can do beside, XML and Unicode among it: that
 * takes longer than to send a message.
 */

#include <archive.h>
#include <archive_entry.h>

/* What is used of it. */
#define LIBARCHIVE_FUNCTIONS(X)                    \
	X(archive_entry_copy_hardlink)             \
	X(archive_entry_copy_pathname)             \
	X(archive_entry_copy_symlink)              \
	X(archive_entry_filetype)                  \
	X(archive_entry_free)                      \
	X(archive_entry_hardlink)                  \
	X(archive_entry_linkify)                   \
	X(archive_entry_linkresolver_free)         \
	X(archive_entry_linkresolver_new)          \
	X(archive_entry_linkresolver_set_strategy) \
	X(archive_entry_new)                       \
	X(archive_entry_pathname)                  \
	X(archive_entry_perm)                      \
	X(archive_entry_set_dev)                   \
	X(archive_entry_set_filetype)              \
	X(archive_entry_set_ino)                   \
	X(archive_entry_set_mtime)                 \
	X(archive_entry_set_nlink)                 \
	X(archive_entry_set_perm)                  \
	X(archive_entry_set_size)                  \
	X(archive_entry_sparse_add_entry)          \
	X(archive_entry_sparse_clear)              \
	X(archive_entry_unset_size)                \
	X(archive_errno)                           \
	X(archive_error_string)                    \
	X(archive_read_data_block)                 \
	X(archive_read_free)                       \
	X(archive_read_new)                        \
	X(archive_read_next_header)                \
	X(archive_read_open)                       \
	X(archive_read_support_format_tar)         \
	X(archive_set_error)                       \
	X(archive_write_close)                     \
	X(archive_write_data)                      \
	X(archive_write_data_block)                \
	X(archive_write_disk_new)                  \
	X(archive_write_disk_set_options)          \
	X(archive_write_finish_entry)              \
	X(archive_write_free)                      \
	X(archive_write_header)                    \
	X(archive_write_new)                       \
	X(archive_write_open)                      \
	X(archive_write_set_bytes_in_last_block)   \
	X(archive_write_set_bytes_per_block)       \
	X(archive_write_set_format_pax_restricted)

#define X(function) __typeof__(function) *function;
struct libarchive {
	LIBARCHIVE_FUNCTIONS(X)
};
#undef X

/* Its functions: NULL before libarchive_load(). */
extern struct libarchive la;

/* NULL, or why it cannot be loaded, for a person. */
const char *libarchive_load(void);

#endif
