"""Write the API reference of the public names as HTML: `make docs`, or `python docs/api.py FOLDER`."""
# ruff: noqa: INP001 - a script that writes documentation

import sys
from pathlib import Path

import pdoc

import pytest_infergate

# pdoc reads a module's own dictionary, into which public names come on first use.
for name in pytest_infergate.__all__:
    getattr(pytest_infergate, name)
pdoc.pdoc("pytest_infergate", "pytest_infergate.testing", output_directory=Path(sys.argv[1]))
