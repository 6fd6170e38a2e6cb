"""A few seconds of the fuzzer, so that it cannot rot."""

from tests.crash.fuzz import fuzz


def test_hostile_tables_get_an_answer_or_a_typed_error_and_are_never_written() -> None:
    outcomes = fuzz(seconds=4, seed=2026)
    assert outcomes["changed"] > 0
    assert outcomes["TableError"] > 0
