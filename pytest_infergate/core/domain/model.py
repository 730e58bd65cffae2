"""Nouns shared by every part: cases, hardware, environments and notes. SI units throughout."""

from __future__ import annotations

import hashlib
import re

import msgspec

SCHEMA_VERSION = 2
"""Version of the result and baseline files. It grows when a reader of the old form would misread the new."""


class Struct(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of all nouns: frozen, defaults left out of files, unknown fields refused."""


class Note(Struct, frozen=True, kw_only=True):
    """Something the reader should know about a figure, and what to do about it."""

    code: str
    text: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.hint})" if self.hint else self.text


class Case(Struct, frozen=True, kw_only=True, order=True):
    """The key of one measured case: a test, its own parameters, and one value on every axis."""

    test: str
    """Path and name, ``tests/test_model.py::test_embedder``."""
    params: str = ""
    """Id of the user's own parameters, as pytest prints it."""
    device: str
    runtime: str = "eager"
    dtype: str | None = None
    """``None``: the dtype the model came with."""
    batch_size: int = 1
    threads: int | None = None
    """``None``: as many as torch takes by itself."""

    @property
    def order(self) -> tuple[str | int, ...]:
        """To sort by: by test, axes in their natural order, an absent value before any other."""
        axes = self.device, self.runtime, self.dtype or "", self.batch_size, self.threads or 0
        return self.test, self.params, *axes

    @property
    def module(self) -> str:
        """Path of the test's file."""
        return self.test.partition("::")[0]

    @property
    def name(self) -> str:
        """How people read it: only the axes that differ from their default, the device always."""
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
    """What makes times comparable. Two machines of one class may stand in one baseline file."""

    cpu_model: str
    isa: tuple[str, ...] = ()
    """Vector extensions that torch dispatches on, widest last."""
    cores: int
    """Cores this process may use: affinity and container quota, not what the board has."""
    accelerator: str | None = None
    accelerator_count: int = 0
    driver: str | None = None
    """Major version of the accelerator's driver."""

    @property
    def id(self) -> str:
        """A file name: readable words and a hash over every field."""
        words = [self.cpu_model, f"{self.cores}c"]
        if self.accelerator is not None:
            words += [f"{self.accelerator_count}x", self.accelerator]
        slug = re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")[:60].strip("-")
        digest = hashlib.sha256(msgspec.json.encode(msgspec.to_builtins(self))).hexdigest()[:8]
        return f"{slug}-{digest}"

    @property
    def text(self) -> str:
        """What people call it: the accelerators, or the processor and its cores."""
        if self.accelerator is not None:
            return f"{self.accelerator_count} x {self.accelerator}"
        return f"{self.cores} core{'' if self.cores == 1 else 's'} of {self.cpu_model}"

    def difference(self, other: Hardware) -> str:
        """Name the first property in which two classes differ: ``other CPU model``."""
        properties = {
            "cpu_model": "CPU model",
            "cores": "core count",
            "isa": "instruction set",
            "accelerator": "accelerator",
            "accelerator_count": "accelerator count",
            "driver": "driver version",
        }
        for field, words in properties.items():
            if getattr(self, field) != getattr(other, field):
                return f"other {words}"
        return ""


class Environment(Struct, frozen=True, kw_only=True):
    """What else was there. Recorded and shown, not part of any key: an upgrade that slows is a finding."""

    os: str = ""
    python: str = ""
    packages: dict[str, str] = msgspec.field(default_factory=dict)
    """Versions of the packages that inference depends on, by distribution name."""
    virtual: bool = True
    """Under a hypervisor, where the speed of a launch follows the neighbours."""
    memory_bytes: int | None = None
    wait_policy: str | None = None
    """``OMP_WAIT_POLICY`` as the user set it; it changes the time of small models by a factor of three."""
