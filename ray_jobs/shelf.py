"""Where the replicas of a server find its model, also while the registry is silent."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import ray

from served_model import ServedModel, Standing


@dataclass(frozen=True)
class Shelved:
    """A model, and which of those that were put there it is."""

    number: int
    model: ServedModel


@ray.remote(num_cpus=0, max_restarts=-1)
class Shelf:
    """Holds the newest model; those who have another are told when there is a newer one."""

    def __init__(self) -> None:
        self._held: Shelved | None = None
        self._registry = ""
        self._lacks: Mapping[str, str] = {}
        self._changed = asyncio.Condition()

    async def put(self, model: ServedModel, number: int) -> None:
        """Hold a model in place of the one before."""
        async with self._changed:
            self._held = Shelved(number, model)
            self._changed.notify_all()

    async def tell(self, registry: str) -> bool:
        """Take note of why the alias cannot be followed; return whether there is a model.

        There is none after the process of this shelf was lost.
        """
        self._registry = registry
        return self._held is not None

    async def other_than(self, number: int) -> Shelved:
        """Return the model, as soon as there is another one than that."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._held and self._held.number != number)
        assert self._held is not None
        return self._held

    async def lack(self, options: Mapping[str, str]) -> None:
        """Take note of the options that a replica cannot follow, and why."""
        self._lacks = options

    async def standing(self) -> Standing:
        """Return what is said of the model, and what stands against its alias and options."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._held)
        assert self._held is not None
        return Standing(self._held.model.about, self._registry, self._lacks)
