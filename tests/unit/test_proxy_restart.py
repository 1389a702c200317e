"""What is taken over from a table that was found, and what is not. Cluster IP 10.96.0.10, endpoints 10.244.0.2 and 3."""

from ipaddress import IPv4Address

import pytest

from dataplane.nft import expressions, values
from dataplane.nft.objects import Element
from dataplane.nft.values import Verdict
from proxy import layout, restart
from proxy import state as states
from proxy.identities import NOBODY, Assignment, Member
from proxy.model import ServiceName, ServicePort, ServicePortName, Target
from proxy.state import ChainContent, State

PORT = ServicePort(
    name=ServicePortName(ServiceName("default", "web"), "http", "TCP"), cluster_ip=IPv4Address("10.96.0.10"), port=80
)
FRONT = layout.frontend(PORT)
ONE, TWO = (Target(IPv4Address(f"10.244.0.{last}").packed, 8080) for last in (2, 3))
MARK = values.mark


def found() -> State:
    """A Service port with two endpoints, ids 7 and 8, at positions 40 and 41."""
    state = states.empty()
    state.add(layout.SERVICES, Element(FRONT, Verdict("goto", "svc-x")))
    state.chains["svc-x"] = ChainContent((expressions.ct_mark_set_numgen(2, 40), expressions.goto(layout.PICK)))
    for position, number, target in ((40, 7, ONE), (41, 8, TWO)):
        state.add(layout.RING, Element(MARK(position), MARK(number)))
        state.add(layout.ENDPOINTS, Element(MARK(number), layout.target_value(target)))
    return state


def test_ids_and_turns_are_taken_over():
    assert restart.adopted(found(), PORT) == Assignment((Member(ONE, 7), Member(TWO, 8)), 40)


def test_the_id_of_a_single_endpoint_is_taken_over():
    state = found()
    del state.elements[layout.SERVICES]
    state.add(layout.SINGLE_ENDPOINT, Element(FRONT, MARK(8)))

    assert restart.adopted(state, PORT) == Assignment((Member(TWO, 8),))


def test_an_endpoint_with_several_turns_is_taken_over():
    state = found()
    state.add(layout.RING, Element(MARK(41), MARK(7)))

    assert restart.adopted(state, PORT) == Assignment((Member(ONE, 7), Member(ONE, 7)), 40)


def drop(set_name: str, key: bytes):
    return lambda state: state.elements[set_name].pop(key)


def put(set_name: str, element: Element):
    return lambda state: state.add(set_name, element)


NONSENSE = {
    "no such Service": drop(layout.SERVICES, FRONT),
    "a verdict without a chain": put(layout.SERVICES, Element(FRONT, Verdict("drop"))),
    "a chain that is not there": put(layout.SERVICES, Element(FRONT, Verdict("goto", "svc-y"))),
    "a chain without rules": lambda state: state.chains.update({"svc-x": ChainContent(())}),
    "a position that is not there": drop(layout.RING, MARK(41)),
    "an endpoint that is not there": drop(layout.ENDPOINTS, MARK(8)),
    "one target with two ids": put(layout.ENDPOINTS, Element(MARK(8), layout.target_value(ONE))),
    "an endpoint without a value": put(layout.ENDPOINTS, Element(MARK(8))),
    "a ring without end": lambda state: state.chains.update(
        {"svc-x": ChainContent((expressions.ct_mark_set_numgen(0xFFFFFFFF, 0),))}
    ),
}


@pytest.mark.parametrize("damage", NONSENSE.values(), ids=NONSENSE.keys())
def test_what_makes_no_sense_is_not_taken_over(damage):
    state = found()
    damage(state)

    assert restart.adopted(state, PORT) == NOBODY
