"""What simulated hosts ask for is what the real agent asks for."""

from pathlib import Path

from repo_tools.rollout.published import from_repository
from repo_tools.rollout.schedule import Traffic
from tests.helpers.machine import Machine
from updog.versions import parse_version


def asked_by(machine: Machine, *command: str) -> list[str]:
    machine.server.requests.clear()
    machine.updog(*command).succeeded()
    return [each.target for each in machine.server.requests]


def test_a_check_and_an_update_make_the_requests_that_a_simulated_host_makes(
    machine: Machine,
) -> None:
    traffic = Traffic(update_bytes=0)
    asked = asked_by(machine, "check-update")
    assert len(asked) == traffic.check_requests + traffic.news_requests, asked
    asked = asked_by(machine, "check-update")
    assert len(asked) == traffic.check_requests, asked
    asked = asked_by(machine, "update", "--now")
    assert len(asked) == traffic.check_requests + traffic.update_requests, asked


def test_a_check_reads_the_bytes_that_a_simulated_host_reads(machine: Machine) -> None:
    schedule = from_repository(
        machine.repository, parse_version("1.1.0"), start=None, update_bytes=None
    )
    metadata, targets = machine.repository / "metadata", machine.repository / "targets"

    def bytes_of_check() -> int:
        names = [Path(each.split("?")[0]).name for each in asked_by(machine, "check-update")]
        found = [path for name in names for path in (metadata / name, targets / name)]
        return sum(path.stat().st_size for path in found if path.exists())

    assert bytes_of_check() == schedule.traffic.check_bytes + schedule.traffic.news_bytes
    assert bytes_of_check() == schedule.traffic.check_bytes
