#!/bin/sh
# What every machine has, whatever its role: the other machines' names, podwire's environment, containerd. As root.
. /opt/podwire/vagrant/provision/steps.sh
cd /opt/podwire

names() {
  sed -i '/# podwire begin/,/# podwire end/d; /^127\.0\.[0-9]*\.1[[:space:]]*'"$PODWIRE_MACHINE"'$/d' /etc/hosts
  printf '# podwire begin\n%s\n# podwire end\n' "$PODWIRE_HOSTS" >>/etc/hosts
}

sources() {
  if [ -n "$PODWIRE_APT_PROXY" ]; then
    echo "Acquire::http::Proxy \"$PODWIRE_APT_PROXY\";" | write /etc/apt/apt.conf.d/90podwire || true
  else
    rm -f /etc/apt/apt.conf.d/90podwire
  fi
}

packages() {
  if [ -n "$PODWIRE_PIP_INDEX" ]; then export PIP_INDEX_URL="$PODWIRE_PIP_INDEX"; fi
  scripts/setup run
  absent=$(for package in containerd "$PODWIRE_RUNTIME" busybox-static containernetworking-plugins; do
    dpkg-query -W "$package" >/dev/null 2>&1 || echo "$package"
  done)
  # shellcheck disable=SC2086
  [ -z "$absent" ] || { apt-get update -qq; apt-get install -y -qq --no-install-recommends $absent; }
  for program in podwire kubectl; do ln -sf "/opt/podwire/.venv/bin/$program" /usr/local/bin/; done
}

# The interface is the one that has this machine's address; its name differs between providers and boxes.
mtu() {
  interface=$(ip -o -4 address show to "$PODWIRE_ADDRESS" | awk '{print $2}')
  [ -n "$interface" ] || { echo "no interface has $PODWIRE_ADDRESS"; exit 1; }
  ip link set "$interface" mtu "$PODWIRE_MTU"
  printf '[Match]\nMACAddress=%s\nType=ether\n[Link]\nNamePolicy=keep kernel database onboard slot path\nMTUBytes=%s\n' \
    "$(cat "/sys/class/net/$interface/address")" "$PODWIRE_MTU" | write /etc/systemd/network/60-podwire.link || true
}

runtime() {
  # containerd brings up lo by a plugin, and looks for it beside podwire's.
  mkdir -p /opt/cni/bin
  ln -sf /usr/lib/cni/loopback /opt/cni/bin/loopback
  if write /etc/containerd/config.toml <<TOML
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/podwire/pause:latest"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/opt/cni/bin"
  conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = true
  BinaryName = "/usr/$([ "$PODWIRE_RUNTIME" = runc ] && echo sbin || echo bin)/$PODWIRE_RUNTIME"
TOML
  then systemctl restart containerd; fi
  systemctl --quiet enable --now containerd
}

# Made of this machine's own files: nothing is fetched.
images() {
  digest=$(cat lab/echo.py lab/images/*.py /bin/busybox | sha256sum)
  if [ "$(cat /var/lib/podwire/images 2>/dev/null)" = "$digest" ]; then return; fi
  archive=$(mktemp)
  .venv/bin/python -c 'import sys, pathlib; from lab.images import own; own.write(pathlib.Path(sys.argv[1]))' "$archive"
  ctr --namespace k8s.io images import "$archive"
  rm -f "$archive"
  echo "$digest" | write /var/lib/podwire/images
}

step "names of the machines" "look at /etc/hosts." names
step "package sources" "look at apt_proxy in vagrant/config.yaml." sources
step "packages" "see that the machine reaches Debian's archive and the Python package index (apt_proxy, pip_index)." packages
step "MTU $PODWIRE_MTU" "see that the machine has its address in the private network." mtu
step "containerd with $PODWIRE_RUNTIME" "read journalctl -u containerd on the machine." runtime
step "images podwire/echo and podwire/pause" "read journalctl -u containerd on the machine." images
