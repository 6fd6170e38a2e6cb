"""What simulated hosts ask for is what the real agent asks for."""

from pathlib import Path

from repo_tools.rollout.published import from_repository
from repo_tools.rollout.schedule import Traffic
from tests.helpers.machine import Machine
from updog.versions import parse_version


def requests_of(machine: Machine, *command: str) -> int:
    before = len(machine.server.requests)
    machine.updog(*command).succeeded()
    return len(machine.server.requests) - before


def test_a_check_and_an_update_make_the_requests_that_a_simulated_host_makes(
    machine: Machine,
) -> None:
    traffic = Traffic(update_bytes=0)
    first_check = traffic.check_requests + traffic.news_requests
    assert requests_of(machine, "check-update") == first_check
    assert requests_of(machine, "check-update") == traffic.check_requests
    assert (
        requests_of(machine, "update", "--now") == traffic.check_requests + traffic.update_requests
    )


def test_a_check_reads_the_bytes_that_a_simulated_host_reads(machine: Machine) -> None:
    schedule = from_repository(
        machine.repository, parse_version("1.1.0"), start=None, update_bytes=None
    )
    metadata, targets = machine.repository / "metadata", machine.repository / "targets"

    def bytes_of_check() -> int:
        machine.server.requests.clear()
        machine.updog("check-update").succeeded()
        paths = [Path(each.target.split("?")[0]).name for each in machine.server.requests]
        found = [path for name in paths for path in (metadata / name, targets / name)]
        return sum(path.stat().st_size for path in found if path.exists())

    assert bytes_of_check() == schedule.traffic.check_bytes + schedule.traffic.news_bytes
    assert bytes_of_check() == schedule.traffic.check_bytes
