"""A virtual machine that runs from a disk image, watched through its serial console.

    with a_virtual_machine(how, disk=disk, task="update") as machine:
        machine.wait_for("MARK up set=B", timeout_seconds=60)

Decides how QEMU is called. A machine is a child process with a time limit: it is killed when the
context ends, whatever happened. What a kill models: a power cut after which the disk holds every
write that it acknowledged, and of those under way any part. Writes that a disk acknowledges and
loses are modelled by tests/crash, for the only thing that must survive them, the partition table.
"""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.boot.place import HOST, kernel

_LIBRARIES = HOST / "usr/lib/x86_64-linux-gnu"
MEMORY_MIB = 384
_PROBE_SECONDS = 10
MOST_STARTS = 4
"""No case needs more: a machine that starts more often goes round in circles."""
PATIENCE = float(os.environ.get("BOOT_PATIENCE", "1"))
"""Multiplies every time limit, for hosts that are busy with something else."""

FOR_EMULATED = "quiet no_timer_check"
"""What every kernel here is told: say little, the console is slow; and do not give up because the
emulated timer stands still for a moment, as it does on a busy host."""

STAGE1_COMMAND_LINE = f"console=ttyS0 {FOR_EMULATED} panic=5 gpt signpost.pause=3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """What the machine starts from: QEMU's own loader, or firmware and a loader on the disk."""

    arguments: tuple[str, ...]


def direct(initrd: Path, command_line: str = STAGE1_COMMAND_LINE) -> Firmware:
    """Let the emulator itself load the stage-1 kernel."""
    words = ("-kernel", str(kernel()), "-initrd", str(initrd), "-append", command_line)
    return Firmware(arguments=words)


def uefi(scratch: Path) -> Firmware:
    """Start from the disk by UEFI firmware, whose variables are kept in a directory."""
    variables = scratch / "efi-variables"
    shutil.copyfile(HOST / "usr/share/OVMF/OVMF_VARS.fd", variables)
    flash = "if=pflash,format=raw,file="
    code = f"{flash}{HOST / 'usr/share/OVMF/OVMF_CODE.fd'},readonly=on"
    return Firmware(arguments=("-drive", code, "-drive", f"{flash}{variables}"))


BIOS = Firmware(arguments=())
"""Start from the disk by the emulator's own BIOS."""


