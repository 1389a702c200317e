"""A table of the kernel's nf_tables, behind `interface.Nft`.

Text goes through libnftables, everything else as netlink messages of our own: libnftables dumps the table before each
command, which on a large table costs more than the command itself.
"""

import contextlib
import errno
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

import nftables

from dataplane import errors, netns
from dataplane.nft import decode, encode, grace, wire
from dataplane.nft.interface import Failure, GenerationChanged, LoadFailed, TableMissing, TransactionFailed
from dataplane.nft.monitor import LinuxMonitor
from dataplane.nft.netfilter_socket import NetfilterSocket
from dataplane.nft.objects import Chain, Element, Expiring, InstalledRule, Operation, Passed, Table

T = TypeVar("T")
DUMP_ATTEMPTS = 20


@dataclass(slots=True)
class _Line:
    """What the tables of one namespace may share: a socket, whose turn it is, and who listens to changes of others."""

    netns_fd: int | None
    socket: NetfilterSocket
    lock: threading.RLock = field(default_factory=threading.RLock)
    monitor: LinuxMonitor | None = None


class LinuxNft:
    """One table in one network namespace. Threads may share it: their requests take turns."""

    def __init__(self, table: Table, *, netns_fd: int | None = None, line: _Line | None = None) -> None:
        """`line` is for `beside`."""
        self.table = table
        self._line = line or _Line(netns_fd, NetfilterSocket(netns_fd))

    def beside(self, table: Table) -> "LinuxNft":
        """Another table, through the same socket: the monitor of either passes over the transactions of both."""
        return LinuxNft(table, line=self._line)

    def close(self) -> None:
        self._line.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def load(self, ruleset: str) -> None:
        with self._change():
            code, _, message = self._run_text(ruleset)
            if code:
                raise LoadFailed("load nft text", detail=message.strip())

    def commit(self, operations: Sequence[Operation], *, generation: int | None = None) -> None:
        batch = encode.batch(self.table, operations, generation=generation)
        with self._change():
            answers = self._line.socket.transact(batch.payload)
            if answers:
                raise self._refusal(batch, answers)

    def settle(self) -> None:
        grace.await_readers()

    def generation(self) -> int:
        found = self._ask(wire.NFT_MSG_GETGEN, "read the ruleset's generation")
        return decode.generation(decode.fields(found)).number

    def table_exists(self) -> bool:
        try:
            self._ask(wire.NFT_MSG_GETTABLE, f"find table {self.table}")
        except errors.NotFound:
            return False
        return True

    def chains(self) -> tuple[Chain, ...]:
        request = f"list chains of table {self.table}"
        return self._settled(request, lambda: tuple(map(decode.chain, self._dump(wire.NFT_MSG_GETCHAIN, request))))

    def rules(self, chain: str) -> tuple[InstalledRule, ...]:
        request = f"list rules of chain {chain} in table {self.table}"
        only = wire.string(wire.NFTA_RULE_CHAIN, chain)
        return self._settled(request, lambda: tuple(map(decode.rule, self._dump(wire.NFT_MSG_GETRULE, request, only))))

    def all_rules(self) -> Mapping[str, tuple[InstalledRule, ...]]:
        request = f"list rules of table {self.table}"
        rules: dict[str, list[InstalledRule]] = {}
        for fields in self._settled(request, lambda: self._dump(wire.NFT_MSG_GETRULE, request)):
            installed = decode.rule(fields)
            rules.setdefault(installed.rule.chain, []).append(installed)
        return {chain: tuple(found) for chain, found in rules.items()}

    def elements(self, set_name: str) -> tuple[Element, ...]:
        request = f"list elements of set {set_name} in table {self.table}"
        which = wire.string(wire.NFTA_SET_ELEM_LIST_SET, set_name)

        def read() -> tuple[Element, ...] | None:
            found = self._dump(wire.NFT_MSG_GETSETELEM, request, which)
            elements = tuple(decode.elements(found))
            # A dump goes on by position. While the hash table grows (for some time after many elements were added)
            # positions move, and for each element seen twice another one is missed.
            return elements if len({element.key for element in elements}) == len(elements) else None

        return self._settled(request, read)

    def element(self, set_name: str, key: bytes) -> Element | None:
        request = f"find an element of set {set_name} in table {self.table}"
        try:
            found = self._ask(wire.NFT_MSG_GETSETELEM, request, encode.key_of(set_name, key))
        except errors.NotFound:
            return None
        return next(decode.elements([decode.fields(found)]), None)

    def counters(self, set_name: str) -> Mapping[bytes, Passed]:
        request = f"read counters of set {set_name} in table {self.table}"
        with self._line.lock:
            found = self._dump(wire.NFT_MSG_GETSETELEM, request, wire.string(wire.NFTA_SET_ELEM_LIST_SET, set_name))
        return {key: passed for fields in found for key, passed in decode.counters(fields)}

    def expiring(self, set_name: str) -> tuple[Expiring, ...]:
        request = f"read when elements of set {set_name} in table {self.table} expire"
        with self._line.lock:
            found = self._dump(wire.NFT_MSG_GETSETELEM, request, wire.string(wire.NFTA_SET_ELEM_LIST_SET, set_name))
        elements = {each.element.key: each for fields in found for each in decode.expiring(fields)}
        return tuple(elements.values())

    def list_ruleset(self) -> str:
        code, text, message = self._run_text(f"list table {self.table}")
        if code and not self.table_exists():
            raise errors.NotFound(f"list table {self.table}", errno.ENOENT)
        if code:
            raise errors.DataplaneError(f"list table {self.table}", detail=message.strip())
        return text

    def delete_table(self) -> None:
        with self._change():
            answers = self._line.socket.transact(encode.delete_table(self.table))
            refusals = [answer for answer in answers if answer.code != errno.ENOENT]
            if refusals:
                raise errors.from_errno(f"delete table {self.table}", refusals[0].code, detail=refusals[0].detail)

    def monitor(self) -> LinuxMonitor:
        self._line.monitor = LinuxMonitor(self._line.netns_fd)
        return self._line.monitor

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        monitor = self._line.monitor
        unheard = monitor.suspended(self._announced_generation) if monitor else contextlib.nullcontext()
        with self._line.lock, unheard:
            yield

    def _announced_generation(self) -> int:
        """The generation, once everybody was told of it: the kernel raises it before it sends the notices.

        Transactions are made one after the other, notices included, so an empty one waits for the one in progress.
        """
        number = self.generation()
        self._line.socket.transact(encode.batch(self.table, ()).payload)
        return number

    def _run_text(self, text: str) -> tuple[int, str, str]:
        # libnftables opens a socket of its own, in the namespace of the thread that makes the context.
        def run() -> tuple[int, str, str]:
            code, output, message = nftables.Nftables().cmd(text)
            return code, output, message

        return run() if self._line.netns_fd is None else netns.run_in(self._line.netns_fd, run)

    def _ask(self, kind: int, request: str, attributes: bytes = b"") -> decode.Message:
        with self._line.lock:
            sequence = self._line.socket.next_sequence()
            return self._line.socket.ask(
                encode.request(self.table, kind, attributes, sequence=sequence), sequence, request
            )

    def _settled(self, request: str, read: Callable[[], T | None]) -> T:
        """Read until the ruleset stood still meanwhile. The kernel itself marks only some of the mixed dumps."""
        with self._line.lock:
            for _ in range(DUMP_ATTEMPTS):
                before = self.generation()
                found = read()
                if found is not None and self.generation() == before:
                    return found
        raise errors.DataplaneError(request, errno.EINTR, detail=f"it changed during each of {DUMP_ATTEMPTS} attempts")

    def _dump(self, kind: int, request: str, attributes: bytes = b"") -> list[dict[int, bytes]]:
        sequence = self._line.socket.next_sequence()
        question = encode.request(self.table, kind, attributes, flags=wire.NLM_F_DUMP, sequence=sequence)
        messages = self._line.socket.dump(question, sequence, request)
        # The kernel filters by family, and not every kind of object by table too.
        found = (decode.fields(message) for message in messages if message.family == self.table.family)
        name = wire.text(self.table.name)
        return [fields for fields in found if fields.get(wire.NFTA_TABLE_NAME) == name]

    def _refusal(self, batch: encode.Batch, answers: list[decode.Answer]) -> errors.DataplaneError:
        request = f"commit to table {self.table}"
        failures = _failures(batch, answers)
        whole = next((answer for answer in answers if answer.sequence == encode.BATCH_SEQUENCE), answers[0])
        if whole.code == errno.ERESTART:
            return GenerationChanged(request, whole.code)
        if all(failure.code == errno.ENOENT for failure in failures) and not self.table_exists():
            return TableMissing(request, errno.ENOENT)
        code = failures[0].code if failures else whole.code
        detail = failures[0].detail if failures else whole.detail
        return TransactionFailed(request, code, failures=failures, detail=detail)


def _failures(batch: encode.Batch, answers: list[decode.Answer]) -> tuple[Failure, ...]:
    """The first refusal of each operation, in the order of operations."""
    failures: dict[int, Failure] = {}
    for answer in answers:
        if answer.sequence != encode.BATCH_SEQUENCE:
            index, first = batch.origin(answer.sequence)
            failures.setdefault(index, Failure(index, answer.code, _element(batch, answer, first), answer.detail))
    return tuple(failures[index] for index in sorted(failures))


def _element(batch: encode.Batch, answer: decode.Answer, first: int) -> int | None:
    position = decode.element_at(batch.message(answer.sequence), answer.offset) if answer.offset else None
    return None if position is None else first + position
