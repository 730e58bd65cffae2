"""What a test handed to `infer`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple


class Invocation(NamedTuple):
    """A callable and its arguments."""

    target: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}  # noqa: RUF012 - a default that nobody changes

    def bound(self) -> Callable[[], Any]:
        """The call without arguments; C code alone stands between the clock and the target."""
        return functools.partial(self.target, *self.args, **self.kwargs)
