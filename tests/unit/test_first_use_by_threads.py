"""msgspec types, used for the first time by many threads at once: in processes of their own, for one may crash."""

import subprocess
import sys

import pytest

FIRST_USE = """
import sys, threading
import msgspec
from api.resources import conform
from api.resources.pod import shape
from cni import conf
from kube import objects, resources
from node import conflist

POD = {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}}
IPAM = {"type": "podwire-ipam", "ranges": [[{"subnet": "10.0.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
VALID = {"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]}
USES = [
    lambda: msgspec.convert(POD, objects.Pod),
    lambda: conform.conform(POD, resources.PODS, shape.Pod),
    lambda: conf.shaped({"ipam": IPAM, "prevResult": {"ips": [{"address": "10.0.0.2/24"}]}}),
    lambda: conf.parse_valid_attachments(VALID, "podwire"),
    lambda: conflist.pod_cidrs(b'{"plugins": [{"ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}]]}}]}'),
]
sys.setswitchinterval(1e-6)
start = threading.Barrier(4)
def use():
    for each in USES:
        start.wait()
        for _ in range(50):
            each()
threads = [threading.Thread(target=use) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""

# All that worker threads decode or convert to, in the agent, the proxy, the pod runners and the API server.
USED_BY_THREADS = (
    *("kube.objects.Node", "kube.objects.Pod", "kube.objects.Service", "kube.objects.ServiceCIDR"),
    *("kube.objects.EndpointSlice", "kube.objects.PodStatus", "kube.http._Page", "kube.errors._Status"),
    *("kube.events._List", "kube.events._Line", "kube.events._Identified", "kube.events._Versioned"),
    *("cni.wire_types.NetConf", "cni.wire_types.PreviousResult", "cni.wire_types.ValidAttachment"),
    *("cni.invoke._WireList", "cni.invoke._WirePlugin", "node.conflist._Conflist"),
    *("pods.cri.records._Info", "lab.runner.records.SandboxRecord"),
    *("lab.demo.traffic._Reply", "lab.state._Saved", "lab.supervisor.Report"),
    *("api.parameters._Token", "api.resources.pod.shape.Pod", "api.resources.service.shape.Service"),
    *("api.resources.shapes.Namespace", "api.resources.shapes.Node", "api.resources.shapes.EndpointSlice"),
    *("api.resources.shapes.ServiceCIDR", "api.resources.shapes.Lease", "api.resources.shapes.Event"),
)
# A Struct's description hangs on the class where only the collector sees it, a TypedDict's is an attribute.
DESCRIBED = """
import gc, importlib, sys
def is_described(kind):
    return hasattr(kind, "__msgspec_cache__") or any(type(each).__name__ == "StructInfo" for each in gc.get_referents(kind))
for name in sys.argv[1:]:
    module, _, kind = name.rpartition(".")
    if not is_described(getattr(importlib.import_module(module), kind)):
        print(name)
"""


@pytest.mark.parametrize("attempt", range(6))
def test_threads_that_first_use_a_type_at_once_do_not_crash(attempt):
    assert subprocess.run([sys.executable, "-c", FIRST_USE], timeout=120).returncode == 0


def test_what_threads_use_is_described_before_they_start():
    done = subprocess.run(
        [sys.executable, "-c", DESCRIBED, *USED_BY_THREADS], capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.stderr) == ("", "")
