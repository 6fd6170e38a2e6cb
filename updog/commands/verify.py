"""`updog verify`: do the sets still hold what was installed?"""

from collections.abc import Mapping
from typing import Any

import click

from signpost import disk as boot_disk
from signpost.disk import BootDisk
from signpost.sets import SetName
from updog.commands.output import print_json, print_result, wants_json
from updog.commands.settings import command, lock_path, read_machine
from updog.errors import UpdogError
from updog.history import known_contents
from updog.lock import only_run
from updog.machine import Machine
from updog.plan import windows_of
from updog.verification import Finding, verify_set

_Findings = Mapping[SetName, tuple[Finding, ...]]


@command("verify", example="updog verify --set B")
@click.option(
    "--set",
    "chosen",
    type=click.Choice([*SetName]),
    help="Only this set, whether it may boot or not.  [default: the sets that may boot]",
)
def verify(*, chosen: SetName | None) -> None:
    """Read sets back from the disk and compare them with what was installed.

    The root is compared with its hash tree, the hash tree and the boot image with what was noted
    when they were written. Changes nothing and needs no network. Exits with 1 if anything differs,
    and names the first wrong block.
    """
    machine = read_machine()
    with only_run(lock_path(machine.config)):  # what is being written must look wrong
        found = boot_disk.read(machine.location)
        names = _chosen(found, SetName(chosen) if chosen else None)
        findings = {name: _verify(machine, found, name) for name in names}
    if wants_json():
        print_json(_facts(findings))
    else:
        print_result("\n".join(_lines(findings)))
    wrong = [name for name, each in findings.items() if any(one.fault for one in each)]
    if wrong:
        raise UpdogError(_advice(wrong, found))


def _chosen(found: BootDisk, chosen: SetName | None) -> list[SetName]:
    if chosen is not None:
        if chosen not in found.state.flags:
            raise UpdogError(f"{found.path} has no set {chosen}; nothing was verified")
        return [chosen]
    return [name for name, flags in found.state.flags.items() if flags.will_boot]


def _verify(machine: Machine, found: BootDisk, name: SetName) -> tuple[Finding, ...]:
    contents = known_contents(machine.history.events(), found.state, name)
    return verify_set(windows_of(found, found.sets[name]), contents)


def _advice(wrong: list[SetName], found: BootDisk) -> str:
    sets = " and ".join(f"set {name}" for name in wrong)
    if found.state.active in wrong:
        return (
            f"{sets}: not what was installed. The running set is damaged: do not restart the "
            "machine before `signpost status` shows another set that may boot, or the machine was "
            "installed anew; the medium may be failing"
        )
    return (
        f"{sets}: not what was installed; the set that runs is in order. "
        "`signpost clear-inactive` keeps the other from booting, `updog update` writes it anew"
    )


def _lines(findings: _Findings) -> list[str]:
    if not findings:
        return ["No set may boot: nothing was verified. `updog verify --set A` insists."]
    return [_line(name, each) for name, found in findings.items() for each in found]


def _line(name: SetName, finding: Finding) -> str:
    start = f"{name}  {finding.role:<5} "
    if finding.fault is not None:
        return f"{start} WRONG    {finding.fault}"
    if finding.proof is None:
        return f"{start} unknown  updog did not write it, and has nothing to compare it with"
    return f"{start} ok       {finding.proof}"


def _facts(findings: _Findings) -> dict[str, Any]:
    return {
        name: {each.role: {"fault": each.fault, "proof": each.proof} for each in found}
        for name, found in findings.items()
    }
