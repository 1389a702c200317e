"""What the agent's memory grows by when pods come and go: a leak shows in days on a node, here in 10,000 ADD and DEL.

The peer is the bound, not a program: the reference plugins have no process that lives.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests import namespaces
from tests.bench import cni_place
from tests.bench.timing import Comparison
from tests.cni_soak import Soak, resident_mb

TITLE = "The agent's memory"
WARM_UP, CALLS, BOUND_MB = 1_000, 10_000, 2.0


def measure() -> Iterator[Comparison]:
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(namespaces.namespace("node"))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        agent = stack.enter_context(cni_place.agent(node, directory / "cni.sock"))
        soak = Soak(node, directory, stack)
        soak.run(WARM_UP)
        before = resident_mb(agent.pid)
        soak.run(CALLS)
        grown = resident_mb(agent.pid) - before
        yield Comparison(
            name=f"growth over {CALLS:,} ADD and DEL (peer: the bound)",
            ours=grown,
            peer=BOUND_MB,
            ratio=grown / BOUND_MB,
            ours_range=(grown, grown),
            peer_range=(BOUND_MB, BOUND_MB),
            rounds=1,
            unit="MB",
        )
