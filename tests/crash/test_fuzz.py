"""Some inputs of the fuzzer, so that it cannot rot."""

from collections import Counter
from itertools import islice
from pathlib import Path

from tests.crash.fuzz import outcomes


def test_hostile_tables_get_an_answer_or_a_typed_error_and_are_never_written(
    tmp_path: Path,
) -> None:
    counts = Counter(islice(outcomes(seed=2026, directory=tmp_path), 1000))
    assert counts["carried out"] > 0
    assert counts["changed"] > 0
    assert counts["TableError"] > 0
