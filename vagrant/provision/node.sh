#!/bin/sh
# A node: pods and Services. Its kubeconfig is already there. As root.
. /opt/podwire/vagrant/provision/steps.sh
export KUBECONFIG=/etc/podwire/kubeconfig

join() {
  /opt/podwire/.venv/bin/podwire install node pods --restart --pods-options "--cgroup-parent podwire.slice"
}

step "podwire-node, podwire-proxy and podwire-pods" "read journalctl -u 'podwire-*' on the machine." join
step "node is Ready" "see that the machine reaches $PODWIRE_CONTROL:6443; read journalctl -u podwire-node." await_ready_node
