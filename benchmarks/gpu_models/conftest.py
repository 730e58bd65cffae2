"""The device `mojo`, on which the check of a GPU is rehearsed; others are those of infergate."""

from __future__ import annotations

from pytest_infergate import AcceleratorKind


class MojoKind(AcceleratorKind):
    """The device `mojo`, which torch knows once its package has registered it."""

    def open(self, name):  # noqa: ANN001, ANN201 - as in docs/extending.md
        from torch_mojo_backend import register_mojo_devices

        register_mojo_devices()
        return super().open(name)


def pytest_infergate_devices(config):  # noqa: ANN001, ANN201, ARG001
    return [MojoKind("mojo")]
