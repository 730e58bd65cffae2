"""Exceptions that infergate raises deliberately. Messages name the value, what is allowed, and a hint."""


class InfergateError(Exception):
    """Base class of all exceptions that infergate raises deliberately; the message is shown as it is."""


class ConfigurationError(InfergateError):
    """An option, an ini value, a key of ``[tool.infergate]`` or a marker argument is invalid."""


class StorageError(InfergateError):
    """A baseline, a results file or a report cannot be read or written."""


class ConversionError(InfergateError):
    """A model cannot be converted for a runtime or a dtype; the message is the reason in one line."""


class CaseTimeoutError(InfergateError):
    """A call of the model did not return within its limit."""


class NotMeasuredError(InfergateError, AttributeError):
    """A figure was requested from a result whose run did not measure it."""
