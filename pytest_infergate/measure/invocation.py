"""What a test passed to `infer`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from pytest_infergate.measure.tokens import TokenStreamer


class Invocation(NamedTuple):
    """A callable and its arguments."""

    target: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}  # noqa: RUF012 - never changed
    grad_mode: str = "inference_mode"
    """Function of torch under which a module runs: ``inference_mode``, ``no_grad``, ``enable_grad``."""

    streamer: TokenStreamer | None = None
    """What the callable may put its items into."""
    own_dtype: bool = False
    """Whether the test knows the dtype of the case, and may have built the callable in it."""

    def bound(self) -> Callable[[], Any]:
        """Return a call without arguments. A partial adds C code only between the clock and the target."""
        return functools.partial(self.target, *self.args, **self.kwargs)
