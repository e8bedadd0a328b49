"""What git says tells a repository that is gone from a passing fault, an outage, and a full disk."""

from __future__ import annotations

import pytest

from cloning import failures
from cloning.failures import CircuitBreaker, OutageError, classify


def test_an_unknown_error_of_git_is_worth_another_try() -> None:
    error = classify("warning: x\nfatal: the remote end hung up unexpectedly\n")
    assert (error.state, str(error)) == ("failed", "the remote end hung up unexpectedly")


@pytest.mark.parametrize(
    "reason", ["No space left on device", "Disk quota exceeded", "Read-only file system"]
)
def test_a_full_disk_is_no_fault_of_the_repository_and_ends_the_run(reason: str) -> None:
    with pytest.raises(OSError, match=reason):
        classify(f"error: file write error: {reason}\nfatal: fetch-pack: invalid index-pack output\n")


def test_an_outage_that_lasts_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    breaker = CircuitBreaker()
    breaker.record_answer()
    monkeypatch.setattr(failures, "TRIP_AFTER", 5)
    waiting = [breaker.record_failure(str(number)) for number in range(6)]
    assert waiting == [[], [], [], [], ["0", "1", "2", "3", "4"], ["5"]]
    breaker.check("error: 502")
    monkeypatch.setattr(failures, "FAULT_PATIENCE", -1.0)
    with pytest.raises(OutageError, match="error: 502"):
        breaker.check("error: 502")
