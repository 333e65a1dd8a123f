"""Each gate as a predicate over figures."""

import pytest

from asgireload.supervisor.figures import GenerationFigures
from asgireload.supervisor.gates import (
    AliveGate,
    Gate,
    GateOutcome,
    HealthyGate,
    LoadedGate,
    ReadyGate,
    ReturnedGate,
)

PASSED, NOT_YET = GateOutcome.PASSED, GateOutcome.NOT_YET
FAILED = GateOutcome.FAILED


def figures(**more):
    return GenerationFigures(2, opened_at=100.0, **{"seen_at": 101.0, "places": 4, **more})


@pytest.mark.parametrize(
    ("gate", "seen", "outcome"),
    [
        (LoadedGate(), {}, NOT_YET),
        (LoadedGate(), {"is_loaded": True}, PASSED),
        (LoadedGate(), {"is_loaded": True, "is_broken": True, "changed_at": 101.0}, PASSED),
        (LoadedGate(0.5), {"is_loaded": True, "changed_at": 100.9}, PASSED),
        (LoadedGate(0.5), {"is_loaded": True, "is_broken": True, "changed_at": 100.9}, NOT_YET),
        (LoadedGate(0.5), {"is_loaded": True, "is_broken": True, "changed_at": 100.5}, PASSED),
        (ReadyGate(), {}, NOT_YET),
        (ReadyGate(), {"ready": 1}, PASSED),
        (ReadyGate(workers=2), {"ready": 1}, NOT_YET),
        (AliveGate(5.0), {"seen_at": 104.9}, NOT_YET),
        (AliveGate(5.0), {"seen_at": 105.0}, PASSED),
        (AliveGate(5.0), {"seen_at": 101.0, "deaths": 1}, FAILED),
        (HealthyGate(), {"serving": 3}, NOT_YET),
        (HealthyGate(), {"serving": 4, "others_accepting": 1}, NOT_YET),
        (HealthyGate(), {"serving": 4}, PASSED),
        (ReturnedGate(), {"changing": 1, "can_start": True}, NOT_YET),
        (ReturnedGate(), {"changing": 1}, FAILED),
        (ReturnedGate(), {"changing": 0}, PASSED),
    ],
)
def test_outcome(gate, seen, outcome):
    assert gate.judge(figures(**seen), None).outcome is outcome


def test_a_gate_that_waits_for_a_moment_names_it():
    assert AliveGate(5.0).judge(figures(), None).look_again_at == 105.0
    broken = figures(is_loaded=True, is_broken=True, changed_at=100.9)
    assert LoadedGate(0.5).judge(broken, None).look_again_at == pytest.approx(101.4)
    assert ReadyGate().judge(figures(), None).look_again_at is None


def test_a_gate_that_has_failed_says_why():
    result = AliveGate(5.0).judge(figures(deaths=2), None)
    assert result.reason == "2 workers of generation 2 died"
    assert "generation 2" in ReturnedGate().judge(figures(changing=1), None).reason


def test_no_gate_of_today_reads_traffic():
    """It would cost the supervisor a look at every record, several times a second."""
    assert not any(gate.reads_traffic for gate in Gate.__subclasses__() if is_ours(gate))


def is_ours(gate):
    return gate.__module__.startswith("asgireload.")
