"""A fleet of machines: how many, how often they look for updates, how often they cannot."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from repo_tools.errors import RepoToolsError
from repo_tools.rollout.curve import Axis
from repo_tools.rollout.schedule import MICROSECONDS, Schedule
from updog.units import duration

_MOST_CHECKS: Final = 2e9
"""More of them take longer to play than anybody waits: a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """How many machines there are, and how they behave; the model is that of `play`."""

    hosts: int
    check_interval: timedelta
    """From one check of a host to the next, at least; above 0."""
    check_delay: timedelta
    """How much more it is at most."""
    offline_share: float
    """How much of the fleet has no network at any moment; at least 0 and below 1."""
    outage: timedelta
    """How long an outage lasts on average; above 0."""

    def sentences(self) -> tuple[str, ...]:
        """Say it in one or two sentences."""
        hosts = f"{self.hosts:,}".replace(",", " ")
        shortest, longest = self.check_interval, self.check_interval + self.check_delay
        checks = f"{hosts} hosts, each checks every {_span(shortest)}"
        if longest > shortest:
            checks += f" to {_span(longest)}"
        if not self.offline_share:
            return (checks,)
        share = f"{100 * self.offline_share:g} %"
        return checks, f"{share} are offline at any moment, for {_span(self.outage)} on average"

    def axis(self, schedules: Sequence[Schedule]) -> Axis:
        """Choose the time to play: until nearly all hosts have the update by every schedule.

        Raises:
            RepoToolsError: that would take very long.
        """
        last = max(max(schedule.readiness()) for schedule in schedules) / MICROSECONDS
        patience = 2 * (self.check_interval + self.check_delay)
        if self.offline_share > 0:
            patience += 3 * self.outage
        axis = Axis.covering(
            max(0.0, last) + patience.total_seconds(),
            finest_seconds=self.check_interval.total_seconds() / 6,
        )
        self._refuse_ages(axis)
        return axis

    def _refuse_ages(self, axis: Axis) -> None:
        checks = self.hosts * axis.seconds / self.check_interval.total_seconds()
        if checks > _MOST_CHECKS:
            raise RepoToolsError(
                f"cannot play {self.hosts} hosts for {duration(timedelta(seconds=axis.seconds))} "
                f"with a check every {duration(self.check_interval)}: {checks:.1g} checks take too "
                "long; take fewer --hosts or a longer --check-interval"
            )


def _span(span: timedelta) -> str:
    """Return a duration without a unit of which there is none: `6 h`."""
    return duration(span).removesuffix(" 0 min").removesuffix(" 0 h")
