"""Networks without numbers: their parts, shapes and parameters, for no memory and little time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


@contextmanager
def without_numbers() -> Iterator[None]:
    """Make tensors, and so networks, on torch's meta device; leave out what only gives numbers.

    Drawing weights and the power iterations of spectral norm would be played there operation by
    operation in Python, and take nine tenths of the time.
    """
    with torch.device("meta"), _NoNumbers():
        yield


class _NoNumbers(TorchFunctionMode):
    """Returns in place of drawn, normalized or multiplied numbers a tensor of their shape."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        if getattr(func, "__module__", "") == "torch.nn.init":
            return named["tensor"] if "tensor" in named else args[0]
        if func is F.normalize:
            out = named.get("out")
            return args[0] if out is None else out
        if func is torch.mv:
            return args[0].new_empty(len(args[0]))
        return func(*args, **named)
