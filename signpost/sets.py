"""Which partitions of a table form set A and set B.

Decides by type GUID and order: set A is the first partition of each type by number, set B the
second. Boot loaders and kernels find root and hash as the two entries after the boot partition
(`PARTUUID=.../PARTNROFF=1` and `=2`), so any other order is refused, as is a table in which a set
lacks a partition or a type occurs more than twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from signpost.errors import SetError
from signpost.gpt import Partition

BIOS_BOOT = UUID("21686148-6449-6e6f-744e-656564454649")
EFI_SYSTEM = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
EFI_BACKUP = UUID("b39ce39c-0a00-b4ab-2d11-f18f8237a21c")
BOTTLEROCKET_BOOT = UUID("6b636168-7420-6568-2070-6c616e657421")
BOTTLEROCKET_ROOT = UUID("5526016a-1a97-4ea4-b39a-b7c8c6ca4502")
BOTTLEROCKET_HASH = UUID("598f10af-c955-4456-6a99-7720068a6cea")
BOTTLEROCKET_RESERVED = UUID("0c5d99a5-d331-4147-baef-08e2b855bdc9")
BOTTLEROCKET_PRIVATE = UUID("440408bb-eb0b-4328-a6e5-a29038fad706")
BOTTLEROCKET_DATA = UUID("626f7474-6c65-6474-6861-726d61726b73")

_ROLES = {"BOOT": BOTTLEROCKET_BOOT, "ROOT": BOTTLEROCKET_ROOT, "HASH": BOTTLEROCKET_HASH}
_DISTANCE = {"BOOT": 0, "ROOT": 1, "HASH": 2}
"""How many entries after BOOT each partition of a set stands."""


class SetName(StrEnum):
    """The two sets of partitions that hold one system each."""

    A = "A"
    B = "B"

    @property
    def other(self) -> "SetName":
        """The set that is not this one."""
        return SetName.B if self is SetName.A else SetName.A


class PartitionSet(NamedTuple):
    """The boot, root and hash partitions of one system."""

    name: SetName
    boot: Partition
    root: Partition
    hash: Partition

    @property
    def partitions(self) -> tuple[Partition, Partition, Partition]:
        """Boot, root and hash, in the order in which they stand on the disk."""
        return (self.boot, self.root, self.hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """Both sets of a disk, or only A on a single-set disk, and the PRIVATE partition if any."""

    a: PartitionSet
    b: PartitionSet | None
    private: Partition | None

    def __getitem__(self, name: SetName) -> PartitionSet:
        """Return a set by its name.

        Raises:
            SetError: the disk has no set B.
        """
        found = self.a if name is SetName.A else self.b
        if found is None:
            raise SetError(
                "this is a single-set disk (one BOOT partition): there is no other set to act on"
            )
        return found

    def present(self) -> tuple[PartitionSet, ...]:
        """Return the sets that exist, A first."""
        return (self.a,) if self.b is None else (self.a, self.b)

    def holding(self, partition_number: int) -> SetName | None:
        """Return the set that a partition belongs to."""
        for candidate in self.present():
            if any(p.number == partition_number for p in candidate.partitions):
                return candidate.name
        return None


def discover(partitions: Sequence[Partition]) -> Sets:
    """Find the sets among the partitions of one table, given in ascending number.

    Raises:
        SetError: a set is incomplete, out of order, or there are more than two.
    """
    by_role = {
        role: [p for p in partitions if p.type_guid == guid] for role, guid in _ROLES.items()
    }
    _refuse_unpaired(by_role)
    sets = [_set(SetName.A, by_role, 0)]
    if len(by_role["BOOT"]) > 1:
        sets.append(_set(SetName.B, by_role, 1))
    private = [p for p in partitions if p.type_guid == BOTTLEROCKET_PRIVATE]
    return Sets(
        a=sets[0],
        b=sets[1] if len(sets) > 1 else None,
        private=private[0] if private else None,
    )


def _refuse_unpaired(by_role: dict[str, list[Partition]]) -> None:
    boots = by_role["BOOT"]
    if not boots:
        raise SetError(
            f"no BOOT partition (type {BOTTLEROCKET_BOOT}) on this disk: it holds no A/B system"
        )
    for role, found in by_role.items():
        if len(found) > 2:
            numbers = ", ".join(str(p.number) for p in found)
            raise SetError(
                f"{len(found)} {role} partitions (numbers {numbers}): two at most, one a set"
            )
        if len(found) != len(boots):
            raise SetError(_missing(role, found, boots))


def _missing(role: str, found: list[Partition], boots: list[Partition]) -> str:
    if len(found) > len(boots):
        places = {boot.number + _DISTANCE[role] for boot in boots}
        extra = next((p for p in found if p.number not in places), found[-1])
        return (
            f"partition {extra.number} is a {role} without a set: "
            f"{len(found)} {role} but {len(boots)} BOOT partitions"
        )
    numbers = {p.number - _DISTANCE[role] for p in found}
    lonely = next(b for b in boots if b.number not in numbers)
    name = SetName.A if lonely is boots[0] else SetName.B
    return (
        f"set {name} has no {role} partition (type {_ROLES[role]}): "
        f"its BOOT is partition {lonely.number}"
    )


def _set(name: SetName, by_role: dict[str, list[Partition]], index: int) -> PartitionSet:
    boot = by_role["BOOT"][index]
    for role, distance in _DISTANCE.items():
        number = by_role[role][index].number
        if number != boot.number + distance:
            raise SetError(
                f"{role} of set {name} is partition {number}, but must be "
                f"{boot.number + distance}: boot loaders look for it {distance} after "
                f"BOOT, which is partition {boot.number}"
            )
    return PartitionSet(
        name=name, boot=boot, root=by_role["ROOT"][index], hash=by_role["HASH"][index]
    )
