"""Runs the checks in order and prints a line for each; those after a failed one still run where they can."""

import argparse
import sys
import time
from collections.abc import Callable

from scenario import checks, cluster, harm
from scenario.cluster import NAMESPACE, Stage
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


def main() -> int:
    parser = argparse.ArgumentParser(prog="vagrant/smoke", description=__doc__)
    parser.add_argument("--gentle", action="store_true", help="restart no machine")
    arguments = parser.parse_args()
    with machines() as found:
        try:
            stage = cluster.open_stage(found)
        except Failed:
            return 1
        failed = sum(not held(check, stage) for check in (*GENTLE, *(() if arguments.gentle else HARMFUL)))
        stage.kubectl(f"delete namespace {NAMESPACE} --ignore-not-found")
    len(GENTLE) + (0 if arguments.gentle else len(HARMFUL))
    return 1 if failed else 0


def held(check: Check, stage: Stage) -> bool:
    _title, function = check
    time.monotonic()
    try:
        _detail, mark = function(stage), "✓"
    except Failed as error:
        _detail, mark = str(error), "✗"
    return mark == "✓"


if __name__ == "__main__":
    sys.exit(main())
