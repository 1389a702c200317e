#!/bin/sh
# A machine that runs the tests. As root.
. /opt/podwire/vagrant/provision/steps.sh
cd /opt/podwire

packages() {
  if [ -n "$PODWIRE_PIP_INDEX" ]; then export PIP_INDEX_URL="$PODWIRE_PIP_INDEX"; fi
  scripts/setup test
}

step "packages" "see that the machine reaches Debian's archive and the Python package index (apt_proxy, pip_index)." packages
