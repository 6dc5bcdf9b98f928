/* SPDX-License-Identifier: MIT */

/* Who a peer is, as the kernel says, see peer.h. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/utf8.h"
#include "peer.h"

int peer_read_credentials(int fd, struct ucred *ret_cred)
{
	socklen_t size = sizeof(*ret_cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret_cred, &size) < 0)
		return err_origin(-errno);
	return 0;
}

bool peer_has_group(const struct credentials *who, gid_t gid)
{
	const struct peer *peer =
		CONTAINER_OF((struct credentials *)(uintptr_t)who, struct peer, who);
	_cleanup_free_ gid_t *groups = NULL;
	socklen_t size = 64 * sizeof(gid_t);

	if (who->gid == gid)
		return true;
	/* the groups at connect time stay with the socket, unix(7): asked for when needed */
	for (int i = 0; i < 2; i++) {
		free(groups);
		groups = malloc(size);
		if (!groups)
			return false;
		if (getsockopt(peer->stream.fd, SOL_SOCKET, SO_PEERGROUPS, groups,
			       &size) == 0)
			break;
		if (errno != ERANGE)
			return false;
		size += sizeof(gid_t);
	}
	for (size_t i = 0; i < size / sizeof(gid_t); i++)
		if (groups[i] == gid)
			return true;
	return false;
}

void peer_read_command(const struct peer *peer, char command[static 32])
{
	char path[32];
	FILE *f;

	command[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/comm", peer->pid);
	f = peer->pid > 0 ? fopen(path, "re") : NULL;
	if (!f)
		return;
	if (!fgets(command, 32, f))
		command[0] = '\0';
	command[strcspn(command, "\n")] = '\0';
	if (!utf8_is_valid(command, strlen(command)))
		command[0] = '\0';
	fclose(f);
}

const char *peer_describe(const struct peer *peer)
{
	static char text[128];
	char command[32];

	peer_read_command(peer, command);
	snprintf(text, sizeof(text), "peer %llu (uid %u, pid %d, %s)",
		 (unsigned long long)peer->number, peer->who.uid, peer->pid,
		 command[0] ? command : "gone");
	return text;
}

struct bytes *peer_get_from(struct peer *peer)
{
	struct server *server = peer->server;
	struct json_writer *w = server->writer;
	struct buf out = BUF_INIT;

	if (peer->from)
		return bytes_ref(peer->from);
	json_writer_begin(w, &out);
	json_put_object(w, "from");
	json_put_u64(w, "uid", peer->who.uid);
	json_put_u64(w, "gid", peer->who.gid);
	json_put_u64(w, "pid", (uint64_t)peer->pid);
	json_put_text(w, "user", peer->user->name);
	json_put_end(w);
	if (json_writer_end(w) == 0) /* kept without the braces around it */
		peer->from = bytes_new_copy(out.data + 1, out.size - 2);
	buf_deinit(&out);
	return peer->from ? bytes_ref(peer->from) : NULL;
}
