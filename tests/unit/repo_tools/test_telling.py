import errno
from pathlib import Path

import pytest

from repo_tools.errors import RepoToolsError
from repo_tools.telling import telling


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (
            PermissionError(errno.EACCES, "Permission denied", "routes"),
            "Permission denied (routes)",
        ),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_what_was_done_and_what_is_left_are_told(failure: BaseException, expected: str) -> None:
    with (
        pytest.raises(RepoToolsError) as caught,
        telling("publish in", Path("/srv"), left="it is as it was"),
    ):
        raise failure
    assert str(caught.value) == f"cannot publish in /srv: {expected}; it is as it was"
    assert caught.value.__cause__ is failure
