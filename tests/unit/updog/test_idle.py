"""Who is at work, as busctl tells it in its own words."""

from pathlib import Path

import pytest

from updog.errors import UpdogError
from updog.idle import find_busy

# As systemd 252 prints them: one document a line.
_ANSWERS = r"""#!/bin/sh
case "$*" in
*ListSessions) echo '{"type":"a(susso)","data":[[["3",1000,"ann","seat0","/s/3"],\
["c1",114,"gdm","seat0","/s/c1"],["7",0,"root","","/s/7"]]]}' ;;
*/s/3*) echo '{"type":"s","data":"user"}'; echo '{"type":"s","data":"active"}' ;;
*/s/c1*) echo '{"type":"s","data":"greeter"}'; echo '{"type":"s","data":"online"}' ;;
*/s/7*) echo '{"type":"s","data":"user"}'; echo '{"type":"s","data":"closing"}' ;;
*ListInhibitors) echo '{"type":"a(ssssuu)","data":[[\
["shutdown:sleep","dpkg","half an upgrade","block",0,99],\
["sleep","NetworkManager","networks","block",0,98],\
["shutdown","logger","last words","delay",0,97]]]}' ;;
esac
"""


def answering(directory: Path, script: str) -> Path:
    path = directory / "busctl"
    path.write_text(script.replace("\\\n", ""))
    path.chmod(0o755)
    return path


def test_users_that_are_logged_in_and_locks_that_block_are_told(tmp_path: Path) -> None:
    assert find_busy(answering(tmp_path, _ANSWERS)) == (
        "ann is logged in (session 3)",
        "dpkg inhibits it: half an upgrade",
    )


def test_nobody_is_at_work_where_logind_knows_of_nobody(tmp_path: Path) -> None:
    nobody = answering(tmp_path, '#!/bin/sh\necho \'{"type":"a(susso)","data":[[]]}\'\n')
    assert find_busy(nobody) == ()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("#!/bin/sh\necho no bus >&2; exit 1\n", "no bus"),
        ("#!/bin/sh\nexit 1\n", "exit 1"),
        ("#!/bin/sh\necho '{'\n", "logind answered otherwise than it should"),
        ("#!/bin/sh\n", "logind answered otherwise than it should"),
        ("#!/bin/sh\necho '[]'\n", "logind answered otherwise than it should"),
        ("#!/bin/sh\necho '{\"data\":[[[1]]]}'\n", "logind answered otherwise than it should"),
    ],
)
def test_an_answer_that_tells_nothing_is_never_taken_for_idleness(
    tmp_path: Path, script: str, why: str
) -> None:
    with pytest.raises(UpdogError) as caught:
        find_busy(answering(tmp_path, script))
    assert str(caught.value).startswith("cannot tell whether anybody is at work here: ")
    assert why in str(caught.value)


def test_a_machine_without_busctl_is_never_taken_for_idle(tmp_path: Path) -> None:
    with pytest.raises(UpdogError, match="No such file or directory"):
        find_busy(tmp_path / "busctl")
