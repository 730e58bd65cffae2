"""Changes of what a JSON document holds, for tests of files that are not as they should be."""


def put(*path_and_value):
    """A change of the JSON at a path."""
    *path, key, value = path_and_value

    def change(data):
        for step in path:
            data = data[step]
        data[key] = value

    return change
