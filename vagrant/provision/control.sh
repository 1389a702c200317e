#!/bin/sh
# The control machine: the API server, and a node's part without pods, so that pods and Services are reached from here
# as well. As root.
. /opt/podwire/vagrant/provision/steps.sh
export KUBECONFIG=/etc/podwire/kubeconfig

serve() {
  /opt/podwire/.venv/bin/podwire install control --restart \
    --api-options "--listen $PODWIRE_CONTROL:6443 --listen 127.0.0.1:6443"
  await_answer "https://$PODWIRE_CONTROL:6443/readyz"
}

join() {
  /opt/podwire/.venv/bin/podwire install node --restart --kubeconfig /var/lib/podwire/api/admin.kubeconfig
  await_ready_node
  kubectl cordon "$PODWIRE_MACHINE"
}

# The user vagrant may use kubectl, on this machine only.
user() {
  home=$(getent passwd vagrant | cut -d: -f6)
  install -d -m 700 -o vagrant -g vagrant "$home/.kube"
  install -m 600 -o vagrant -g vagrant /var/lib/podwire/api/admin.kubeconfig "$home/.kube/config"
}

step "podwire-api" "read journalctl -u podwire-api on the machine." serve
step "podwire-node and podwire-proxy" "read journalctl -u podwire-node on the machine." join
step "kubectl for the user vagrant" "see that the box has a user vagrant." user
