"""One workshop, publisher and factory disk for all boots of a session; one machine at a time."""

import mmap
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from repo_tools.programs import find_own_command
from repo_tools.server import open_server
from repo_tools.sources import Release
from tests.boot.disks import EFI_MIB, Judge, give_channel, install_on_host, make_factory_disk
from tests.boot.emulator import (
    STAGE1_COMMAND_LINE,
    Firmware,
    VirtualMachine,
    a_virtual_machine,
    direct,
)
from tests.boot.place import CACHE, GUEST, HOST, PROJECT, kernel, kernel_modules
from tests.boot.releases import FACTORY, Channel, Publisher, Workshop
from tests.boot.userland import build_busybox_root, build_systemd_root
from tests.helpers.machine import copy_sparsely

_seconds_in_stage1: list[float] = []

UNITS = PROJECT / "systemd"
"""The units that are shipped; a machine with systemd is given them."""
_STAND_IN = Path(__file__).parent / "guest" / "stand-in"
"""The one unit that no machine can do without, as long as none are shipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """What every case needs, and a directory of its own."""

    workshop: Workshop
    publisher: Publisher
    port: int
    firmware: Firmware
    factory_disk: Path
    directory: Path
    has_systemd: bool = False

    @property
    def disk(self) -> Path:
        return self.directory / "disk.img"

    @property
    def judge(self) -> Judge:
        return Judge(self.disk)

    def offer(self, *releases: Release) -> Channel:
        """Make a disk with the factory version whose machine may update to releases."""
        channel = self.publisher.publish(*releases)
        copy_sparsely(self.factory_disk, self.disk)
        give_channel(self.disk, channel, port=self.port, has_systemd=self.has_systemd)
        return channel

    def install(self, release: Release) -> None:
        """Make a disk on which a release waits for its first boot in set B.

        The installed updog does it, here on the host and in seconds; what it remembers of it goes
        along to the machine.
        """
        channel = self.offer(release)
        install_on_host(self.disk, channel, port=self.port)

    def boot(self, task: str, *, timeout_seconds: float = 180) -> VirtualMachine:
        """Let the machine do a task until it switches itself off; return what it said."""
        with self.machine(task) as machine:
            machine.wait_until_off(timeout_seconds=timeout_seconds)
        _seconds_in_stage1.extend(map(float, re.findall(r"loaded, ([\d.]+) s", machine.text)))
        return machine

    def cut_when_written(
        self,
        machine: VirtualMachine,
        place: range,
        *,
        times: int = 1,
        timeout_seconds: float = 120,
    ) -> None:
        """Cut the power as soon as a range of the disk's bytes has changed so many times."""
        with self.disk.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as seen:

            def content() -> bytes:
                return seen[place.start : place.stop]

            for _ in range(times):
                machine.wait_for_change(content, timeout_seconds=timeout_seconds)
        machine.cut_power()

    def machine(self, task: str) -> AbstractContextManager[VirtualMachine]:
        """Switch the machine on for as long as a context lasts."""
        log = self.directory / f"console-{uuid4().hex[:6]}-{task}.log"
        return a_virtual_machine(self.firmware, disk=self.disk, task=task, log=log)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    made = Workshop(tmp_path_factory.mktemp("workshop"), build_busybox_root)
    made.prepare()
    return made


@pytest.fixture(scope="session")
def systemd_workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    build_root = partial(build_systemd_root, units=UNITS if UNITS.is_dir() else _STAND_IN)
    made = Workshop(tmp_path_factory.mktemp("systemd-workshop"), build_root)
    made.prepare()
    return made


@pytest.fixture(scope="session")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make stage-1 in every form by the installed command; return the directory."""
    directory = tmp_path_factory.mktemp("stage1")
    stub = HOST / "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
    command = [
        *(str(find_own_command("repo-tools")), "image", "stage1", str(directory)),
        *("--kernel", str(kernel()), "--modules", str(kernel_modules()), "--system", str(GUEST)),
        *("--stub", str(stub), "--syslinux", "--esp-mib", str(EFI_MIB)),
        *("--command-line", STAGE1_COMMAND_LINE),
    ]
    path = f"{CACHE / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="session")
def factory_disk(
    workshop: Workshop, stage1: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("factory") / "disk.img"
    make_factory_disk(path, workshop.release(FACTORY), esp=stage1 / "esp.img")
    return path


@pytest.fixture(scope="session")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Publisher, int]]:
    made = Publisher(tmp_path_factory.mktemp("publisher"))
    made.keys.generate()
    made.served.mkdir()
    with open_server(made.served, port=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made, server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def lab(
    workshop: Workshop,
    publisher: tuple[Publisher, int],
    stage1: Path,
    factory_disk: Path,
    tmp_path: Path,
) -> Iterator[Lab]:
    made, port = publisher
    yield Lab(
        workshop=workshop,
        publisher=made,
        port=port,
        firmware=direct(stage1 / "initrd.img"),
        factory_disk=factory_disk,
        directory=tmp_path,
    )
    (tmp_path / "disk.img").unlink(missing_ok=True)


@pytest.fixture
def systemd_lab(lab: Lab, systemd_workshop: Workshop, stage1: Path) -> Lab:
    """Return a lab whose guests run systemd."""
    factory = lab.directory / "factory.img"
    make_factory_disk(factory, systemd_workshop.release(FACTORY), esp=stage1 / "esp.img")
    return replace(lab, workshop=systemd_workshop, factory_disk=factory, has_systemd=True)


def chosen(said: VirtualMachine) -> list[str]:
    """Return every set that stage-1 chose, in order, each followed by its kernel or not."""
    return re.findall(r"stage-1: set ([AB]), ", said.text)


def boots(said: VirtualMachine) -> list[str]:
    """Return set and version of every system that came up, in their order."""
    found = re.findall(r"MARK boot set=(\w*) version=(\S+)", said.text)
    return [" ".join(one) for one in found]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how long stage-1 took, from the start of its kernel to the jump into the next one."""
    if times := sorted(_seconds_in_stage1):
        middle = times[len(times) // 2]
        terminalreporter.line(
            f"stage-1: {len(times)} boots, {middle} s each ({times[0]} to {times[-1]})"
        )
