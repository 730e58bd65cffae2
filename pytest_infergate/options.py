"""The options with their ini twins, and how the text of each is read.

Loaded in every pytest session, so it is cheap to load: what is parsed comes together in `settings`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from pytest_infergate.core import units

DTYPES = ("bfloat16", "float16", "float32", "float64")
GATES = ("fail", "warn", "off")
DEFAULT_MAX_TIME = 10.0
"""Seconds that one case may take."""


class Option(NamedTuple):
    """A command line option; its ini twin has the same name with underscores."""

    name: str
    help: str
    parse: Callable[[str], Any]
    metavar: str | None = None
    asks: bool = False
    """Whether an ini value of it switches measuring on, as any option on the command line does."""

    @property
    def flag(self) -> str:
        """The option on the command line: ``--infer-max-time``."""
        return f"--infer-{self.name.replace('_', '-')}"

    @property
    def ini(self) -> str:
        """Its twin in the ini file: ``infer_max_time``."""
        return f"infer_{self.name}"


def _words(text: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words:
        raise ValueError("the list is empty")
    return words


def device_names(text: str) -> tuple[str, ...]:
    """Parse ``cpu,cuda:1``; the first device of a kind needs no number."""
    names = []
    for word in _words(text):
        kind, colon, index = word.partition(":")
        if colon and not index.isdecimal():
            raise ValueError(f"{word!r} has no number after the colon; write {kind}:0")
        names.append(kind if not colon or int(index) == 0 else f"{kind}:{int(index)}")
    return tuple(dict.fromkeys(names))


def dtype_names(text: str) -> tuple[str, ...]:
    """Parse ``float32,bfloat16``."""
    return tuple(one_of(word, DTYPES) for word in _words(text))


def thread_counts(text: str) -> tuple[int, ...]:
    """Parse ``1,2,4``."""
    return tuple(_count(word) for word in _words(text))


def seconds(text: str) -> float:
    """Parse ``10``, ``10s``, ``2min``, ``1h`` or ``1d``."""
    return units.parse_duration(text)


def share(value: str | float) -> float:
    """Parse ``5%`` or ``0.05``; a bare number above 1 is refused since nobody knows what it means."""
    text = str(value).strip()
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        raise ValueError(f"{value!r} is not a share such as '5%' or 0.05")
    if number > 1 and not text.endswith("%"):
        raise ValueError(f"{value!r} is above 1; write '{text}%' or {number / 100:g}")
    return number


def tolerances(value: str | float | Mapping[str, Any]) -> Mapping[str, float | None]:
    """Parse ``5%`` (of p50), ``p50=5%,operators=off`` or a table by metric; off is ``None``.

    Beside ``p50`` and ``memory`` each exact counter has its name, and ``counters`` is all of them.
    """
    if isinstance(value, str) and "=" in value:
        pairs = [word.partition("=") for word in _words(value)]
        value = {name.strip(): text for name, _, text in pairs}
    if not isinstance(value, Mapping):
        return {"p50": share(value)}
    from pytest_infergate.core.metrics import COUNTERS

    known = ("p50", "memory", "counters", *(name for name in COUNTERS if name not in _TOLERATED_ELSEWHERE))
    return {one_of(name, known): _tolerance(name, number) for name, number in value.items()}


_TOLERATED_ELSEWHERE = ("gflops", "peak_memory_bytes")
"""Counters that go by another name where they are tolerated: flops, memory."""


def _tolerance(name: str, value: Any) -> float | None:
    if value is False or (isinstance(value, str) and value.strip() == "off"):
        if name == "p50":
            raise ValueError("p50 cannot be off; gate=False in the marker reports without failing")
        return None
    return share(value)


def _min_decided(text: str) -> float:
    value = share(text)
    if value > 1:
        raise ValueError(f"{text!r} is more than all cases")
    return value


def one_of(word: Any, known: Collection[str]) -> str:
    """Return a known word; raise `ValueError` naming what is allowed for any other."""
    if word in known:
        return str(word)
    raise ValueError(f"unknown {word!r}: allowed are {', '.join(sorted(known))}{nearest(str(word), known)}")


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'float16'?``, or nothing where no known word is near."""
    import difflib

    matches = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _count(value: Any) -> int:
    number = int(value) if str(value).isdecimal() and not isinstance(value, bool) else 0
    if number < 1:
        raise ValueError(f"{value!r} is not a whole number of 1 or more")
    return number


