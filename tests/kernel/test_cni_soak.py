"""The agent's memory over many pods; `make bench` does the same twenty times as long."""

import contextlib

from tests.bench.cni_place import agent
from tests.cni_soak import Soak, resident_mb


def test_memory_does_not_grow_with_pods_that_come_and_go(make_namespace, tmp_path):
    node = make_namespace("node")
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(agent(node, tmp_path / "cni.sock"))
        soak = Soak(node, tmp_path, stack)
        soak.run(200)

        def grows() -> bool:
            before = resident_mb(process.pid)
            soak.run(400)
            return resident_mb(process.pid) - before >= 2

        # The first time more of its threads are busy at once than ever before costs memory as well; a leak costs it always.
        assert not all(grows() for _ in range(3))
