# SPDX-License-Identifier: MIT
#
# Units are made from *.in, since they name the installed daemon: system units here, user
# units in user/, and the files for sysusers.d and tmpfiles.d in folders of these names.

generated = $(patsubst %.in,$B/%,$(wildcard $1/*.in))

$(call install_files,644,$(UNITDIR),$(call generated,systemd))
$(call install_files,644,$(USERUNITDIR),$(call generated,systemd/user))
$(call install_files,644,$(SYSUSERSDIR),$(call generated,systemd/sysusers.d))
$(call install_files,644,$(TMPFILESDIR),$(call generated,systemd/tmpfiles.d))