def demand(text: str) -> Any:
    """Parse ``50/s`` into a `core.demand.Demand`."""
    from pytest_infergate.core.demand import parse

    return parse(text)


def _folder(text: str) -> str:
    if "://" in text:
        raise ValueError(f"{text!r} is an address; exact counters stand in a folder beside the code")
    return text


def _choice(*known: str) -> Callable[[str], str]:
    return lambda text: one_of(text, known)


def _flag(text: str) -> bool:
    known = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    if text.lower() not in known:
        raise ValueError(f"{text!r} is not true or false")
    return known[text.lower()]


OPTIONS = (
    Option("devices", "measure on these devices, comma separated: cpu, cuda, cuda:1, xpu, mps, "
           "or auto for all that are there", device_names, "NAMES", asks=True),
    Option("dtypes", "measure the model cast to each of these dtypes", dtype_names, "NAMES", asks=True),
    Option("threads", "measure with each of these numbers of threads inside an operator",
           thread_counts, "COUNTS", asks=True),
    Option("workers", "measure also with so many processes of the model at once: 2,4", thread_counts,
           "COUNTS", asks=True),
    Option("against", "compare call by call with the code at this git revision (its merge base), on this "
           "machine; auto for the upstream branch", str, "REV", asks=True),
    Option("against_python", "interpreter of the base: other versions of torch, or an earlier install",
           str, "PATH", asks=True),
    Option("turns", "write every turn of a paired run here, for `infergate replay`", str, "FILE"),
    Option("require", "devices that must be there: without them the run stops with exit code 4",
           device_names, "NAMES", asks=True),
    Option("baseline", "folder of the baselines (default: .infergate/baselines below the rootdir)",
           str, "FOLDER"),
    Option("counters", "folder of the exact counters (default: .infergate/counters below the rootdir)",
           _folder, "FOLDER"),
    Option("save", "record this session into the baseline; never fails on a regression", _flag, asks=True),
    Option("gate", "what a failing verdict does: fail the test, warn in the summary, or off",
           _choice(*GATES), "{fail,warn,off}"),
    Option("strict", "also fail what could not be decided: no baseline, inconclusive, not measured", _flag),
    Option("tolerance", "tolerated slowdown against the baseline: 25%, or p50=25%,memory=1%,operators=off",
           tolerances, "SHARE"),
    Option("max_time", "seconds that one case may take (default: 10; paired: 180 over all launches)",
           seconds, "TIME"),
    Option("max_total", "seconds that all cases together may take; the rest is not measured",
           seconds, "TIME"),
    Option("min_decided", "fail if a smaller share of the cases was decided: 80%", _min_decided, "SHARE"),
    Option("xdist", "under pytest-xdist, lock the machine for each inference case (default) or refuse",
           _choice("lock", "refuse"), "{lock,refuse}"),
    Option("demand", "what is to be served, 50/s or 3/min; budgets of usd_per_month need it", demand, "RATE"),
    Option("prices", "CSV table of prices, over those that come with infergate (infergate prices list)",
           str, "FILE"),
    Option("energy", "measure energy too, where NVML or RAPL can be read; some seconds more a case", _flag),
    Option("report", "write the HTML report here", str, "FILE", asks=True),
    Option("json", "write the results as JSON here", str, "FILE", asks=True),
    Option("markdown", "write a summary as Markdown here", str, "FILE", asks=True),
    Option("list", "list the inference cases and stop", _flag),
    Option("disable", "run inference tests once on the CPU without measuring, whatever else asks for it",
           _flag),
)  # fmt: skip
"""Every option, in the order of ``--help``."""
