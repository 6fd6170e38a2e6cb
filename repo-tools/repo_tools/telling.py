"""What an interrupted or failing step leaves behind, said in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from repo_tools.errors import RepoToolsError
from updog.errors import UpdogError


@contextmanager
def telling(doing: str, what: object, *, left: str) -> Iterator[None]:
    """Turn a failing operation, or Ctrl-C, into an error that says what was done and is left.

    Raises:
        RepoToolsError: "cannot DOING WHAT: why; LEFT".
    """
    try:
        yield
    except OSError as error:
        file = f" ({error.filename})" if error.filename else ""
        reason = f"{error.strerror or error}{file}"
        raise RepoToolsError(f"cannot {doing} {what}: {reason}; {left}") from error
    except UpdogError as error:
        raise RepoToolsError(f"cannot {doing} {what}: {error}; {left}") from error
    except KeyboardInterrupt as error:
        raise RepoToolsError(f"cannot {doing} {what}: interrupted; {left}") from error
