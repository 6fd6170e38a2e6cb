"""Builders of what a machine remembers and of its boot flags: vary one fact, leave the rest."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import strategies as st
from semver import Version

from signpost.flags import BootFlags
from signpost.sets import SetName
from signpost.state import BootState
from updog.history import Content, Event, EventKind

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def an_event(
    kind: EventKind = EventKind.INSTALLED,
    version: str = "1.1.0",
    *,
    name: SetName = SetName.B,
    time: datetime = NOON,
    running: str | None = None,
    size: int | None = None,
    seconds: float | None = None,
    error: str | None = None,
    boot_id: str | None = None,
    by_hand: bool = False,
    unseen: bool = False,
    outcome: str | None = None,
    offered: str | None = None,
) -> Event:
    """Build an event; `name` is the set that it happened to."""
    return Event(
        time=time,
        kind=kind,
        version=Version.parse(version),
        set=name,
        running=Version.parse(running) if running else None,
        bytes=size,
        seconds=seconds,
        error=error,
        boot_id=boot_id,
        by_hand=by_hand,
        unseen=unseen,
        outcome=outcome,
        offered=Version.parse(offered) if offered else None,
    )


def an_activated_update(
    version: str = "1.1.0", *, name: SetName = SetName.B, boot_id: str | None = None
) -> tuple[Event, ...]:
    """Build the events of an update from 1.0.0 that waits for its first boot."""
    return (
        an_event(EventKind.STARTED, version, name=name, running="1.0.0"),
        an_event(EventKind.INSTALLED, version, name=name, size=1000, seconds=1.5),
        an_event(EventKind.ACTIVATED, version, name=name, boot_id=boot_id),
    )


def flags(text: str) -> BootFlags:
    """Build boot flags from priority/tries/successful, like `2/1/0`."""
    priority, tries, successful = text.split("/")
    return BootFlags(priority=int(priority), tries=int(tries), successful=successful == "1")


def a_state(
    a: str = "1/0/1", b: str | None = "0/0/0", *, active: SetName | None = SetName.A
) -> BootState:
    """Build the boot state of a machine; without `b` it has a single set."""
    both = {SetName.A: flags(a)} | ({SetName.B: flags(b)} if b else {})
    return BootState(flags=both, active=active, ever_succeeded=True)


_small = st.integers(0, 99)
_versions = st.builds(
    Version, major=_small, minor=_small, patch=_small, prerelease=st.sampled_from([None, "rc.1"])
)
_moments = st.datetimes(
    min_value=datetime(2000, 1, 1),  # noqa: DTZ001 -- hypothesis adds the time zone
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9, minutes=-30))]),
).map(lambda moment: moment.replace(microsecond=0))

any_event = st.builds(
    Event,
    time=_moments,
    kind=st.sampled_from(EventKind),
    version=_versions,
    set=st.sampled_from(SetName),
    running=st.none() | _versions,
    offered=st.none() | _versions,
    outcome=st.none() | st.text(max_size=20),
    bytes=st.none() | st.integers(0, 1 << 50),
    seconds=st.none() | st.floats(0, 1e6),
    error=st.none() | st.text(max_size=50),
    boot_id=st.none() | st.text(max_size=40),
    by_hand=st.booleans(),
    unseen=st.booleans(),
    contents=st.none()
    | st.dictionaries(
        st.sampled_from(["hash", "boot"]),
        st.builds(Content, length=st.integers(0, 1 << 40), sha256=st.text("0123456789abcdef")),
        min_size=1,
    ),
)
"""A hypothesis strategy of events, also such as never happen."""
