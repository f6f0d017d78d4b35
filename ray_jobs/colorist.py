"""A replica of the server: it holds the model, colors pictures and takes each newer model."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from ray import serve
from ray.exceptions import RayActorError

from coloring_request import Answer, ColoringRequest, Refusal
from picture_service import Asked, PictureService
from shelf import Shelved

_NONE = -1  # the number of no model
_batched: Any = serve.batch  # whose types know of no methods


class Colorist:
    """Colors one batch of pictures at a time, in a thread beside the loop that takes requests.

    A newer model is loaded beside the one in use; requests go to whichever is there when their
    turn comes, so none waits or fails for it.
    """

    async def __init__(self, shelf: Any, batch: int, megapixels: float) -> None:
        """Wait for the first model and load it."""
        self._shelf, self._megapixels = shelf, megapixels
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._hands, self._eyes = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._together.set_max_batch_size(batch)
        self._together.set_batch_wait_timeout_s(0.01 if batch > 1 else 0)
        self._number = _NONE
        await self._take(await shelf.other_than.remote(_NONE))
        self._following = asyncio.create_task(self._follow())

    async def color(self, request: ColoringRequest) -> Answer:
        """Color a picture; what is wrong with the request is known before its turn comes."""
        loop = asyncio.get_running_loop()
        asked = await loop.run_in_executor(self._eyes, self._service.read, request)
        if isinstance(asked, Refusal):
            return asked
        try:
            return await self._together(asked)
        except asyncio.CancelledError:
            asked.abandoned.set()
            raise

    @_batched
    async def _together(self, asked: list[Asked]) -> Sequence[Answer | None]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._hands, self._service.answer, asked)

    async def _follow(self) -> None:
        while True:
            try:
                await self._take(await self._shelf.other_than.remote(self._number))
            except RayActorError:  # it is being started again
                await asyncio.sleep(1)

    async def _take(self, shelved: Shelved) -> None:
        colorizer = await asyncio.to_thread(shelved.model.load, self._device)
        service = PictureService(colorizer, shelved.model.about, self._megapixels)
        await self._shelf.lack.remote(await asyncio.to_thread(service.lacks))
        self._service = service
        self._number = shelved.number

    async def check_health(self) -> None:
        """Raise what kept this replica from a newer model: Serve puts a new one in its place."""
        if self._following.done():
            self._following.result()
