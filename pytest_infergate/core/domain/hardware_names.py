"""Names of accelerators and CPUs, parsed into comparable parts.

Torch, the operating system, cloud providers and price catalogues write the same model in different ways.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class AcceleratorModel(NamedTuple):
    """The parts of the name of an accelerator."""

    model: str
    """``a100``, ``rtx4090``."""
    memory: int | None
    """Gigabytes; ``None`` if neither the name nor the model determines it."""
    form: str | None
    """Form factor, which determines the available power: ``sxm``, ``pcie`` or ``nvl``."""


# Vendors, product lines and filler: two models never differ in these parts alone.
_VENDOR_PARTS: Final = frozenset(
    {"nvidia", "amd", "intel", "tesla", "geforce", "quadro", "instinct", "radeon", "gpu", "r", "tm",
     "generation", "server", "workstation", "edition", "blackwell", "oam"}
)  # fmt: skip
# Catalogues name the size only for the larger variant: "A100" is the one with 40 GB, "A100-80GB" the other.
_DEFAULT_MEMORY: Final = {"a100": 40, "v100": 16}
"""Gigabytes of a model whose name does not state them although it has larger variants."""
# The PCIe and NVL variants are slower and always say so in their names.
_DEFAULT_FORM: Final = {"h100": "sxm", "h200": "sxm"}
"""Form factor of a model whose name does not state it."""
_PART: Final = re.compile(r"[a-z0-9]+")
_MEMORY: Final = re.compile(r"(\d{1,6})g(?:b|ib)?")
FORM_PATTERN: Final = re.compile(r"(sxm|pcie|nvl)\d*")


def accelerator_model(name: str) -> AcceleratorModel:
    """Parse a name of torch, ``NVIDIA A100-SXM4-80GB``, or of a table, ``A100-80GB``, and add defaults."""
    stated = parsed_name(name)
    model = stated.model
    return AcceleratorModel(
        model, stated.memory or _DEFAULT_MEMORY.get(model), stated.form or _DEFAULT_FORM.get(model)
    )


def parsed_name(name: str) -> AcceleratorModel:
    """Parse a name without filling in defaults."""
    parts: list[str] = []
    memory: int | None = None
    form: str | None = None
    for part in _PART.findall(name.lower()):
        if (size := _MEMORY.fullmatch(part)) is not None:
            memory = int(size[1])
        elif (factor := FORM_PATTERN.fullmatch(part)) is not None:
            form = factor[1]
        elif part not in _VENDOR_PARTS and not part.startswith("hbm"):
            parts.append(part)
    model = re.sub(r"^rtx(?=a\d)", "", "".join(parts))  # "RTX A6000" and "A6000" are the same model
    if model.endswith("nvl"):  # "H100NVL" is written as one word
        model, form = model.removesuffix("nvl"), "nvl"
    return AcceleratorModel(model, memory, form)


def with_article(name: str) -> str:
    """Return the name of an accelerator with its article: ``a T4``, ``an L4``."""
    return f"{'an' if name[:1].upper() in 'AEFHILMNORSX' else 'a'} {name}"


def completed_name(name: str, memory_gb: float | None, instance: str) -> str:
    """Add to the name of an accelerator the memory and the form factor that it does not state.

    The form factor comes from the name of the instance.
    """
    stated = parsed_name(name)
    if memory_gb is not None and stated.memory is None and stated.model in _DEFAULT_MEMORY:
        name = f"{name}-{memory_gb:.0f}GB"
    matches = map(FORM_PATTERN.fullmatch, _PART.findall(instance.lower()))
    form = next((match[1] for match in matches if match is not None), None)
    return f"{name}-{form.upper()}" if form is not None and stated.form is None else name


def same_accelerator(first: str | None, second: str | None) -> bool:
    """Return whether two names mean the same model; memory and form count only if both state them."""
    if first is None or second is None:
        return False
    left, right = accelerator_model(first), accelerator_model(second)
    optional = ((left.memory, right.memory), (left.form, right.form))
    return bool(left.model) and left.model == right.model and all(a == b for a, b in optional if a and b)


# Vendors, product lines and filler, as above.
_CPU_VENDOR_PARTS: Final = frozenset(
    {"intel", "amd", "arm", "aws", "microsoft", "ampere", "google", "xeon", "platinum", "gold", "silver",
     "bronze", "epyc", "cpu", "processor", "scalable"}
)  # fmt: skip
_CPU_VENDORS: Final = frozenset({"intel", "amd"})
# Linux reports ARM cores by implementer and part number. Source: Linux, arch/arm64/include/asm/cputype.h.
_ARM_PARTS: Final = {
    "0xd0c": "neoverse-n1",
    "0xd40": "neoverse-v1",
    "0xd49": "neoverse-n2",
    "0xd4f": "neoverse-v2",
}


class CpuModel(NamedTuple):
    """The parts of the name of a CPU."""

    vendor: str
    """Empty if unknown."""
    model: str
    """``8488c``; empty if the provider hides it."""


def cpu_model(name: str) -> CpuModel:
    """Parse a name of the system, ``Intel(R) Xeon(R) Platinum 8488C (6/143)``, or of a table."""
    part = re.search(r"\(0x[0-9a-f]+/(0x[0-9a-f]+)\)", name.lower())
    if part is not None:
        return CpuModel("", _ARM_PARTS.get(part[1], ""))
    parts = re.sub(r"\([^()]*\)|@.*", " ", name.lower()).split()
    kept = [part for part in parts if part not in _CPU_VENDOR_PARTS and not re.fullmatch(r"\d+-core", part)]
    return CpuModel(next((part for part in parts if part in _CPU_VENDORS), ""), " ".join(kept))


def same_cpu(first: str | None, second: str | None) -> bool:
    """Return whether two names mean the same model; a vendor without a model matches nothing."""
    if first is None or second is None:
        return False
    left, right = cpu_model(first), cpu_model(second)
    vendors = {left.vendor, right.vendor} - {""}
    return bool(left.model) and left.model == right.model and len(vendors) <= 1


_ARM_NAMES: Final = re.compile(
    r"neoverse|graviton|cobalt|ampere|axion|apple|cortex|\(0x[0-9a-f]+/0x[0-9a-f]+\)"
)


def is_arm(cpu: str | None) -> bool:
    """Return whether the name of a CPU is that of an ARM processor; a name that is unknown is not."""
    return cpu is not None and _ARM_NAMES.search(cpu.lower()) is not None


def cpus_differ(first: str | None, second: str | None) -> bool:
    """Return whether two names contradict: another architecture or vendor, or another model of one vendor.

    A name that is unknown, or a model that the provider hides, contradicts nothing.
    """
    if first is None or second is None:
        return False
    left, right = cpu_model(first), cpu_model(second)
    if not (left.vendor and right.vendor):
        return is_arm(first) != is_arm(second)
    return left.vendor != right.vendor or bool(left.model and right.model and left.model != right.model)
