"""`updog hold` and `updog release`: hold updates back, and let them go."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from updog.commands.output import print_json, print_result, wants_json
from updog.commands.settings import command, read_config
from updog.config import Config
from updog.guard import require_guarded
from updog.hold import Hold, hold_facts, hold_words
from updog.hold_files import find_hold, hold_updates, release_updates

_SPAN = re.compile(r"(?P<count>[1-9]\d{0,5}) ?(?P<unit>minute|hour|day|week)s?", re.ASCII)
_LONGEST_REASON = 500


class _MomentType(click.ParamType[datetime]):
    """A moment on the command line: RFC 3339, a local date and time, or a span from now on."""

    name = "moment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Read a moment that is still to come, or fail with a usage error."""
        now = datetime.now(UTC)
        try:
            moment = _moment(str(value), now)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is no moment; write 2026-12-24T18:00, 2026-12-24, or '3 days'",
                param,
                ctx,
            )
        if moment <= now:
            self.fail(f"{value!r} is over", param, ctx)
        return moment


def _moment(text: str, now: datetime) -> datetime:
    if span := _SPAN.fullmatch(text):
        return now + timedelta(**{f"{span['unit']}s": int(span["count"])})
    moment = datetime.fromisoformat(text).astimezone(UTC)
    moment.astimezone()  # fails at the end of time, in zones that are ahead: it could not be shown
    return moment


@command("hold", example="updog hold --until '3 days' --reason 'trade fair'")
@click.option(
    "--until",
    type=_MomentType(),
    metavar="MOMENT",
    help="When it ends by itself: a date, a date and time, or a span like '3 days'.",
)
@click.option("--reason", default="", metavar="TEXT", help="What is told to whoever asks.")
def hold(*, until: datetime | None, reason: str) -> None:
    """Hold updates back: none is taken, and no restart made, until `updog release`.

    `updog update --image VERSION` insists. An update that is active already is entered by any
    restart; `updog update-revert` takes it back.
    """
    config = _config()
    held = hold_updates(config.paths.state, until=until, reason=reason[:_LONGEST_REASON])
    if wants_json():
        print_json(hold_facts(held))
    else:
        print_result(f"On hold    {hold_words(held)}")


@command("release", example="updog release")
def release() -> None:
    """Let updates go that `updog hold` holds back.

    Says so if something else still holds them.
    """
    config = _config()
    released = release_updates(config.paths.state)
    other = find_hold(config.paths, now=datetime.now(UTC))
    if wants_json():
        facts = hold_facts(released) if released else None
        print_json({"released": facts, "hold": hold_facts(other) if other else None})
    else:
        print_result("\n".join(_release_lines(released, other)))


def _release_lines(released: Hold | None, other: Hold | None) -> list[str]:
    done = "Released   updates are taken again" if released else "Released   nothing was on hold"
    if other is not None:
        return [f"On hold    {hold_words(other)}"]
    return [done]


def _config() -> Config:
    config = read_config()
    require_guarded(config.paths.state, what="the state directory")
    return config
