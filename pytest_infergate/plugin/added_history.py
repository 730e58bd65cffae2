"""The session of a run is added to the history, or kept until it can be."""

from __future__ import annotations

import shlex

from pytest_infergate.config.toml import project_name
from pytest_infergate.core.domain.addresses import without_secrets
from pytest_infergate.core.domain.outcome import Session
from pytest_infergate.core.gate.history_session import history_session
from pytest_infergate.errors import ConfigurationError
from pytest_infergate.history import pending
from pytest_infergate.history.commit_state import with_commit
from pytest_infergate.history.locations import open_store
from pytest_infergate.history.session_history import SessionHistory
from pytest_infergate.runner.run import InferenceRun


def check_history(run: InferenceRun) -> None:
    """Raise `ConfigurationError` for an unusable address or a missing driver; no server is asked."""
    settings = run.settings
    if settings.history is None:
        return
    if settings.paired:
        if "history" in settings.command:
            raise ConfigurationError(
                "--infer-history cannot be combined with a paired run, whose times are valid for its workers "
                "only. Hint: leave out one of them"
            )
        return
    open_store(settings.history, settings.rootdir)


def add_to_history(run: InferenceRun, session: Session) -> list[str]:
    """Add a session to the history of the settings, and say what was done.

    It is kept in a file first, so that neither a server nor a killed run loses it. The run does not fail
    where the history cannot be reached: its verdicts do not depend on it.
    """
    place = run.settings.history
    if place is None or session.against is not None or not session.cases:
        return []
    rootdir = run.settings.rootdir
    project = project_name(rootdir)
    pending.keep_pending(with_commit(history_session(session, project), rootdir), rootdir)
    pushed = pending.push(lambda: SessionHistory(open_store(place, rootdir), project), rootdir)
    shown = without_secrets(place)
    lines = []
    if pushed.added:
        lines.append(f"added {_sessions(len(pushed.added))} to the history in {shown}")
        if (later := pushed.added[-1].later) is not None:
            lines.append(
                f"the history has a session of {later}, which is later than this one: check the clocks of "
                "the machines"
            )
    if pushed.problem:
        lines.append(f"not added to the history: {pushed.problem}")
        credentials = "" if shown == place else " (with the credentials of the address)"
        lines.append(
            f"kept {_sessions(pushed.pending)} in {pending.PENDING_FOLDER}; to add later: "
            f"infergate history push --history {shlex.quote(shown)}{credentials}"
        )
    return lines


def _sessions(count: int) -> str:
    return "this session" if count == 1 else f"{count} sessions"
