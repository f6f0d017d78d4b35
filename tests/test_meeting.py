"""Ranks say where they are and try each other's doors before they train."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from torch.distributed import HashStore  # pyright: ignore[reportPrivateImportUsage]

from colorization.config import ConfigError
from colorization.meeting import (
    GLOO,
    NCCL,
    PATIENCE_VARIABLE,
    Network,
    Place,
    Unreachable,
    await_first_rank,
    find_place,
    meet,
    patience,
)

HOST = socket.gethostname()
LOOPBACK = next(
    name
    for name, addresses in psutil.net_if_addrs().items()
    if "127.0.0.1" in {a.address for a in addresses}
)


@pytest.fixture(autouse=True)
def no_wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (GLOO, NCCL):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(PATIENCE_VARIABLE, "0.5")


@pytest.fixture
def closed_door() -> Iterator[int]:
    """A port that answers nobody: whom the system may take in waits there already."""
    with socket.create_server(("127.0.0.2", 0), backlog=0) as door:
        port = door.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.2", port))
        yield port
        for one in waiting:
            one.close()


def all_meet(store: HashStore, size: int) -> list[Network | str]:
    """Let ranks of this host meet; return what each found, or its error."""

    def one(rank: int) -> Network | str:
        try:
            return meet(store, rank, size, "127.0.0.1", GLOO)
        except Unreachable as error:
            return str(error)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))


def test_ranks_of_one_host_meet_on_loopback() -> None:
    assert all_meet(HashStore(), 3) == [Network(LOOPBACK, 1)] * 3


def test_a_rank_that_is_alone_meets_itself() -> None:
    assert all_meet(HashStore(), 1) == [Network(LOOPBACK, 1)]


def test_a_host_that_does_not_answer_is_named_to_all_ranks_with_who_found_it_out(
    closed_door: int,
) -> None:
    store = HashStore()
    far = Place(2, "far", "127.0.0.2", "eth0", closed_door, "")
    store.set("place-2", json.dumps(far))
    store.set("verdict-2", json.dumps([]))

    def one(rank: int) -> str:
        with pytest.raises(Unreachable) as raised:
            meet(store, rank, 3, "127.0.0.1", GLOO)
        return str(raised.value)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(one, range(2))
    assert first == second
    for rank in range(2):
        assert (
            f"rank 2 (host far, 127.0.0.2) cannot be reached from rank {rank} "
            f"(host {HOST}, 127.0.0.1) over {LOOPBACK}: no answer in 0.5 s"
        ) in first
    assert "GLOO_SOCKET_IFNAME" in first


def test_a_rank_that_came_and_fell_silent_is_named() -> None:
    store = HashStore()
    store.set("place-1", json.dumps(Place(1, "far", "127.0.0.1", "eth0", 1, "")))
    with pytest.raises(Unreachable, match=r"rank 1 \(host far, .* said nothing since, for 1 s"):
        meet(store, 0, 2, "127.0.0.1", GLOO)


def test_an_interface_that_is_named_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GLOO, f"eth77,{LOOPBACK}")
    # Nobody is asked about the way: there is none to an empty name.
    place = find_place(1, "no.such.host.invalid", GLOO)
    assert (place.address, place.interface, place.fault) == ("127.0.0.1", LOOPBACK, "")


@pytest.mark.parametrize("pattern", ["={0}", "{0}", "eth77,{0}"])
def test_patterns_of_nccl_are_understood(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NCCL, pattern.format(LOOPBACK[:2]))
    assert find_place(0, "no.such.host.invalid", NCCL).interface.startswith(LOOPBACK[:2])


def test_an_interface_that_a_host_has_not_is_told_to_all_ranks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(GLOO, "eth77")
    found = all_meet(HashStore(), 2)
    assert found[0] == found[1]
    for rank in range(2):
        told = f"rank {rank} (host {HOST}) has no interface eth77, which GLOO_SOCKET_IFNAME names"
        assert told in str(found[0])


def test_the_interface_is_the_one_on_the_way_to_the_others() -> None:
    assert find_place(1, "127.0.0.1", GLOO).interface == LOOPBACK
    for name, addresses in psutil.net_if_addrs().items():
        for one in addresses:
            if one.family == socket.AF_INET and not one.address.startswith("127."):
                assert find_place(1, one.address, GLOO)[2:4] == (one.address, name)


def test_a_host_without_a_way_says_so() -> None:
    place = find_place(3, "no.such.host.invalid", GLOO)
    assert place.fault.startswith(f"rank 3 (host {HOST}) knows no way to no.such.host.invalid: ")


def test_the_first_rank_is_waited_for_while_its_host_refuses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    waiting = threading.Thread(target=await_first_rank, args=("127.0.0.1", port, 1))
    waiting.start()
    waiting.join(1.0)  # longer than a silent host is waited for
    assert waiting.is_alive()
    with socket.create_server(("127.0.0.1", port)):
        waiting.join(30)
        assert not waiting.is_alive()


def test_a_first_rank_whose_host_is_silent_is_given_up_soon(closed_door: int) -> None:
    started = time.monotonic()
    with pytest.raises(Unreachable) as raised:
        await_first_rank("127.0.0.2", closed_door, 1)
    assert time.monotonic() - started < 10
    assert str(raised.value).startswith(
        f"rank 0 (127.0.0.2) cannot be reached from rank 1 (host {HOST}): no answer in 0.5 s"
    )


@pytest.mark.parametrize("text", ["soon", "-1", "0", "inf", "nan", ""])
def test_a_patience_that_is_no_number_of_seconds_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE_VARIABLE, text)
    with pytest.raises(ConfigError, match=f"{PATIENCE_VARIABLE}: found '{text}', a number"):
        patience()


def test_a_store_that_is_asked_for_a_rank_that_never_comes_says_which(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("colorization.meeting.ARRIVAL", 0.2)
    with pytest.raises(Unreachable, match=r"rank 1 has not come within 0\.2 s"):
        meet(HashStore(), 0, 2, "127.0.0.1", GLOO)
