"""`repo-tools image stage1`: signpost's boot loader, for whatever starts the machine."""

from pathlib import Path

import click

from repo_tools.durable import write_durably
from repo_tools.errors import RepoToolsError
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.stage1.build import COMMAND_LINE, Initrd, build_initrd
from repo_tools.stage1.esp import BiosFiles, build_esp
from repo_tools.stage1.uki import Parts, build_uki
from repo_tools.telling import telling

KERNEL, INITRD, UKI, ESP = "vmlinuz", "initrd.img", "stage1.efi", "esp.img"


@click.command(
    "stage1",
    epilog="""\b
Examples:
  repo-tools image stage1 out --kernel /boot/vmlinuz-6.1.0-amd64 \\
      --modules /lib/modules/6.1.0-amd64
  repo-tools image stage1 out --kernel vmlinuz --modules lib/modules/6.1.0-cloud-amd64 \\
      --system unpacked --stub /usr/lib/systemd/boot/efi/linuxx64.efi.stub""",
)
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--kernel", type=click.Path(path_type=Path), required=True, help="Kernel that stage-1 runs on."
)
@click.option(
    "--modules",
    type=click.Path(path_type=Path),
    required=True,
    help="lib/modules/VERSION of that kernel.",
)
@click.option(
    "--module",
    "extra",
    multiple=True,
    help="A module to load beside the usual ones for disks; may be repeated.",
)
@click.option(
    "--system",
    type=click.Path(path_type=Path),
    default=Path("/"),
    show_default=True,
    help="Root directory that Python and its libraries are taken from.",
)
@click.option(
    "--stub", type=click.Path(path_type=Path), help="EFI stub: make a unified kernel image, too."
)
@click.option("--syslinux", is_flag=True, help="Put syslinux into the EFI image, for a BIOS.")
@click.option(
    "--esp-mib",
    type=click.IntRange(1, 4096),
    default=64,
    show_default=True,
    help="Size of the EFI image that --stub and --syslinux make, in MiB.",
)
@click.option(
    "--command-line",
    default=COMMAND_LINE,
    show_default=True,
    help="What the kernel is told by the EFI image.",
)
def command(  # noqa: PLR0913 -- one parameter an option
    out: Path,
    *,
    kernel: Path,
    modules: Path,
    extra: tuple[str, ...],
    system: Path,
    stub: Path | None,
    syslinux: bool,
    esp_mib: int,
    command_line: str,
) -> None:
    """Make stage-1, the boot loader that reads the boot flags and starts a set, in OUT.

    A Linux kernel and an initrd, for any boot loader or QEMU's -kernel. With --stub also one EFI
    program of both, and with --stub or --syslinux the image of an EFI-SYSTEM partition that
    firmware starts from. Stage-1 spends the set's try, loads the set's kernel and jumps into it.
    """
    with telling("make stage-1 in", out, left="run it again"):
        kernel_data = _read(kernel)
        initrd = build_initrd(system=system, modules=modules, extra_modules=extra)
        out.mkdir(parents=True, exist_ok=True)
        write_durably(out / KERNEL, kernel_data)
        write_durably(out / INITRD, initrd.data)
        uki = out / UKI if stub is not None else None
        if stub is not None and uki is not None:
            parts = Parts(
                stub=stub, kernel=kernel_data, initrd=initrd.data, command_line=command_line
            )
            build_uki(parts, uki)
        bios = BiosFiles(kernel=out / KERNEL, initrd=out / INITRD, command_line=command_line)
        if uki is not None or syslinux:
            build_esp(out / ESP, esp_mib, uki=uki, bios=bios if syslinux else None)
    _print(out, initrd)


def _read(kernel: Path) -> bytes:
    try:
        return kernel.read_bytes()
    except OSError as error:
        raise RepoToolsError(f"cannot read the kernel {kernel}: {error.strerror}") from error


def _print(out: Path, initrd: Initrd) -> None:
    sizes = {
        name: (out / name).stat().st_size
        for name in (KERNEL, INITRD, UKI, ESP)
        if (out / name).exists()
    }
    if wants_json():
        facts = {"unpacked": initrd.unpacked_bytes, "modules": list(initrd.modules)}
        print_json({"directory": str(out), "bytes": sizes, "initrd": facts})
        return
    for name, size in sizes.items():
        click.echo(f"{out / name}  {size / (1 << 20):.1f} MiB")
    click.echo(
        f"{initrd.file_count} files, {initrd.unpacked_bytes / (1 << 20):.1f} MiB unpacked; "
        f"{len(initrd.modules)} kernel modules. It says on the console how long it took to boot"
    )
