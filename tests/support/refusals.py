"""Input that a command refuses, and what it answers, collected for a golden file."""


def refused(run, asked, **places):
    """Ask a command for each name with its arguments; a text with a line for each answer.

    Each ends with exit code 4 and prints nothing. Paths become the names of their `places`.
    """
    lines = []
    for name, arguments in asked.items():
        code, out, err = run(*arguments)
        assert (code, out) == (4, ""), (name, out, err)
        assert "Traceback" not in err
        message = err[err.index("Error: ") :].strip()
        for place, path in places.items():
            message = message.replace(str(path), f"<{place}>")
        lines.append(f"{name} -> {message}")
    return "\n".join(lines)


def by_arguments(*asked):
    """Lists of arguments by themselves, in words."""
    return {" ".join(map(str, arguments)) or "(nothing)": arguments for arguments in asked}
