"""How ranks find each other before they train: over which network, and who cannot be reached.

Left alone, gloo takes the address that a host's own name resolves to, which is often loopback, and
where a host cannot be reached the backends wait for half an hour and do not say which one it was.
So the ranks say first where they are, then each tries the others' doors.
"""

import itertools
import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from typing import NamedTuple

import psutil
from torch.distributed import DistStoreError
from torch.distributed.distributed_c10d import Store

from colorization.config import ConfigError

ARRIVAL = 300.0  # seconds within which all ranks have to come: their imports may be slow
PATIENCE_VARIABLE = "COLORIZATION_CONNECT_SECONDS"
GLOO, NCCL = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"
_ADVICE = (
    "a firewall or another network lies between them; GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME "
    "name the interfaces that are to be used"
)
_MOST_SAID = 3


class Unreachable(RuntimeError):
    """Ranks cannot reach each other; the message names them, their hosts and addresses."""


class Place(NamedTuple):
    """Where a rank is."""

    rank: int
    host: str
    address: str
    interface: str  # that carries the address; "" where none is known by it
    port: int  # of its door
    fault: str  # why it has no place in the network; "" where it has one

    def __str__(self) -> str:
        """Write it for a person: `rank 1 (host b, 10.0.0.3)`."""
        return f"rank {self.rank} (host {self.host}, {self.address})"


class Network(NamedTuple):
    """What carries the ranks' messages."""

    interface: str  # "" where none is known by the address
    hosts: int


def patience() -> float:
    """Return how many seconds another host has to answer in: COLORIZATION_CONNECT_SECONDS, or 30.

    Raises ConfigError for what is no number of seconds.
    """
    text = os.environ.get(PATIENCE_VARIABLE, "30")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"{PATIENCE_VARIABLE}: found {text!r}, a number of seconds is needed")
    return seconds


def await_first_rank(address: str, port: int, rank: int) -> None:
    """Wait until the first rank listens; raise Unreachable where its host does not answer at all.

    A host that refuses is there, and its rank still on its way.
    """
    allowed, started = patience(), time.monotonic()
    silent_since = started
    while True:
        try:
            socket.create_connection((address, port), timeout=allowed).close()
            return
        except ConnectionRefusedError as error:
            silent_since = time.monotonic()
            if silent_since - started > ARRIVAL:
                why = _why(error, ARRIVAL)
                raise Unreachable(f"rank 0 ({address}:{port}) has not come: {why}") from error
        except OSError as error:
            if time.monotonic() - silent_since >= allowed:
                here = f"rank {rank} (host {socket.gethostname()})"
                raise Unreachable(
                    f"rank 0 ({address}) cannot be reached from {here}: {_why(error, allowed)}; "
                    f"{_ADVICE}"
                ) from error
        time.sleep(0.2)


def meet(store: Store, rank: int, size: int, first: str, variable: str) -> Network:
    """Make sure that all ranks reach each other; return the network that carries their messages.

    `first` is the first rank's address as the others know it; `variable` the one by which a person
    may name an interface. Ranks of a single host meet on loopback. Raises Unreachable, on every
    rank with the same message.
    """
    allowed = patience()
    # The first rank knows itself by any name; what it is for others shows from the last one, which
    # is on another host if there are several.
    towards = first if rank or size == 1 else _read_place(store, size - 1).address or first
    place = find_place(rank, towards, variable)
    with ExitStack() as doors:
        if not place.fault:
            door = doors.enter_context(_open_door(place.address, size))
            place = place._replace(port=door.getsockname()[1])
        store.set(f"place-{rank}", json.dumps(place))
        places = [_read_place(store, other) for other in range(size)]
        store.set(f"verdict-{rank}", json.dumps(_knock_all(place, places, allowed)))
        verdicts = [fault for other in places for fault in _read_verdict(store, other, allowed)]
    if verdicts:
        more = f"; and {len(verdicts) - _MOST_SAID} more" if len(verdicts) > _MOST_SAID else ""
        advice = "" if any(other.fault for other in places) else f"; {_ADVICE}"
        raise Unreachable(f"{'; '.join(verdicts[:_MOST_SAID])}{more}{advice}")
    hosts = len({other.address for other in places})
    if hosts == 1 and variable not in os.environ:
        return Network(_loopback() or place.interface, hosts)
    return Network(place.interface, hosts)


