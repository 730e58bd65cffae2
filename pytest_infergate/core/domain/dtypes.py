"""Dtypes of a case as users write them: ``bfloat16``, ``int8``, ``autocast:bfloat16``, ``channels_last``."""

from __future__ import annotations

from typing import Final, NamedTuple

from pytest_infergate.core.domain.spelling import did_you_mean

CASTS: Final = ("bfloat16", "float16", "float32", "float64")
"""Dtypes to which model and inputs are cast."""
CHANNELS_LAST: Final = "channels_last"
WEIGHT_ONLY: Final = "weight-only"
_COMPUTED: Final = (*CASTS, "tf32", "autocast:bfloat16", "autocast:float16")
_NAMES: Final = (*_COMPUTED, "int8", f"int8:{WEIGHT_ONLY}", CHANNELS_LAST)
DTYPES: Final = (*_NAMES, *(f"{name}:{CHANNELS_LAST}" for name in _COMPUTED))
"""Every dtype of a case."""
_SHORT: Final = {
    "fp16": "float16", "half": "float16", "bf16": "bfloat16", "fp32": "float32", "fp64": "float64",
    "amp": "autocast:bfloat16", "autocast": "autocast:bfloat16", "qint8": "int8",
}  # fmt: skip
"""What users write in place of the names of torch."""


class DtypeParts(NamedTuple):
    """What the dtype of a case means for the model; the defaults leave it as it is."""

    cast: str | None = None
    """Dtype to which model and inputs are cast."""
    autocast: str | None = None
    """Dtype in which `torch.autocast` runs the operators that it lists."""
    tf32: bool = False
    """Whether products of float32 are rounded to TF32."""
    int8: str | None = None
    """How linear layers are quantised: ``dynamic``, or ``weight-only``."""
    channels_last: bool = False
    """Whether weights of convolutions and images are stored with the channels last."""

    @property
    def computed(self) -> str | None:
        """The coarsest dtype in which a value may be computed; ``None``: that of the model."""
        if self.int8:
            return "int8" if self.int8 == "dynamic" else f"int8:{WEIGHT_ONLY}"
        return self.cast or self.autocast or ("float16" if self.tf32 else None)


def dtype_parts(dtype: str | None) -> DtypeParts:
    """Return the parts of one of `DTYPES`, or of ``None``: the dtype that the model has."""
    words = [] if dtype is None else dtype.split(":")
    last = CHANNELS_LAST in words
    match [word for word in words if word != CHANNELS_LAST]:
        case ["autocast", word]:
            return DtypeParts(autocast=word, channels_last=last)
        case ["int8", *mode]:
            return DtypeParts(int8=mode[0] if mode else "dynamic")
        case ["tf32"]:
            return DtypeParts(tf32=True, channels_last=last)
        case [word]:
            return DtypeParts(cast=word, channels_last=last)
    return DtypeParts(channels_last=last)


def checked_dtype(word: str) -> str:
    """Return a dtype of a case. Raises `ValueError` with what is allowed and the nearest name."""
    if word in DTYPES:
        return word
    hint = f". Hint: write {_SHORT[word]}" if word in _SHORT else did_you_mean(word, DTYPES)
    raise ValueError(
        f"dtype must be one of {', '.join(_NAMES)}, where :{CHANNELS_LAST} may follow all but int8, "
        f"got {word!r}{hint}"
    )


def unsupported_dtype(device: str, dtype: str | None) -> str | None:
    """Return why no runtime can execute a dtype on a device, so that no case is made; ``None`` if one can."""
    kind = device.partition(":")[0]
    if dtype_parts(dtype).tf32 and kind != "cuda":
        return f"TF32 exists on CUDA devices only, and not on {kind}"
    return None
