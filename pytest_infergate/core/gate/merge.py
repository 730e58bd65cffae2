"""Merged results of several machines. The order of the sessions does not matter, nor does a repeated one."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence

import msgspec

from pytest_infergate.core.domain.advice_values import Recommendations
from pytest_infergate.core.domain.outcome import CaseVerdict, Outcome, Session
from pytest_infergate.core.domain.values import Case, Environment, Hardware, Note
from pytest_infergate.core.gate import decide


def merge_sessions(named: Iterable[tuple[str, Session]]) -> tuple[Session, ...]:
    """Return every distinct session once; `named` contains sessions with the names of their files.

    Raises `ValueError` as `merge_order` does.
    """
    sessions = list(named)
    order = merge_order(sessions, lambda place: msgspec.json.encode(sessions[place][1], order="sorted"))
    return tuple(sessions[place][1] for place in order)


def merge_order(named: Iterable[tuple[str, Session]], content: Callable[[int], bytes]) -> list[int]:
    """Return the places of the distinct sessions, in an order that does not depend on that of the input.

    `content` returns the bytes in which equal sessions are equal, of the session at a place. It is called for
    sessions of one machine and time only, after all sessions were taken, so that these need not be kept.
    Raises `ValueError` if two different sessions measured the same case on the same class of hardware,
    because there is no rule for which of them counts.
    """
    taken = [(name, session.created, machines(session), set(_measured(session))) for name, session in named]
    groups: dict[tuple[str, str], list[int]] = {}
    for place, (_, created, machine, _) in enumerate(taken):
        groups.setdefault((machine, created), []).append(place)
    order: list[int] = []
    for _, places in sorted(groups.items()):
        # Equal sessions are one: a shell pattern may match a file and its copy.
        distinct = {content(place): place for place in reversed(places)} if places[1:] else {b"": places[0]}
        order += [place for _, place in sorted(distinct.items())]
    seen: dict[tuple[str, Case], int] = {}
    for place in order:
        name, created, _, measured = taken[place]
        for hardware, case in sorted(measured & seen.keys(), key=lambda key: (key[0], key[1].order)):
            first, earlier, _, _ = taken[seen[hardware, case]]
            raise ValueError(
                f"{case.name} was measured twice on {hardware} with different results: in {first} "
                f"({earlier}) and in {name} ({created}). Hint: leave out one of the files"
            )
        # Only sessions with a valid measurement contradict each other; a case may be skipped on many
        # machines.
        seen |= dict.fromkeys(measured, place)
    return order


def flat_session(sessions: Sequence[Session]) -> Session:
    """Join sessions into one with all cases, each verdict with its machine, and one decision about all.

    A case that a machine skipped because it needs another device is left out if another machine measured it.
    The environment contains what all machines have in common. Raises `ValueError` without any session.
    """
    if not sessions:
        raise ValueError("there must be at least one session")
    if len(sessions) == 1:
        return sessions[0]
    measured = {case for session in sessions for _, case in _measured(session)}
    gates = [
        msgspec.structs.replace(session.gate, verdicts=_placed_verdicts(session, measured))
        for session in sessions
    ]
    first, *others = sessions
    return Session(
        # The newest of all, because a reader must understand every part.
        tool_version=max(session.tool_version for session in sessions),
        created=max(session.created for session in sessions),
        environment=_common_environment([session.environment for session in sessions]),
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


def machines(session: Session) -> str:
    """Return a description of the hardware of a session."""
    found = dict.fromkeys(result.hardware.text for result in session.cases if result.hardware is not None)
    return " and ".join(found) or "a machine without a measured case"


def _measured(session: Session) -> Iterable[tuple[str, Case]]:
    ids: dict[Hardware, str] = {}  # a digest a case would take as long as reading the files
    return (
        (ids.get(result.hardware) or ids.setdefault(result.hardware, result.hardware.id), result.case)
        for result in session.cases
        if result.hardware is not None and result.outcome is Outcome.MEASURED
    )


def _placed_verdicts(session: Session, measured: Container[Case]) -> tuple[CaseVerdict, ...]:
    """Return the verdicts of a session, each with the id of the hardware class that its case ran on."""
    hardware = {(result.nodeid, result.case): result.hardware for result in session.cases}
    placed = []
    for verdict in session.gate.verdicts:
        place = hardware.get((verdict.nodeid, verdict.case))
        if place is not None or verdict.failed or verdict.case not in measured:
            placed.append(msgspec.structs.replace(verdict, machine="" if place is None else place.id))
    return tuple(placed)


def _common_environment(environments: Sequence[Environment]) -> Environment:
    """Return what all environments have in common; values that differ are left empty."""
    first, *others = environments
    packages = {
        name: version
        for name, version in first.packages.items()
        if all(other.packages.get(name) == version for other in others)
    }
    # A value that is not the same everywhere would be wrong for some machines.
    memory = {environment.memory_bytes for environment in environments}
    policies = {environment.wait_policy for environment in environments}
    return Environment(
        os=first.os if all(other.os == first.os for other in others) else "",
        python=first.python if all(other.python == first.python for other in others) else "",
        packages=packages,
        # One virtual machine makes the times of the whole less certain.
        virtual=any(environment.virtual for environment in environments),
        memory_bytes=memory.pop() if len(memory) == 1 else None,
        wait_policy=policies.pop() if len(policies) == 1 else None,
    )


def _joined_advice(sessions: Iterable[Session]) -> Recommendations | None:
    """Join the advice of several sessions. Each advice is about the machines of its own session."""
    stored = [session.advice for session in sessions if session.advice is not None]
    unanswered: dict[str, tuple[Note, ...]] = {}
    for model, notes in (item for advice in stored for item in advice.unanswered.items()):
        unanswered[model] = tuple(dict.fromkeys((*unanswered.get(model, ()), *notes)))
    # Costs of different machines are not compared: their sessions may have had other demands.
    answers = tuple(answer for advice in stored for answer in advice.answers)
    return Recommendations(answers=answers, unanswered=unanswered) if stored else None