def find_place(rank: int, towards: str, variable: str) -> Place:
    """Return where this process is, as seen from an address: its own address on the way there.

    Or on the interface that the variable names; several in it, or patterns as NCCL takes them: the
    first that there is.
    """
    host, interfaces = socket.gethostname(), _interfaces()
    named = os.environ.get(variable, "")
    if named and not named.startswith("^"):
        for name, (interface, addresses) in itertools.product(
            named.removeprefix("=").split(","), interfaces.items()
        ):
            if interface == name or (variable == NCCL and interface.startswith(name)):
                return Place(rank, host, addresses[0], interface, 0, "")
        fault = f"rank {rank} (host {host}) has no interface {named}, which {variable} names; "
        return Place(rank, host, "", "", 0, f"{fault}it has {', '.join(interfaces)}")
    try:
        address = _address_towards(towards)
    except OSError as error:
        fault = f"rank {rank} (host {host}) knows no way to {towards}: {error}"
        return Place(rank, host, "", "", 0, fault)
    carrying = [name for name, addresses in interfaces.items() if address in addresses]
    return Place(rank, host, address, carrying[0] if carrying else "", 0, "")


def _interfaces() -> Mapping[str, Sequence[str]]:
    """Return the interfaces that have addresses, those of version 4 first."""
    found: dict[str, list[str]] = {}
    for name, addresses in psutil.net_if_addrs().items():
        for family in (socket.AF_INET, socket.AF_INET6):
            of_family = [a.address.partition("%")[0] for a in addresses if a.family == family]
            found.setdefault(name, []).extend(of_family)
    return {name: addresses for name, addresses in found.items() if addresses}


def _loopback() -> str:
    loopback = [name for name, addresses in _interfaces().items() if "127.0.0.1" in addresses]
    return loopback[0] if loopback else ""


def _address_towards(other: str) -> str:
    """Return this host's address on the way to another; nothing is sent."""
    family, kind, _, _, target = socket.getaddrinfo(other, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(target)
        return probe.getsockname()[0]


def _open_door(address: str, size: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # Nobody has to be let in: that the system takes a connection shows the way.
    return socket.create_server((address, 0), family=family, backlog=size)


def _read_place(store: Store, rank: int) -> Place:
    try:
        store.wait([f"place-{rank}"], timedelta(seconds=ARRIVAL))
    except DistStoreError as error:
        raise Unreachable(f"rank {rank} has not come within {ARRIVAL:g} s") from error
    return Place(*json.loads(store.get(f"place-{rank}")))


def _knock_all(place: Place, places: Sequence[Place], allowed: float) -> list[str]:
    """Return a sentence for each rank of another host that this one does not reach."""
    if place.fault:
        return [place.fault]
    others = [p for p in places if not p.fault and p.address != place.address]
    with ThreadPoolExecutor(max_workers=max(1, len(others))) as pool:
        return [f for f in pool.map(lambda other: _knock(place, other, allowed), others) if f]


def _knock(place: Place, other: Place, allowed: float) -> str:
    try:
        source = (place.address, 0)
        socket.create_connection((other.address, other.port), allowed, source).close()
    except OSError as error:
        over = f" over {place.interface}" if place.interface else ""
        return f"{other} cannot be reached from {place}{over}: {_why(error, allowed)}"
    return ""


def _why(error: OSError, allowed: float) -> str:
    return f"no answer in {allowed:g} s" if isinstance(error, TimeoutError) else str(error)


def _read_verdict(store: Store, place: Place, allowed: float) -> list[str]:
    try:
        store.wait([f"verdict-{place.rank}"], timedelta(seconds=2 * allowed))
    except DistStoreError:
        return [f"{place} came and has said nothing since, for {2 * allowed:g} s"]
    return json.loads(store.get(f"verdict-{place.rank}"))
