"""The gates in the kernel: put up, looked at, taken away, each by its own keys and never by reading everybody's.

Elements belong to one attachment, and a call holds its attachment: nobody else changes them meanwhile.
"""

from collections.abc import Callable, Collection, Iterator

from cni import gate
from cni.gate import GUARDS, SETS, Gate, Held
from cni.spec import CniError, Code
from dataplane.errors import NotFound
from dataplane.nft.interface import LoadFailed, Nft, TransactionFailed
from dataplane.nft.objects import AddElements, DeleteElements, Operation


def put_up(nft: Nft, wanted: Gate) -> None:
    """Let pass the port what may. An earlier gate of the same port is replaced."""
    if wanted.is_open:
        return
    if nft.element(GUARDS, gate.port_key(wanted.veth)):  # of a pod that may have had other addresses
        sweep_away(nft, lambda port: port == wanted.veth)
    operations = _operations(AddElements, wanted.elements())
    try:
        nft.commit(operations)
    except (NotFound, TransactionFailed):  # the table, or a part of it, is not there
        _load(nft)
        nft.commit(operations)


def _load(nft: Nft) -> None:
    try:
        nft.load(gate.render(nft.table.name))
    except LoadFailed as error:
        msg = f"sourceCheck, macspoofchk and bandwidth need {gate.NEEDS}"
        raise CniError(Code.KERNEL_REFUSED, msg, f"remove them from the configuration: {error}") from error


def restore(nft: Nft, wanted: Gate) -> None:
    """Put back what is missing of a gate. The limits stay, whatever `wanted` says: nobody but the ADD knows them."""
    guard = nft.element(GUARDS, gate.port_key(wanted.veth))
    is_other = guard is not None and guard.value != wanted.check.verdict
    replaced = _operations(DeleteElements, {GUARDS: [guard] if guard and is_other else []})
    nft.commit([*replaced, *_operations(AddElements, wanted.elements())])


def take_away(nft: Nft, owned: Gate) -> None:
    """Remove what a pod with these addresses may have in the table."""
    if nft.element(GUARDS, gate.port_key(owned.veth)):
        held = {
            name: [one for one in elements if nft.element(name, one.key)]
            for name, elements in owned.candidates().items()
        }
        nft.commit(_operations(DeleteElements, held))


def sweep_away(nft: Nft, is_unwanted: Callable[[str], bool]) -> None:
    """Remove everything of ports whose addresses nobody knows any more, given by their names."""
    held = {
        name: [one for one in elements if is_unwanted(gate.port_of(one))] for name, elements in standing(nft).items()
    }
    if operations := _operations(DeleteElements, held):
        nft.commit(operations)


def standing(nft: Nft) -> Held:
    """Every element of the table."""
    try:
        return {name: nft.elements(name) for name in SETS}
    except NotFound:
        return {}


def ports_of(nft: Nft, network: str) -> Collection[str]:
    """The ports of a network that have a gate, whether they exist or not."""
    guards = standing(nft).get(GUARDS, ())
    return {gate.port_of(guard) for guard in guards if gate.network_of(guard) == network}


def problems(nft: Nft, wanted: Gate) -> Iterator[str]:
    """What is missing of a gate that shall stand."""
    if wanted.is_open:
        return
    if not is_whole(nft):
        yield f"table {nft.table} has lost rules"
    for name, elements in wanted.elements().items():
        for element in elements:
            if nft.element(name, element.key) != element:
                yield f"{wanted.veth} has lost its entry in {name} of table {nft.table}"


def is_whole(nft: Nft) -> bool:
    """Whether every rule of the table stands."""
    try:
        found = nft.all_rules()
    except NotFound:
        return False
    return {chain: len(rules) for chain, rules in found.items()} == gate.rule_counts()


def _operations(kind: type[AddElements] | type[DeleteElements], held: Held) -> list[Operation]:
    return [kind(name, tuple(held[name])) for name in SETS if held.get(name)]
