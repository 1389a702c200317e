"""Many pods at once, as when a node restarts: 64 of them, 32 at a time, until the last one is served."""

import contextlib
from collections.abc import Iterator

from tests import namespaces
from tests.bench.cni_place import place
from tests.bench.timing import Comparison, compare

TITLE = "64 pods, 32 at once"
PODS, AT_ONCE, ROUNDS = 64, 32, 3


def measure() -> Iterator[Comparison]:
    with contextlib.ExitStack() as stack:
        pods = [stack.enter_context(namespaces.namespace("pod")) for _ in range(PODS)]
        for masquerade, suffix in ((False, ""), (True, " with ipMasq and a hostPort")):
            with place(masquerade=masquerade) as (ours, peer):
                times = []
                for _ in range(ROUNDS + 1):
                    round_times = [
                        (each.add_all(pods, AT_ONCE), each.delete_all(pods, AT_ONCE)) for each in (ours, peer)
                    ]
                    times.append(round_times)
                for verb, index in (("ADD", 0), ("DEL", 1)):
                    mine, theirs = ([each[who][index] for each in times] for who in (0, 1))
                    yield compare(
                        f"{verb} of 64{suffix}", iter(mine).__next__, iter(theirs).__next__, rounds=ROUNDS, warmup=0
                    )
