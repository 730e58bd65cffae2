"""Names of accelerators and CPUs, parsed into comparable parts."""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class AcceleratorModel(NamedTuple):
    """The name of an accelerator taken apart, whoever wrote it."""

    model: str
    """``a100``, ``rtx4090``."""
    memory: int | None
    """Gigabytes; ``None`` where nobody says and the model does not tell."""
    form: str | None
    """``sxm``, ``pcie``, ``nvl``: how it is built in, and how much power it gets."""


_MAKERS: Final = frozenset(
    {"nvidia", "amd", "intel", "tesla", "geforce", "quadro", "instinct", "radeon", "gpu", "r", "tm",
     "generation", "server", "edition", "blackwell", "oam"}
)  # fmt: skip
"""Words in the names of accelerators that tell no two models apart."""
_SMALLER: Final = {"a100": 40, "v100": 16}
"""Gigabytes of the model where its name does not tell and there is a larger one."""
_USUAL_FORM: Final = {"h100": "sxm", "h200": "sxm"}
"""The form of the model where its name does not tell: the others are slower, and say so in theirs."""
_WORD: Final = re.compile(r"[a-z0-9]+")
_MEMORY: Final = re.compile(r"(\d{1,6})g(?:b|ib)?")
FORM_PATTERN: Final = re.compile(r"(sxm|pcie|nvl)\d*")


def accelerator_model(name: str) -> AcceleratorModel:
    """Take a name apart: of torch, ``NVIDIA A100-SXM4-80GB``, or of a table, ``A100-80GB``."""
    told = parsed_name(name)
    model = told.model
    return AcceleratorModel(model, told.memory or _SMALLER.get(model), told.form or _USUAL_FORM.get(model))


def parsed_name(name: str) -> AcceleratorModel:
    """What the name itself tells."""
    parts: list[str] = []
    memory: int | None = None
    form: str | None = None
    for word in _WORD.findall(name.lower()):
        if (size := _MEMORY.fullmatch(word)) is not None:
            memory = int(size[1])
        elif (built := FORM_PATTERN.fullmatch(word)) is not None:
            form = built[1]
        elif word not in _MAKERS and not word.startswith("hbm"):
            parts.append(word)
    model = re.sub(r"^rtx(?=a\d)", "", "".join(parts))  # RTX A6000 goes by A6000 as well
    if model.endswith("nvl"):
        model, form = model.removesuffix("nvl"), "nvl"
    return AcceleratorModel(model, memory, form)


def completed_name(name: str, memory_gb: float | None, instance: str) -> str:
    """Add to an accelerator's name what it leaves open: memory, and the form that the instance's name has."""
    told = parsed_name(name)
    if memory_gb is not None and told.memory is None and told.model in _SMALLER:
        name = f"{name}-{memory_gb:.0f}GB"
    words = map(FORM_PATTERN.fullmatch, _WORD.findall(instance.lower()))
    form = next((found[1] for found in words if found is not None), None)
    return f"{name}-{form.upper()}" if form is not None and told.form is None else name


def same_accelerator(one: str | None, other: str | None) -> bool:
    """Whether two names mean one model; memory and form count where both tell."""
    if one is None or other is None:
        return False
    left, right = accelerator_model(one), accelerator_model(other)
    told = ((left.memory, right.memory), (left.form, right.form))
    return bool(left.model) and left.model == right.model and all(a == b for a, b in told if a and b)


_CPU_WORDS: Final = frozenset(
    {"intel", "amd", "arm", "aws", "microsoft", "ampere", "google", "xeon", "platinum", "gold", "silver",
     "bronze", "epyc", "cpu", "processor", "scalable"}
)  # fmt: skip
"""Words in the names of CPUs that tell no two models apart."""
_CPU_VENDORS: Final = frozenset({"intel", "amd"})
_ARM_PARTS: Final = {
    "0xd0c": "neoverse-n1",
    "0xd40": "neoverse-v1",
    "0xd49": "neoverse-n2",
    "0xd4f": "neoverse-v2",
}
"""Part numbers by which Linux calls ARM's cores. Source: Linux, arch/arm64/include/asm/cputype.h."""


class CpuModel(NamedTuple):
    """The name of a CPU taken apart."""

    vendor: str
    """Empty where nobody says."""
    model: str
    """``8488c``; empty where the provider hides it."""


def cpu_model(name: str) -> CpuModel:
    """Take a name apart: of the system, ``Intel(R) Xeon(R) Platinum 8488C (6/143)``, or of a table."""
    part = re.search(r"\(0x[0-9a-f]+/(0x[0-9a-f]+)\)", name.lower())
    if part is not None:
        return CpuModel("", _ARM_PARTS.get(part[1], ""))
    words = re.sub(r"\([^()]*\)|@.*", " ", name.lower()).split()
    kept = [word for word in words if word not in _CPU_WORDS and not re.fullmatch(r"\d+-core", word)]
    return CpuModel(next((word for word in words if word in _CPU_VENDORS), ""), " ".join(kept))


def same_cpu(one: str | None, other: str | None) -> bool:
    """Whether two names mean one model; a vendor alone means none."""
    if one is None or other is None:
        return False
    left, right = cpu_model(one), cpu_model(other)
    vendors = {left.vendor, right.vendor} - {""}
    return bool(left.model) and left.model == right.model and len(vendors) <= 1
