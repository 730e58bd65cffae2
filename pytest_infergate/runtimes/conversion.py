"""Files that a runtime made of a model: built in a process of its own, and kept for later runs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pytest_infergate.core.domain import units
from pytest_infergate.core.domain.dtypes import dtype_parts
from pytest_infergate.errors import ConversionError
from pytest_infergate.runtimes.runtime import ExportingRuntime, Placing

if TYPE_CHECKING:
    import torch

    from pytest_infergate.runtimes.exported_model import ExportedModel

MAX_SECONDS: Final = 900.0
"""Time limit of a conversion."""
UNUSED_DAYS: Final = 30
"""Days after which files that no run used are deleted."""
RECORD: Final = "conversion.json"
PROGRAM: Final = "program.pt2"
UNFINISHED: Final = ".building-"


Build = Callable[["ExportingRuntime", "torch.export.ExportedProgram", Path, Placing], None]
"""Lets a runtime write the files of a program into a folder."""


class BuiltFiles(NamedTuple):
    """The files of a converted model."""

    folder: Path
    seconds: float
    """Time that the conversion took when it was made."""
    size: int
    """Bytes of the files."""
    cached: bool
    """Whether an earlier conversion was used."""


class Conversions:
    """A folder of conversions, by runtime and by a hash of all that determines the files."""

    def __init__(self, root: Path, build: Build | None = None) -> None:
        self._root = root
        self._build = build or build_in_child

    def files(self, runtime: ExportingRuntime, model: ExportedModel, placing: Placing) -> BuiltFiles:
        """Return the files of a model, which are made unless there are some.

        Raises `ConversionError` with the reason in one line.
        """
        try:
            return self._kept_or_built(runtime, model, placing)
        except OSError as error:
            raise ConversionError(
                f"converted models cannot be kept in {self._root}: {type(error).__name__}: {error.strerror}. "
                "Hint: set INFERGATE_CACHE to another folder"
            ) from error

    def _kept_or_built(self, runtime: ExportingRuntime, model: ExportedModel, placing: Placing) -> BuiltFiles:
        # The program has the dtype, unless the runtime computes in it by itself: from the same files, or from
        # files that it quantises.
        if dtype_parts(placing.dtype).int8 is None:
            placing = placing._replace(dtype=None)
        key = hashlib.blake2b(
            repr((model.digest(), runtime.version(), tuple(placing))).encode(), digest_size=16
        ).hexdigest()
        folder = self._private_root() / f"{runtime.name}-{key}"
        found = _recorded(folder)
        if found is not None:
            os.utime(folder)
            return found
        self._prune()
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=self._root) as temporary:
            built = Path(temporary) / "files"
            built.mkdir()
            begin = time.monotonic()
            self._build(runtime, model.program, built, placing)
            seconds = time.monotonic() - begin
            sizes = {path.relative_to(built).as_posix(): _described(path) for path in _files(built)}
            if not sizes:
                raise ConversionError("the runtime wrote no files")
            (built / RECORD).write_text(json.dumps({"seconds": seconds, "files": sizes}))
            # Another run may have been faster; what it made is the same.
            shutil.rmtree(folder, ignore_errors=True)
            try:
                built.rename(folder)
            except OSError:
                if _recorded(folder) is None:
                    raise
        return BuiltFiles(folder, seconds, sum(size for size, _ in sizes.values()), cached=False)

    def _private_root(self) -> Path:
        """Return the folder, which only this user can write: files of some runtimes are machine code."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self._root.stat()
        if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
            raise ConversionError(
                f"{self._root} must belong to this user, and be writable for this user only. "
                "Hint: chmod go-w it, or set INFERGATE_CACHE to another folder"
            )
        return self._root

    def _prune(self) -> None:
        oldest = time.time() - UNUSED_DAYS * 86400
        for path in self._root.iterdir():
            ours = path.name.startswith(UNFINISHED) or (path / RECORD).exists()
            with suppress(FileNotFoundError):  # another run may have removed it
                if ours and path.stat().st_mtime < oldest:
                    shutil.rmtree(path, ignore_errors=True)


def build_in_child(
    runtime: ExportingRuntime,
    program: torch.export.ExportedProgram,
    folder: Path,
    placing: Placing,
    max_seconds: float = MAX_SECONDS,
) -> None:
    """Let a runtime build files in a process of its own, which may run out of memory or time.

    Raises `ConversionError` with the last line that the process printed.
    """
    import torch

    child = type(runtime)
    if find_spec(child.__module__) is None:
        raise ConversionError(f"{child.__module__}.{child.__qualname__} must be importable")
    path = folder.with_name(PROGRAM)
    torch.export.save(program, path)
    command = [
        *(sys.executable, "-m", "pytest_infergate.runtimes.conversion_child"),
        *(child.__module__, child.__qualname__, str(path), str(folder), json.dumps(placing)),
    ]
    # The child looks for modules where this process does.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryFile() as printed:
        try:
            done = subprocess.run(  # noqa: S603 - this interpreter, and arguments of our own
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                timeout=max_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            limit = units.duration(max_seconds)
            raise ConversionError(f"the conversion did not end within {limit}") from None
        if done.returncode:
            printed.seek(0)
            text = printed.read().decode(errors="replace")
            raise ConversionError(_reason(done.returncode, text))


def _reason(code: int, printed: str) -> str:
    """Return why a child failed, from what it printed: its last line, or the signal that ended it."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    if code < 0:
        memory = ", as it is if memory runs out" if code == -9 else ""  # noqa: PLR2004 - SIGKILL
        return f"the conversion was ended by signal {-code}{memory}"
    return lines[-1][:400] if lines else f"the conversion ended with exit code {code}"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)


def _described(path: Path) -> list[Any]:
    content = path.read_bytes()
    return [len(content), hashlib.blake2b(content, digest_size=16).hexdigest()]


def _recorded(folder: Path) -> BuiltFiles | None:
    """Return the files of a folder; ``None`` if there are none, or if they are not those that were made."""
    try:
        record: Mapping[str, Any] = json.loads((folder / RECORD).read_text())
        sizes = {path.relative_to(folder).as_posix(): _described(path) for path in _files(folder)}
        if not sizes or sizes != record["files"]:
            return None
        seconds = float(record["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return BuiltFiles(folder, seconds, sum(int(size) for size, _ in sizes.values()), cached=True)
