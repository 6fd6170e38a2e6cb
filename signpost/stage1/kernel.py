"""What stage-1 asks of the kernel that Python has no function for: mounts, modules, kexec.

Decides nothing. Every failure is an OSError that names what it was about. Linux on x86-64 and
arm64 only; nothing here is imported by the `signpost` command.
"""

import ctypes
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, NoReturn

_MS_RDONLY: Final = 1
_MNT_DETACH: Final = 2
_REBOOT_RESTART: Final = 0x0123_4567
_REBOOT_KEXEC: Final = 0x4558_4543
# kexec_file_load(2)
_KEXEC_FILE_NO_INITRAMFS: Final = 4
# linux/blkpg.h
_BLKPG: Final = 0x1269
_BLKPG_ADD_PARTITION: Final = 1


class _Calls(NamedTuple):
    """Numbers of the system calls that the C library has no function for."""

    kexec_file_load: int
    finit_module: int


_CALLS: Final = {
    # linux/arch/x86/entry/syscalls/syscall_64.tbl, linux/include/uapi/asm-generic/unistd.h
    "x86_64": _Calls(kexec_file_load=320, finit_module=313),
    "aarch64": _Calls(kexec_file_load=294, finit_module=273),
}

_libc = ctypes.CDLL(None, use_errno=True)


class _BlkpgPartition(ctypes.Structure):
    _fields_ = (
        ("start", ctypes.c_longlong),
        ("length", ctypes.c_longlong),
        ("number", ctypes.c_int),
        ("device_name", ctypes.c_char * 64),
        ("volume_name", ctypes.c_char * 64),
    )


class _BlkpgArgument(ctypes.Structure):
    _fields_ = (
        ("operation", ctypes.c_int),
        ("flags", ctypes.c_int),
        ("data_length", ctypes.c_int),
        ("data", ctypes.c_void_p),
    )


def mount(source: str, target: str, kind: str, *, read_only: bool = False, data: str = "") -> None:
    """Mount a file system on `target`, which is made if need be."""
    os.makedirs(target, exist_ok=True)
    words = (source.encode(), target.encode(), kind.encode())
    flags = ctypes.c_ulong(_MS_RDONLY if read_only else 0)
    _check(_libc.mount(*words, flags, data.encode()), f"{kind} on {source}")


@contextmanager
def mounted_read_only(source: str, target: str, kind: str, *, data: str) -> Iterator[str]:
    """Mount a file system for as long as a context lasts."""
    mount(source, target, kind, read_only=True, data=data)
    try:
        yield target
    finally:
        _libc.umount2(target.encode(), _MNT_DETACH)


def load_module(path: str) -> None:
    """Load one kernel module; loading it twice is no error."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call(_calls().finit_module, descriptor, b"", 0, about=os.path.basename(path))
    except FileExistsError:
        pass
    finally:
        os.close(descriptor)


def add_partition(disk: str, *, number: int, offset_bytes: int, length_bytes: int) -> None:
    """Tell the kernel of a partition that it did not find by itself."""
    partition = _BlkpgPartition(start=offset_bytes, length=length_bytes, number=number)
    argument = _BlkpgArgument(
        operation=_BLKPG_ADD_PARTITION,
        data_length=ctypes.sizeof(partition),
        data=ctypes.addressof(partition),
    )
    descriptor = os.open(disk, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _BLKPG, argument)
    finally:
        os.close(descriptor)


def load_kernel(kernel: str, initrd: str | None, command_line: str) -> None:
    """Load a kernel beside the running one, to be jumped into by `start_loaded_kernel`."""
    kernel_file = os.open(kernel, os.O_RDONLY | os.O_CLOEXEC)
    initrd_file = -1 if initrd is None else os.open(initrd, os.O_RDONLY | os.O_CLOEXEC)
    line = command_line.encode("ascii") + b"\0"
    flags = _KEXEC_FILE_NO_INITRAMFS if initrd is None else 0
    number = _calls().kexec_file_load
    try:
        _call(number, kernel_file, initrd_file, len(line), line, flags, about="kexec_file_load")
    finally:
        os.close(kernel_file)
        if initrd is not None:
            os.close(initrd_file)


def start_loaded_kernel() -> NoReturn:
    """Jump into the kernel that was loaded."""
    _check(_libc.reboot(ctypes.c_int(_REBOOT_KEXEC)), "jump into the loaded kernel")
    raise OSError("the loaded kernel was not entered")


def restart() -> NoReturn:
    """Reset the machine."""
    os.sync()
    _check(_libc.reboot(ctypes.c_int(_REBOOT_RESTART)), "restart")
    raise OSError("the machine did not restart")


def _calls() -> _Calls:
    machine = os.uname().machine
    if machine not in _CALLS:
        raise OSError(f"stage-1 does not know the system calls of {machine}")
    return _CALLS[machine]


def _call(number: int, *arguments: int | bytes, about: str) -> None:
    # The C library's syscall() takes longs; ctypes would pass an int in half a register.
    values = (ctypes.c_long(one) if isinstance(one, int) else one for one in arguments)
    _check(_libc.syscall(ctypes.c_long(number), *values), about)


def _check(result: int, about: str) -> None:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{about}: {os.strerror(number)}")
