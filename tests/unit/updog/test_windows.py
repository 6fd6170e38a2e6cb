"""Where the time zones of windows come from, and what is said where there are none."""

import sys
import zoneinfo
from collections.abc import Iterator
from datetime import UTC
from zoneinfo import ZoneInfo

import pytest

from updog.config import WindowSettings
from updog.errors import ConfigError
from updog.windows import open_windows


def settings(time_zone: str) -> list[WindowSettings]:
    return [WindowSettings(begin="02:00", end="04:00", time_zone=time_zone)]


@pytest.fixture
def _no_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in ("tzdata", *(name for name in sys.modules if name.startswith("tzdata."))):
        monkeypatch.setitem(sys.modules, module, None)
    ZoneInfo.clear_cache()
    zoneinfo.reset_tzpath(to=[])
    yield
    zoneinfo.reset_tzpath()


def test_a_zone_is_found_by_its_name() -> None:
    (window,) = open_windows(settings("Europe/Berlin"))
    assert window.zone == ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    "name", ["Europe/Nowhere", "", "../../etc/passwd", "/etc/localtime", "a\0b"]
)
def test_a_zone_that_is_not_known_is_never_taken_for_utc(name: str) -> None:
    with pytest.raises(ConfigError, match="it is not in the time zone database; write a name like"):
        open_windows(settings(name))


@pytest.mark.usefixtures("_no_database")
def test_a_machine_without_a_time_zone_database_says_so() -> None:
    with pytest.raises(ConfigError, match="this machine has no time zone database; install tzdata"):
        open_windows(settings("Europe/Berlin"))


@pytest.mark.usefixtures("_no_database")
def test_utc_needs_no_database() -> None:
    (window,) = open_windows(settings("UTC"))
    assert window.zone is UTC
