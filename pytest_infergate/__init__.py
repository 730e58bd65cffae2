"""pytest-infergate: a pytest plugin and CI gate for inference regressions of PyTorch models."""

__version__ = "0.1.0"
