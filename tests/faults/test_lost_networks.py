"""The network goes at every tenth of a download: for good, or once at each within one run."""

import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.conftest import EXPLORES_ALL
from tests.helpers.fake_clock import clock_set_by, fast_clock, run_fast
from tests.helpers.http_server import Handler, Misbehaviour, cut_at, serving
from tests.helpers.judge import ROLES, Judge
from tests.helpers.machine import Machine, target_of

TENTHS = range(11) if EXPLORES_ALL else (0, 4, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """The images of an update, one after the other, as they are fetched."""

    targets: tuple[Path, ...]

    @property
    def length(self) -> int:
        return sum(target.stat().st_size for target in self.targets)

    def place(self, tenth: int) -> tuple[Path, int]:
        """Return the image and the offset in it where a tenth of the whole ends."""
        left = min(self.length * tenth // 10, self.length - 1)
        for target in self.targets:
            if left < target.stat().st_size:
                return target, left
            left -= target.stat().st_size
        raise AssertionError


def download_of(machine: Machine) -> Download:
    return Download(targets=tuple(target_of(machine, role) for role in ROLES))


@pytest.mark.parametrize("tenth", TENTHS)
def test_a_network_that_is_gone_for_good_is_given_up_and_the_next_run_starts_over(
    machine: Machine, tenth: int
) -> None:
    """It answers until some byte, and from then on nobody listens; minutes pass in a second."""
    judge, clock = Judge(machine), machine.directory / "clock"
    target, offset = download_of(machine).place(tenth)
    with ExitStack() as stack:
        server = stack.enter_context(serving(machine.repository))
        machine.configure(machine.server.url, server.url)

        def vanish(handler: Handler, body: bytes) -> None:
            server.close()
            cut_at(offset)(handler, body)
            # Once it has got all that, and found nobody: else the last bytes would come too late.
            threading.Timer(0.5, run_fast, [clock, 1000]).start()

        # The first request is the one that makes sure that the image is there.
        server.misbehave(f"/targets/{target.name}", Handler.serve, vanish)
        machine.environment |= (faked := clock_set_by(clock))
        run = machine.updog("update", "--now")
        for name in faked:
            del machine.environment[name]
        where = f"(at byte {offset})" if offset else "Connection refused"
        judge.failed(run, f"cannot fetch {server.url}/targets/{target.name}: ", where, "in a row")
        machine.configure(server.url, machine.server.url)
    judge.next_run_succeeds()


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What a server has sent of one file, each range by its first byte and the one behind it."""

    sent: list[tuple[int, int]] = field(default_factory=list)

    def until(self, end: int) -> Misbehaviour:
        """Send what is asked for, up to a byte, and break off there."""

        def behave(handler: Handler, body: bytes) -> None:
            self.sent.append((handler.wanted_offset(body) or 0, end))
            cut_at(end)(handler, body)

        return behave


def test_a_network_that_breaks_at_every_tenth_is_gone_on_with_at_the_byte(machine: Machine) -> None:
    judge, ledger = Judge(machine), Ledger()
    target = target_of(machine, "root")
    length = target.stat().st_size
    ends = [length * tenth // 10 for tenth in range(1, 11)]
    machine.server.misbehave(
        f"/targets/{target.name}", Handler.serve, *(ledger.until(end) for end in ends)
    )
    machine.environment |= (fast := fast_clock(10))
    run = machine.updog("update", "--now").succeeded()
    for name in fast:
        del machine.environment[name]
    judge.installed()
    assert run.stderr.count("the connection broke off") == 9
    assert ledger.sent == list(zip([0, *ends[:-1]], ends, strict=True)), "a byte was sent twice"
    assert len(machine.server.asked_for(f"/targets/{target.name}")) == 1 + len(ends)
