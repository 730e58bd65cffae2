"""The errors that infergate raises on purpose. Each message says what, where and the cure."""


class InfergateError(Exception):
    """Base of every error that infergate raises on purpose; its text is meant for the user as it stands."""


class ConfigurationError(InfergateError):
    """An option, an ini value, a table of ``[tool.infergate]`` or a marker argument cannot be used."""


class StorageError(InfergateError):
    """A baseline, a result file or a report cannot be read or written."""


class NotMeasuredError(InfergateError, AttributeError):
    """A figure was asked of a result whose run did not measure it."""
