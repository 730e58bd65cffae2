"""Values that every part shares: cases, hardware, environments and notes. All units are SI."""

from __future__ import annotations

import hashlib
import re

import msgspec

# Version 2 renamed fields; `version_1.upgraded` reads files of version 0.1 of the package.
SCHEMA_VERSION = 2
"""Version of result and baseline files. It grows when a reader of the old form would misread the new one."""
REMOTE_DEVICE = "remote"
"""Device of cases that a server executes: no device of this machine."""


HASH_LENGTH = 8
"""Characters at the end of the id of a hardware class, which are a hash of it."""


class Struct(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of all values: frozen, defaults are not written to files, unknown fields are refused."""


class Note(Struct, frozen=True, kw_only=True):
    """A remark about a figure or a case, with a hint on what to do about it."""

    code: str
    text: str
    hint: str = ""
    max_time: float | None = None
    """Time limit of a case, in seconds, that avoids what the note states; ``None`` if none is known to."""

    def __str__(self) -> str:
        return f"{self.text} ({self.hint})" if self.hint else self.text


class Case(Struct, frozen=True, kw_only=True, order=True):
    """The key of a measured case: a test, its own parameters, and one value of every axis."""

    test: str
    """Path and name: ``tests/test_model.py::test_embedder``."""
    params: str = ""
    """Id of the user's own parameters, as pytest shows it."""
    device: str
    runtime: str = "eager"
    dtype: str | None = None
    """One of `DTYPES`; ``None``: the dtype that the model already has."""
    batch_size: int = 1
    threads: int | None = None
    """``None``: the number that torch chooses."""

    @property
    def order(self) -> tuple[str | int, ...]:
        """Sort key: the test, then the axes in their natural order, an absent value before any other."""
        # Absent values become empty ones, because None cannot be compared with a name or a number.
        axes = self.device, self.runtime, self.dtype or "", self.batch_size, self.threads or 0
        return self.test, self.params, *axes

    @property
    def module(self) -> str:
        """Path of the file that contains the test."""
        return self.test.partition("::")[0]

    @property
    def name(self) -> str:
        """Readable name with the device and the axes that differ from their defaults."""
        parts = [self.device]
        if self.runtime != "eager":
            parts.append(self.runtime)
        if self.dtype is not None:
            parts.append(self.dtype)
        if self.batch_size != 1:
            parts.append(f"b{self.batch_size}")
        if self.threads is not None:
            parts.append(f"t{self.threads}")
        if self.params:
            parts.append(self.params)
        return f"{self.test}[{'-'.join(parts)}]"


class Hardware(Struct, frozen=True, kw_only=True):
    """The hardware class of a machine: times are compared within one class only."""

    cpu_model: str
    isa: tuple[str, ...] = ()
    """Vector extensions that torch dispatches on, the widest last."""
    cores: int
    """Cores that this process may use under its affinity and container quota."""
    accelerator: str | None = None
    accelerator_count: int = 0
    driver: str | None = None
    """Major version of the accelerator's driver."""

    @property
    def id(self) -> str:
        """File name of the class: readable parts and a hash of all fields."""
        parts = [self.cpu_model, f"{self.cores}c"]
        if self.accelerator is not None:
            parts += [f"{self.accelerator_count}x", self.accelerator]
        # The readable part is cut so that the file name stays short; classes that share it have
        # other hashes.
        slug = re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")[:60].strip("-")
        digest = hashlib.sha256(msgspec.json.encode(msgspec.to_builtins(self))).hexdigest()[:HASH_LENGTH]
        return f"{slug}-{digest}"

    @property
    def text(self) -> str:
        """Short description: the accelerators, or else the cores of the processor."""
        if self.accelerator is not None:
            return f"{self.accelerator_count} x {self.accelerator}"
        return f"{self.cores} core{'' if self.cores == 1 else 's'} of {self.cpu_model}"

    def difference(self, other: Hardware) -> str:
        """Return the first property in which two classes differ: ``other CPU model``; empty if none does."""
        # In the order in which a user would look for the reason.
        properties = {
            "cpu_model": "CPU model",
            "cores": "core count",
            "isa": "instruction set",
            "accelerator": "accelerator",
            "accelerator_count": "accelerator count",
            "driver": "driver version",
        }
        for field, text in properties.items():
            if getattr(self, field) != getattr(other, field):
                return f"other {text}"
        return ""


class Environment(Struct, frozen=True, kw_only=True):
    """The software around a run. It is not part of any key: an upgrade that slows a model is a finding."""

    os: str = ""
    python: str = ""
    packages: dict[str, str] = msgspec.field(default_factory=dict)
    """Versions of the packages that inference depends on, by distribution name."""
    virtual: bool = True
    """Whether the machine runs under a hypervisor, so that its speed depends on its neighbours."""
    memory_bytes: int | None = None
    # Passive waiting took an MLP from 0.64 to 2.1 ms (docs/method.md), so a report must state the policy.
    wait_policy: str | None = None
    """``OMP_WAIT_POLICY`` as the user set it."""
