/* SPDX-License-Identifier: MIT */

/* dbus-daemon and dbus-broker, by sd-bus, as far as connections go: authentication and
 * Hello. */

#include "bench.h"

#include <stdio.h>

#include <systemd/sd-bus.h>

static int hello(void)
{
	char address[256];
	const char *name;
	sd_bus *bus = NULL;

	snprintf(address, sizeof(address), "unix:path=%s", opt.address);
	must(sd_bus_new(&bus) >= 0);
	if (sd_bus_set_address(bus, address) >= 0 && sd_bus_set_bus_client(bus, 1) >= 0 &&
	    sd_bus_start(bus) >= 0 && sd_bus_get_unique_name(bus, &name) >= 0)
		return sd_bus_get_fd(bus);
	sd_bus_unref(bus);
	return -1;
}

int main(int argc, char **argv)
{
	static const struct driver driver = { .hello = hello };

	return bench_main(argc, argv, &driver, NULL);
}
