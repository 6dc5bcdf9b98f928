# SPDX-License-Identifier: MIT
#
# The daemon shares libipc's lower layers, never its client side.

IPCD_SRC := $(wildcard daemon/*.c)
IPCD     := $B/ipcd

$B/daemon/%.o: INCLUDES = -Ilibipc $(call pkg_cflags,$(IPCD_PKGS)) $(PKG_CFLAGS)

$(IPCD): $(call objects,$(IPCD_SRC)) $(CORE_OBJ)
	@$(if $V,,echo '  LINK    $@')
	$(Q)$(LINK_EXE) -pthread -o $@ $(filter %.o,$^) $(IPCD_LIBS) $(LDLIBS)

$(call install_files,755,$(BINDIR),$(IPCD))
$(call install_pages,$(wildcard daemon/*.[1-8]))

# ---- Pages with limits in them, see libipc/module.mk -----------------------------------

IPCD_PAGES := $(patsubst %.in,$B/%,$(wildcard daemon/*.in))

$B/daemon/%: daemon/%.in $(PAGE_SOURCES)
	@mkdir -p $(@D)
	@$(if $V,,echo '  GEN     $@')
	$(EXPAND_PAGE)

$(call install_pages,$(IPCD_PAGES))
$B/log/lint/man.result: $(IPCD_PAGES)
$B/log/integration/conf_example.result: $(IPCD_PAGES)
