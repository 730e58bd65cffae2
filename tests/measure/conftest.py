from measuring_fixtures import collections, undisturbed  # noqa: F401 - fixtures
