"""Runs the checks in order and prints a line for each; those after a failed one still run where they can."""

import argparse
import sys
import time
from collections.abc import Callable

from scenario import checks, cluster, harm
from scenario.cluster import Stage
from scenario.machines import Failed, machines

Check = tuple[str, Callable[[Stage], str]]

GENTLE: tuple[Check, ...] = (
    ("all machines are Ready nodes", checks.nodes_are_ready),
    ("pods run in containers on every node", checks.pods_run),
    ("ping: pods and machines", checks.everybody_reaches_everybody),
    ("Service: strict turn", checks.services_take_turns),
    ("Service: ClientIP affinity", checks.affinity_holds),
    ("Service: NodePort", checks.node_ports_answer),
    ("a deleted pod leaves the turn", checks.a_deleted_pod_leaves),
)
HARMFUL: tuple[Check, ...] = (
    ("a node restarts", harm.a_node_restarts),
    ("a node loses its power", harm.a_node_loses_its_power),
    ("it gets power again", harm.a_node_gets_power_again),
    ("ping: pods and machines, afterwards", checks.everybody_reaches_everybody),
    ("Service: strict turn, afterwards", checks.services_take_turns),
)
_WIDTH = max(len(title) for title, _ in (*GENTLE, *HARMFUL))


def main() -> int:
    parser = argparse.ArgumentParser(prog="vagrant/smoke", description=__doc__)
    parser.add_argument("--gentle", action="store_true", help="restart no machine")
    arguments = parser.parse_args()
    began = time.monotonic()
    try:
        with machines() as found:
            stage = cluster.open_stage(found)
            verdicts = [held(check, stage) for check in (*GENTLE, *(() if arguments.gentle else HARMFUL))]
            stage.clear()
    except Failed as error:
        tell(f"✗ {error}")
        return 1
    tell(f"{verdicts.count(True)} of {len(verdicts)} hold; {time.monotonic() - began:.0f} s")
    return 0 if all(verdicts) else 1


def held(check: Check, stage: Stage) -> bool:
    """Print the table's line of a check. One that broke, for whatever reason, did not hold."""
    title, function = check
    began = time.monotonic()
    try:
        detail, good = function(stage), True
    except Failed as error:
        detail, good = str(error), False
    except Exception as error:  # noqa: BLE001 - the other checks still run, and the table says what this one met
        detail, good = f"the check itself broke: {error!r}", False
    tell(f"{'✓' if good else '✗'} {title:<{_WIDTH}} {time.monotonic() - began:>5.0f} s  {detail}")
    return good


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
