"""Results of several machines put together: in any order, any number of times, never against each other."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

import msgspec

from pytest_infergate.core.domain.advice_values import Recommendations
from pytest_infergate.core.domain.model import Case, Environment, Note
from pytest_infergate.core.domain.outcome import CaseVerdict, Outcome, Session
from pytest_infergate.core.gate import decide


def merge_sessions(named: Iterable[tuple[str, Session]]) -> tuple[Session, ...]:
    """Return every session once, in an order that does not hang on how they were given.

    `named` pairs the name of a file with a session of it. Raises `ValueError` where two different sessions
    measured the same case on the same class of hardware: nobody could say which of them counts.
    """
    unique: dict[bytes, tuple[str, Session]] = {}
    for name, session in named:
        unique.setdefault(msgspec.json.encode(session, order="sorted"), (name, session))
    ordered = [named for _, named in sorted(unique.items(), key=lambda item: _order(item[1][1], item[0]))]
    seen: dict[tuple[str, Case], tuple[str, Session]] = {}
    for name, session in ordered:
        measured = set(_measured(session))
        for key in sorted(measured & seen.keys(), key=lambda found: (found[0], found[1].order)):
            raise ValueError(_contradiction(key, seen[key], (name, session)))
        seen |= dict.fromkeys(measured, (name, session))
    return tuple(session for _, session in ordered)


def flat_session(sessions: Sequence[Session]) -> Session:
    """Show sessions as one: all cases, each verdict with its machine, and one decision over all of them.

    A case that one machine skipped, because its device is another's, is left out there. The environment
    holds what all machines share. Raises `ValueError` where there is no session.
    """
    if not sessions:
        raise ValueError("there is no session to show")
    if len(sessions) == 1:
        return sessions[0]
    measured = {case for session in sessions for _, case in _measured(session)}
    gates = [msgspec.structs.replace(one.gate, verdicts=_placed(one, measured)) for one in sessions]
    first, *others = sessions
    return Session(
        tool_version=max(session.tool_version for session in sessions),
        created=max(session.created for session in sessions),
        environment=_shared([session.environment for session in sessions]),
        cases=tuple(
            result
            for session in sessions
            for result in session.cases
            if result.hardware is not None or result.case not in measured
        ),
        gate=decide.merge_gate_results(gates, [machines(session) for session in sessions]),
        against=first.against if all(other.against == first.against for other in others) else None,
        advice=_joined_advice(sessions),
    )


def _joined_advice(sessions: Iterable[Session]) -> Recommendations | None:
    """Put the advice of several sessions side by side: each rests on the machines of its own session."""
    stored = [session.advice for session in sessions if session.advice is not None]
    unanswered: dict[str, tuple[Note, ...]] = {}
    for model, notes in (item for advice in stored for item in advice.unanswered.items()):
        unanswered[model] = tuple(dict.fromkeys((*unanswered.get(model, ()), *notes)))
    answers = tuple(answer for advice in stored for answer in advice.answers)
    return Recommendations(answers=answers, unanswered=unanswered) if stored else None


def machines(session: Session) -> str:
    """Name the hardware of a session, in words."""
    found = dict.fromkeys(result.hardware.text for result in session.cases if result.hardware is not None)
    return " and ".join(found) or "a machine without a measured case"


def _order(session: Session, content: bytes) -> tuple[object, ...]:
    return machines(session), session.created, content


def _measured(session: Session) -> Iterable[tuple[str, Case]]:
    return (
        (result.hardware.id, result.case)
        for result in session.cases
        if result.hardware is not None and result.outcome is Outcome.MEASURED
    )


def _contradiction(key: tuple[str, Case], first: tuple[str, Session], second: tuple[str, Session]) -> str:
    hardware, case = key
    return (
        f"{case.name} was measured twice on {hardware}: in {first[0]} ({first[1].created}) and in "
        f"{second[0]} ({second[1].created}), with different contents; leave one of them out"
    )


def _placed(session: Session, measured: Container[Case]) -> tuple[CaseVerdict, ...]:
    """Verdicts of a session, each with the class of hardware that its case ran on."""
    places = {(one.nodeid, one.case): one.hardware for one in session.cases}
    placed = []
    for verdict in session.gate.verdicts:
        hardware = places.get((verdict.nodeid, verdict.case))
        if hardware is not None or verdict.failed or verdict.case not in measured:
            machine = "" if hardware is None else hardware.id
            placed.append(msgspec.structs.replace(verdict, machine=machine))
    return tuple(placed)


def _shared(environments: Sequence[Environment]) -> Environment:
    """What all environments have in common; where they differ, nothing."""
    first, *others = environments
    packages = {
        name: version
        for name, version in first.packages.items()
        if all(other.packages.get(name) == version for other in others)
    }
    memory = {environment.memory_bytes for environment in environments}
    policies = {environment.wait_policy for environment in environments}
    return Environment(
        os=first.os if all(other.os == first.os for other in others) else "",
        python=first.python if all(other.python == first.python for other in others) else "",
        packages=packages,
        virtual=any(environment.virtual for environment in environments),
        memory_bytes=memory.pop() if len(memory) == 1 else None,
        wait_policy=policies.pop() if len(policies) == 1 else None,
    )
