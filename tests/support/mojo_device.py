"""A plugin for pytest that registers the device `mojo` of torch-mojo-backend before anything is collected.

The tests with the marker `gpu` then run on it: ``pytest -p mojo_device -m gpu``.
"""

from torch_mojo_backend import register_mojo_devices

register_mojo_devices()
