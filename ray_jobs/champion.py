"""The alias `champion` and every move it ever made."""

import getpass
import json
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Literal, NamedTuple, Self

from registry_mutex import Held, registry_mutex

# isort: split
from mlflow import MlflowClient, MlflowException

from colorization.config import ConfigError

ALIAS = "champion"
MOVE_TAG = "champion.move."
_LONGEST = 4000  # characters of a move's JSON; databases hold 5000 of a registered model's tag

State = Literal["begun", "done", "interrupted"]


@dataclass(frozen=True)
class Move:
    """The alias went from one version to another; None: there was no champion."""

    number: int  # from 1
    time: str  # UTC, ISO 8601
    before: str | None
    after: str | None
    policy: str  # if-better, always, rollback; elsewhere: found, and not made by these jobs
    why: str
    who: str
    state: State = "done"

    def to_tag(self) -> tuple[str, str]:
        """Return key and value of the registered model's tag that keeps it."""
        why = self.why
        while True:
            text = json.dumps({**asdict(self), "why": why})
            if len(text) <= _LONGEST:
                return f"{MOVE_TAG}{self.number:04d}", text
            why = f"{why[: len(why) * 3 // 4 - 4]} ..."

    @classmethod
    def of_tag(cls, key: str, value: str) -> Self:
        """Read a tag; raises ConfigError for one that was edited and says nothing any more."""
        try:
            return cls(**json.loads(value))
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"the registered model's tag {key} is no move of the champion: {error}; delete it "
                "in MLflow's page"
            ) from error


class Champion:
    """Who is champion of a registered model, and who was.

    Raises MlflowException where the registry does not answer.
    """

    def __init__(
        self, client: MlflowClient, model_name: str, say: Callable[[str], None] = print
    ) -> None:
        self._client = client
        self._name = model_name
        self._say = say

    @property
    def version(self) -> str | None:
        """The version that the alias names now."""
        aliases = self._client.get_registered_model(self._name).aliases
        return str(aliases[ALIAS]) if ALIAS in aliases else None

    @property
    def moves(self) -> list[Move]:
        """All moves, the oldest first."""
        tags = self._client.get_registered_model(self._name).tags
        keys = [key for key in tags if re.fullmatch(re.escape(MOVE_TAG) + r"\d+", key)]
        return sorted((Move.of_tag(key, tags[key]) for key in keys), key=lambda move: move.number)

    @contextmanager
    def turn(self) -> Iterator["Turn"]:
        """Keep others from moving the alias for a moment, after the history was made true.

        A move is written down as begun, then made, then written down as done, so that one that was
        cut short is found here: it is completed in the history where the alias moved, and marked as
        interrupted where it did not. A move made elsewhere, in MLflow's page, is written down when
        it is found.
        """
        with registry_mutex(self._client, self._name, self._say) as held:
            moves = self.moves
            version = self.version
            if moves and moves[-1].state == "begun":
                state = "done" if moves[-1].after == version else "interrupted"
                moves[-1] = replace(moves[-1], state=state)
                self._write(moves[-1])
            known = next((m.after for m in reversed(moves) if m.state == "done"), version)
            if known != version:
                why = f"found to have moved without these jobs, before {_now()}"
                number = moves[-1].number + 1
                moves.append(Move(number, _now(), known, version, "elsewhere", why, "unknown"))
                self._write(moves[-1])
            yield Turn(held, version, moves)

    def move(self, turn: "Turn", target: str, policy: str, why: str) -> Move:
        """Make a version the champion in one's turn, once, and write it down."""
        number = turn.moves[-1].number + 1 if turn.moves else 1
        move = Move(number, _now(), turn.version, target, policy, why, _who(), "begun")
        self._write(move)
        turn.held.require()
        self._client.set_registered_model_alias(self._name, ALIAS, target)
        done = replace(move, state="done")
        self._write(done)
        return done

    def _write(self, move: Move) -> None:
        self._client.set_registered_model_tag(self._name, *move.to_tag())


class Turn(NamedTuple):
    """Who is champion and who was, while nobody else moves the alias."""

    held: Held
    version: str | None
    moves: Sequence[Move]


def lineage(moves: Sequence[Move]) -> list[str | None]:
    """Return the champions that rollbacks go back through; the last is that of today.

    A rollback takes away what it left, so that the next one goes further back.
    """
    line: list[str | None] = []
    for move in moves:
        if move.state != "done":
            continue
        if not line:
            line.append(move.before)
        if move.policy == "rollback":
            line.pop()
        else:
            line.append(move.after)
    return line


def roll_back(client: MlflowClient, model_name: str, why: str, say: Callable[[str], None]) -> Move:
    """Make the champion before today's the champion again.

    Raises ConfigError where there was none, or it was deleted since.
    """
    champion = Champion(client, model_name, say)
    with champion.turn() as turn:
        *before, today = lineage(turn.moves) or [turn.version]
        target = before[-1] if before else None
        if target is None:
            raise ConfigError(
                f"--rollback: {model_name} had no champion before "
                f"{f'version {today}' if today else 'any'}: there is nothing to go back to"
            )
        try:
            client.get_model_version(model_name, target)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            earlier = [f"version {version}" for version in before[:-1] if version]
            raise ConfigError(
                f"--rollback: version {target} of {model_name}, the champion before version "
                f"{today}, was deleted; "
                + (f"before it were {', '.join(earlier)}; " if earlier else "")
                + "`promote.py MODEL VERSION --policy always` chooses one"
            ) from error
        return champion.move(turn, target, "rollback", why)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container with a bare user number
        user = "unknown"
    return f"{user} on {socket.gethostname()}"