@dataclass(slots=True, kw_only=True)
class VirtualMachine:
    """A running machine and what its console has said so far."""

    process: "subprocess.Popen[bytes]"
    log: Path
    console: bytearray = field(default_factory=bytearray)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def text(self) -> str:
        """What the console has said."""
        return self.console.decode("utf-8", "replace").replace("\r", "")

    def lines(self, prefix: str) -> list[str]:
        """Return the rest of every line of the console that begins with `prefix`."""
        # A kernel message may stand in front, and one may follow at once.
        return [
            line.partition(prefix)[2].strip() for line in self.text.splitlines() if prefix in line
        ]

    def wait_for(self, text: str, *, times: int = 1, timeout_seconds: float = 120) -> None:
        """Return once the console has said something so often; fail if it does not in time."""
        wanted = text.encode()

        def has_said() -> bool:
            return self.console.count(wanted) >= times

        self._wait_until(has_said, f"never said {text!r}", timeout_seconds)

    def wait_until_off(self, *, timeout_seconds: float) -> None:
        """Return once the machine has switched itself off; fail if it does not in time."""

        def is_off() -> bool:
            return self.process.poll() is not None

        self._wait_until(is_off, "did not switch itself off", timeout_seconds)
        assert self.process.returncode == 0, self._complaint("failed")

    def _wait_until(self, is_so: Callable[[], bool], otherwise: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds * PATIENCE
        with self.changed:
            while not is_so():
                assert time.monotonic() < deadline, self._complaint(otherwise)
                assert self.process.poll() is None, self._complaint(otherwise)
                assert self.console.count(b"stage-1: OS disk") <= MOST_STARTS, self._complaint(
                    "starts again and again"
                )
                self.changed.wait(0.2)

    def wait_for_change(self, look: Callable[[], bytes], *, timeout_seconds: float) -> None:
        """Return as soon as something looks different, to the millisecond."""
        deadline = time.monotonic() + timeout_seconds * PATIENCE
        before = look()
        while look() == before:
            assert time.monotonic() < deadline, self._complaint("never came to that point")
            assert self.process.poll() is None, self._complaint("never came to that point")
            time.sleep(0.0005)

    def cut_power(self) -> None:
        """Kill the machine where it stands."""
        self.process.kill()
        self.process.wait()

    def _complaint(self, what: str) -> str:
        state = "running" if self.process.poll() is None else f"off ({self.process.returncode})"
        return f"the machine {what}; it is {state}. Its console:\n{self.text[-6000:]}"

    def listen(self) -> None:
        """Collect the console until it closes."""
        assert self.process.stdout is not None
        with self.log.open("wb", buffering=0) as log:
            while data := os.read(self.process.stdout.fileno(), 65536):
                log.write(data)
                with self.changed:
                    self.console += data
                    self.changed.notify_all()


@contextmanager
def a_virtual_machine(
    firmware: Firmware, *, disk: Path, task: str, log: Path
) -> Iterator[VirtualMachine]:
    """Start a machine; kill it when the context ends. Its console can be followed in `log`."""
    process = subprocess.Popen(
        # Dies with the test run, however that ends.
        [
            "setpriv",
            "--pdeathsig",
            "KILL",
            *_emulator(),
            *_hardware(disk, task),
            *firmware.arguments,
        ],
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    machine = VirtualMachine(process=process, log=log)
    listener = threading.Thread(target=machine.listen)
    listener.start()
    try:
        yield machine
    finally:
        process.kill()
        process.wait()
        listener.join()
        assert process.stdout is not None
        process.stdout.close()


def _emulator() -> list[str]:
    """Return the emulator with its own loader and libraries: it is unpacked, not installed."""
    loader = HOST / "lib64/ld-linux-x86-64.so.2"
    data = [HOST / "usr/share" / name for name in ("qemu", "seabios")]
    return [
        *(str(loader), "--library-path", f"{_LIBRARIES}:{_LIBRARIES}/pulseaudio"),
        str(HOST / "usr/bin/qemu-system-x86_64"),
        *(word for directory in data for word in ("-L", str(directory))),
        *("-L", str(HOST / "usr/lib/ipxe/qemu")),
    ]


def _hardware(disk: Path, task: str) -> Sequence[str]:
    return (
        *("-accel", accelerator(), "-M", "q35", "-smp", "1", "-m", str(MEMORY_MIB)),
        *("-cpu", "max" if accelerator() == "tcg" else "host"),
        *("-nodefaults", "-nographic", "-serial", "stdio", "-smbios", f"type=1,serial={task}"),
        *("-drive", f"file={disk},format=raw,if=virtio,cache=writeback"),
        *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="),
    )


@cache
def accelerator() -> str:
    """Return what runs the machines' instructions: KVM where it works, else the emulator."""
    if chosen := os.environ.get("BOOT_ACCEL"):
        return chosen
    return "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) and _kvm_works() else "tcg"


def _kvm_works() -> bool:
    """Whether a kernel gets as far as missing its root: some hosts have the device and no more."""
    probe = (
        *("-accel", "kvm", "-cpu", "host", "-M", "q35", "-m", "256", "-nodefaults", "-nographic"),
        *("-no-reboot", "-kernel", str(kernel()), "-append", "quiet panic=-1"),
    )
    try:
        done = subprocess.run(
            [*_emulator(), *probe],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _environment() -> dict[str, str]:
    return {"QEMU_MODULE_DIR": str(_LIBRARIES / "qemu"), "PATH": os.environ["PATH"]}
