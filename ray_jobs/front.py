"""The part of the server that speaks HTTP, in a process of its own; it holds no model."""

import asyncio
from typing import TYPE_CHECKING, Any

from ray import serve
from ray.exceptions import RayActorError

from coloring_request import Answer, ColoringRequest, Refusal
from served_model import Standing
from web_app import build_app
from web_limits import Limits

if TYPE_CHECKING:
    from fastapi import FastAPI

APPLICATION, FRONT, COLORIST = "colorization", "front", "colorist"
_TRIES = 2  # a picture that ends a second process is not given to a third


class Replicas:
    """The replicas that color, behind the interface."""

    def __init__(self, shelf: Any) -> None:
        self._shelf = shelf
        self._colorists = serve.get_deployment_handle(COLORIST, APPLICATION)
        self._standing: Standing | None = None

    async def color(self, request: ColoringRequest) -> Answer:
        """Have a picture colored; where the process is lost that does it, by another one."""
        lost = ""
        for _ in range(_TRIES):
            response = self._colorists.color.remote(request)
            try:
                return await response
            except RayActorError as error:
                lost = type(error).__name__
            except asyncio.CancelledError:
                response.cancel()
                raise
        return Refusal(
            503, f"the process that colored the picture was lost, {_TRIES} times: {lost}"
        )

    async def standing(self) -> Standing:
        """Return what the server can do; what was said last while the shelf is started again."""
        try:
            self._standing = standing = await self._shelf.standing.remote()
        except RayActorError:
            if self._standing is None:
                raise
            return self._standing
        return standing

    async def replicas(self) -> dict[str, int]:
        """Count the replicas by state, as Serve's controller has them."""
        status = await asyncio.to_thread(serve.status)
        found = status.applications[APPLICATION].deployments[COLORIST].replica_states
        return {str(getattr(state, "value", state)): count for state, count in found.items()}


def front(shelf: Any, limits: Limits, loopback: bool, host: str) -> type:
    """Return the class of the deployment."""

    def build() -> "FastAPI":
        return build_app(Replicas(shelf), limits, loopback, host)

    return serve.ingress(build)()
