"""What is said where a run is stopped while it marks a set valid."""

import pytest
from semver import Version

from signpost.sets import SetName
from tests.helpers.events import a_state
from updog.update import words_for_marking


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        ("0/1/0", "1.1.0 stands in set B, marked valid, but the run was stopped then: interrupted"),
        ("0/0/0", "1.1.0 stands in set B, but the set could not be marked valid: interrupted"),
    ],
)
def test_whether_a_set_was_marked_valid_is_said_by_the_disk_not_by_the_failure(
    theirs: str, expected: str
) -> None:
    words = words_for_marking(Version(1, 1, 0), SetName.B, a_state(b=theirs), "interrupted")
    assert words.startswith(expected)
    assert "set A is untouched. Run the command again" in words


def test_a_disk_that_cannot_be_read_is_no_reason_to_claim_either() -> None:
    words = words_for_marking(Version(1, 1, 0), SetName.B, None, "interrupted")
    assert "`signpost status` says whether it is" in words
