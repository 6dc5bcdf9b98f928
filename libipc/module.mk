# SPDX-License-Identifier: MIT
#
# base and wire are shared with the daemon, which links their objects; the library is all
# three folders. Only what libipc.map names is visible outside.

LIBIPC_CORE := $(wildcard libipc/base/*.c libipc/wire/*.c)
LIBIPC_SRC  := $(LIBIPC_CORE) $(wildcard libipc/client/*.c)
CORE_OBJ    := $(call objects,$(LIBIPC_CORE))
LIBIPC      := $B/libipc.so.$(VERSION)

$B/libipc/%.o: INCLUDES = -Ilibipc/include -Ilibipc $(PKG_CFLAGS) -fvisibility=hidden

# Undefined symbols are errors, but the sanitizers' own come from the program.
$(LIBIPC): $(call objects,$(LIBIPC_SRC)) libipc/libipc.map
	@$(if $V,,echo '  LINK    $@')
	$(Q)$(LINK) -shared -o $@ -Wl,-soname,libipc.so.$(SOVERSION) \
		-Wl,--version-script=libipc/libipc.map $(if $(SAN),,-Wl,-z,defs) \
		$(filter %.o,$^) $(PKG_LIBS) $(LDLIBS)
	$(Q)ln -sf $(@F) $B/libipc.so.$(SOVERSION)
	$(Q)ln -sf $(@F) $B/libipc.so

$(call install_files,755,$(LIBDIR),$(LIBIPC))
$(call install_files,644,$(LIBDIR)/pkgconfig,$B/libipc/libipc.pc)
$(call install_files,644,$(INCLUDEDIR)/ipc,libipc/include/ipc/ipc.h)
$(call install_pages,$(wildcard libipc/man/*.[1-8]))

# ---- Pages with the comments of ipc.h, the numbers of wire/limits.h and the words of
# wire/fault.h in them --------------------------------------------------------------------

LIBIPC_HEADER := libipc/include/ipc/ipc.h
EXPAND_PAGE   = $(Q)awk -f libipc/man/from-header.awk $(LIBIPC_HEADER) $< >$@.page && \
		sed 's|@VERSION@|$(VERSION)|g' $@.page | \
		CC='$(CC)' bash libipc/man/expand.sh >$@ && rm $@.page
PAGE_SOURCES := libipc/man/from-header.awk libipc/man/expand.sh $(LIBIPC_HEADER) \
		libipc/wire/limits.h libipc/wire/limits.c libipc/wire/fault.h $B/dirs
LIBIPC_PAGES := $(patsubst %.in,$B/%,$(wildcard libipc/man/*.in))

$B/libipc/man/%: libipc/man/%.in $(PAGE_SOURCES)
	@mkdir -p $(@D)
	@$(if $V,,echo '  GEN     $@')
	$(EXPAND_PAGE)

$(call install_pages,$(LIBIPC_PAGES))
$B/log/lint/man.result: $(LIBIPC_PAGES)
$B/log/integration/python_client.result: $(LIBIPC_PAGES)
