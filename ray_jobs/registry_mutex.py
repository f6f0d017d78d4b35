"""One process at a time changes who is champion: a mutex that lives in MLflow's registry."""

import json
import os
import random
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient, MlflowException

SUFFIX = ".promoting"
STALE = 120.0  # seconds that others see one holder before they break its lock
PATIENCE = 600.0  # seconds
_POLL = 0.1  # seconds, half of it at least
_KEPT = 3600.0  # seconds that what is left of a broken lock stays

Say = Callable[[str], None]


class MutexLost(RuntimeError):
    """The lock was held for so long that another process may have broken it."""


class MutexBusy(RuntimeError):
    """Others hold the lock for longer than anyone should wait."""


@dataclass
class Held:
    """A lock that this process holds."""

    name: str
    token: str
    stale: float
    started: float = field(default_factory=time.monotonic)

    def require(self) -> None:
        """Call before what must not be done by two: raises MutexLost once the time is up."""
        if (held := time.monotonic() - self.started) > self.stale / 2:
            raise MutexLost(
                f"{self.name} was held for {held:.0f} s, too long to be sure that no other process "
                "has taken it over: nothing was done; try again"
            )


@contextmanager
def registry_mutex(
    client: MlflowClient,
    model_name: str,
    say: Say,
    *,
    stale: float = STALE,
    patience: float = PATIENCE,
) -> Iterator[Held]:
    """Keep every other process that asks likewise out, on this machine and on others.

    MLflow has no compare-and-set, but names of registered models are unique in every store, and
    creating or renaming one either succeeds or fails. The lock is a registered model NAME.promoting
    whose description says who holds it. It is freed, and that of a dead holder broken, by renaming
    it to a name that only this holder's lock can get, NAME.promoting.TOKEN: of all who try, one
    succeeds, and nobody removes a lock that is not the one he looked at. That name is deleted when
    it is freed in time, and otherwise kept for an hour (by the next holder), so that late
    breakers fail.

    A lock is broken, with a message, where its holder was a process of this machine that is gone,
    or where this process has seen it unchanged for `stale` seconds by its own clock; clocks of
    different machines are never compared.

    Guaranteed: two processes hold it only if one stays in for over `stale` seconds. Such a one
    (suspended, or before a server that hangs) is told by `Held.require`, which every change
    should follow at once, and by MutexLost at the end. Not guaranteed, as by no lock with a time
    limit: that a request sent in time is not carried out by the server after that time.

    Raises MutexBusy after `patience` seconds, MlflowException where the registry does not answer.
    """
    held = _acquire(client, f"{model_name}{SUFFIX}", say, stale, patience)
    try:
        yield held
    finally:
        _release(client, held)


def _acquire(client: MlflowClient, name: str, say: Say, stale: float, patience: float) -> Held:
    token = secrets.token_hex(8)
    description = json.dumps(
        {
            "what": "a lock, for the moment in which the champion changes",
            "token": token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _start(os.getpid()),
            "machine": _machine(),
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
    )
    started = time.monotonic()
    seen: str | None = None
    since = started
    while True:
        asked = time.monotonic()
        if _create(client, name, description, token):
            held = Held(name, token, stale, asked)
            _sweep(client, name)
            return held
        holder = _holder(client, name)
        if holder is None:
            continue  # it was freed just now
        if holder["token"] != seen:
            seen, since = holder["token"], time.monotonic()
        who = f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('time')}"
        gone = _is_gone(holder)
        if gone or time.monotonic() - since > stale:
            if _rename(client, name, holder["token"]):
                why = "that process is gone" if gone else f"for over {stale:.0f} s"
                say(f"the lock {name} of {who} was broken: {why}")
            continue
        if time.monotonic() - started > patience:
            raise MutexBusy(
                f"others have held {name} for {patience:.0f} s (now {who}): try again later"
            )
        time.sleep(_POLL * random.uniform(0.5, 1))


def _release(client: MlflowClient, held: Held) -> None:
    """Free the lock. Raises MutexLost where it is another's by now."""
    renamed = _rename(client, held.name, held.token)
    in_time = time.monotonic() - held.started <= held.stale / 2
    if in_time:
        # Also where renaming failed: a request that was sent again fails though the first did it.
        _delete(client, f"{held.name}.{held.token}")
    elif not renamed:
        raise MutexLost(
            f"{held.name} was held for over {held.stale / 2:.0f} s and was taken over by another "
            "process: look at the history, whether both moved the champion"
        )


def _create(client: MlflowClient, name: str, description: str, token: str) -> bool:
    try:
        client.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"):
            raise
        # Where a request was sent again after its answer was lost, the lock there is this one. The
        # second error is that of a lock that was freed while the store looked who has it.
        holder = _holder(client, name)
        return holder is not None and holder["token"] == token
    return True


def _rename(client: MlflowClient, name: str, token: str) -> bool:
    """Take a lock away under the name that is its token's; False where it was away already."""
    # Asked again after it was found overdue: if it is still there now, its holder will find itself
    # late and leave its name taken, so that the request below hits this lock or none.
    if (holder := _holder(client, name)) is None or holder["token"] != token:
        return False
    try:
        client.rename_registered_model(name, f"{name}.{token}")
    except MlflowException:
        # Which error it is depends on the moment: not found, or exists, or a lost update.
        holder = _holder(client, name)
        if holder is not None and holder["token"] == token:
            raise
        return False
    return True


def _delete(client: MlflowClient, name: str) -> None:
    try:
        client.delete_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def _holder(client: MlflowClient, name: str) -> dict[str, Any] | None:
    """Return what a lock says of its holder; None where there is no lock."""
    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    try:
        found = json.loads(model.description or "")
    except ValueError:
        found = None
    if isinstance(found, dict) and isinstance(found.get("token"), str):
        return found
    return {"token": f"{model.creation_timestamp}"}  # made by hand, or its description was edited


def _sweep(client: MlflowClient, name: str) -> None:
    """Delete what was left of locks that were broken long ago, by the store's own clock."""
    locks = client.search_registered_models(f"name LIKE '{name}%'")
    now = max((lock.creation_timestamp or 0 for lock in locks if lock.name == name), default=0)
    for lock in locks:
        changed = lock.last_updated_timestamp or now
        if lock.name.startswith(f"{name}.") and now - changed > _KEPT * 1000:
            _delete(client, lock.name)


def _machine() -> str | None:
    """Return what is equal for processes that see each other's ids; None where there is no telling.

    The host's name will not do: containers may share that, and not the ids.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _start(pid: int) -> str | None:
    """Return when a process was started, in ticks since the machine was; None where it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state == "Z" else fields[18]


def _is_gone(holder: dict[str, Any]) -> bool:
    """Tell whether a holder surely lives no more; ids of processes are given out again."""
    machine, pid, started = (holder.get(key) for key in ("machine", "pid", "started"))
    if machine is None or started is None or machine != _machine() or not isinstance(pid, int):
        return False
    return _start(pid) != started
