"""Tokens of streams: how many an item has, what states them, and the streamer that `generate` is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

_MATRIX = 2
"""Dimensions of a batch of token ids."""
_PROMPTS = ("input_ids", "inputs")
"""Names of the prompt among the keyword arguments of `generate`, and in what a tokenizer returns."""


class TokenCounts(NamedTuple):
    """How many tokens a call had, for example by the usage that a server states.

    A stream yields it beside its items. It has no time, and is not part of the output.
    """

    prompt: int | None = None
    output: int | None = None


class Streamer(Protocol):
    """What `generate` of transformers passes tokens to: a `BaseStreamer`."""

    def put(self, value: Any) -> object:
        """Take tokens: first those of the prompt, then new ones."""

    def end(self) -> object:
        """End the output of a call."""


class TokenStreamer:
    """A streamer that times the tokens of `generate` in the thread that computes them.

    Its first value in a call is the prompt, as with `BaseStreamer` of transformers. Each value is passed on
    to `inner` first, so that the time of decoding is part of the time of an item.
    """

    def __init__(self) -> None:
        self.inner: Streamer | None = None
        """The streamer of the user."""
        self.used = False
        """Whether a call has put something."""
        self._take: Callable[[Any], object] | None = None
        self._begun = False

    def put(self, value: Any) -> None:
        """Take the prompt, or new tokens."""
        if self.inner is not None:
            self.inner.put(value)
        prompt, self._begun, self.used = not self._begun, True, True
        if self._take is not None:
            batch_size = (getattr(value, "shape", None) or (1,))[0]
            self._take(TokenCounts(prompt=tokens_in(value, batch_size)) if prompt else value)

    def end(self) -> None:
        """End a call."""
        self._begun = False
        if self.inner is not None:
            self.inner.end()
            # A queue without a reader would grow with each call.
            text = getattr(getattr(self.inner, "text_queue", None), "queue", None)
            if text is not None:
                text.clear()

    @contextmanager
    def taking(self, take: Callable[[Any], object]) -> Iterator[None]:
        """Pass items on to `take` until exit, and the tokens of the prompt as `TokenCounts`."""
        self._take, self._begun = take, False
        try:
            yield
        finally:
            self._take = None


def tokens_in(item: Any, batch_size: int = 1) -> int | None:
    """Return the number of tokens in an item; ``None`` if it is unknown.

    Known are those of a whole number, and of a tensor or array of integers of shape ``(tokens,)`` or
    ``(batch, tokens)``.
    """
    if isinstance(item, int):
        return None if isinstance(item, bool) else 1
    shape = getattr(item, "shape", None)
    if not isinstance(shape, tuple) or len(shape) > _MATRIX or "int" not in str(getattr(item, "dtype", "")):
        return None
    count = 1
    for size in shape:
        count *= size
    return count if len(shape) < _MATRIX or shape[0] in (1, batch_size) else None


def prompt_tokens(args: tuple[Any, ...], kwargs: Mapping[str, Any], batch_size: int) -> int | None:
    """Return the number of tokens in the prompts of a call, without padding; ``None`` if there are none.

    They are in an argument that `generate` of transformers also has, or else in the only positional argument
    that contains tokens.
    """
    for named in (kwargs, *(argument for argument in args if isinstance(argument, Mapping))):
        ids = next((named[name] for name in _PROMPTS if named.get(name) is not None), None)
        count, mask = tokens_in(ids, batch_size), named.get("attention_mask")
        if ids is not None and count is not None:
            alike = getattr(mask, "shape", None) == getattr(ids, "shape", None)
            return count if mask is None or not alike else int(mask.sum())
    counts = [tokens_in(argument, batch_size) for argument in args if not isinstance(argument, int)]
    known = [count for count in counts if count is not None]
    return known[0] if len(known) == 1 else None
