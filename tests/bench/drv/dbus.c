/* SPDX-License-Identifier: MIT */

/*
 * dbus-daemon and dbus-broker, by sd-bus.
 *
 * Connections: authentication and Hello. Descriptors: a method call with one, that wants
 * no reply.
 */

#include "bench.h"

#include <stdio.h>

#include <systemd/sd-bus.h>

#define TAKER "bench.Taker"

static sd_bus *connect_bus(void)
{
	char address[256];
	const char *name;
	sd_bus *bus = NULL;

	snprintf(address, sizeof(address), "unix:path=%s", opt.address);
	must(sd_bus_new(&bus) >= 0);
	if (sd_bus_set_address(bus, address) >= 0 && sd_bus_set_bus_client(bus, 1) >= 0 &&
	    sd_bus_negotiate_fds(bus, 1) >= 0 && sd_bus_start(bus) >= 0 &&
	    sd_bus_get_unique_name(bus, &name) >= 0)
		return bus;
	return sd_bus_unref(bus);
}

static int hello(void)
{
	sd_bus *bus = connect_bus();

	return bus ? sd_bus_get_fd(bus) : -1;
}

static void *open_bus(void)
{
	sd_bus *bus = connect_bus();

	must(bus);
	return bus;
}

static void *open_taker(void)
{
	sd_bus *bus = open_bus();

	must(sd_bus_request_name(bus, TAKER, 0) >= 0);
	return bus;
}

static void give(void *bus, int fd)
{
	sd_bus_message *call;

	must(sd_bus_message_new_method_call(bus, &call, TAKER, "/bench", TAKER, "Take") >=
		     0 &&
	     sd_bus_message_append(call, "h", fd) >= 0 &&
	     sd_bus_message_set_expect_reply(call, 0) >= 0);
	must(sd_bus_send(bus, call, NULL) >= 0 && sd_bus_flush(bus) >= 0);
	sd_bus_message_unref(call);
}

static int get(void *bus)
{
	static sd_bus_message *message;
	int r, fd;

	for (;;) {
		message = sd_bus_message_unref(message);
		r = sd_bus_process(bus, &message);
		must(r >= 0);
		if (r == 0)
			must(sd_bus_wait(bus, UINT64_MAX) >= 0);
		else if (message &&
			 sd_bus_message_is_method_call(message, TAKER, "Take") > 0)
			break;
	}
	must(sd_bus_message_read(message, "h", &fd) >= 0);
	return fd;
}

int main(int argc, char **argv)
{
	static const struct driver driver = {
		.hello = hello,
		.open = open_bus,
		.open_getter = open_taker,
		.give = give,
		.get = get,
	};

	return bench_main(argc, argv, &driver, NULL);
}
