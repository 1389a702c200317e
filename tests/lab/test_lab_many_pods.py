"""Thirty pods at once on three nodes."""

import concurrent.futures
import ipaddress
import itertools

from tests.lab.cluster import ask, echo_pod

COUNT = 30


def test_thirty_pods_created_at_once_have_addresses_of_their_own_and_all_reach_all(lab, space):
    lab.apply(*(echo_pod(f"pod-{number}", space) for number in range(COUNT)))
    pods = lab.ready_pods(space, COUNT, within=180)
    cidrs = {
        each["metadata"]["name"]: ipaddress.ip_network(each["spec"]["podCIDR"]) for each in lab.get("nodes")["items"]
    }

    assert len({pod.address for pod in pods.values()}) == COUNT
    assert {pod.node for pod in pods.values()} == set(cidrs)
    for pod in pods.values():
        assert ipaddress.ip_address(pod.address) in cidrs[pod.node]
    lab.assert_no_address_is_double_or_leaked()
    assert unreachable(pods.values()) == []


def unreachable(pods):
    """Return the pairs of which the first does not reach the second."""

    def check(pair):
        one, other = pair
        try:
            return None if ask(one.netns, other.address).pod == other.name else pair
        except OSError:
            return pair

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = pool.map(check, itertools.product(pods, repeat=2))
        return [(one.name, other.name) for one, other in filter(None, found)]
