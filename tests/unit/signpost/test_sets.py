"""Which partitions of a table form set A and set B."""

from uuid import UUID, uuid4

import pytest

from signpost import sets
from signpost.errors import SetError
from signpost.gpt import Partition
from signpost.sets import SetName, discover
from tests.helpers.gpt_builder import TYPES

FULL_LAYOUT = (
    "BIOS-BOOT EFI-SYSTEM BOOT ROOT HASH RESERVED EFI-BACKUP BOOT ROOT HASH RESERVED PRIVATE DATA"
)


def a_partition(number: int, type_guid: UUID) -> Partition:
    return Partition(
        number=number,
        label="",
        first_lba=2048 * number,
        last_lba=2048 * number + 2047,
        type_guid=type_guid,
        unique_guid=uuid4(),
        attributes=0,
    )


def partitions(roles: str) -> list[Partition]:
    """Number the roles from 1; `-` stands for an unused entry."""
    numbered = enumerate(roles.split(), 1)
    return [a_partition(number, TYPES[role]) for number, role in numbered if role != "-"]


@pytest.mark.parametrize(
    ("role", "constant"),
    [
        ("BIOS-BOOT", sets.BIOS_BOOT),
        ("EFI-SYSTEM", sets.EFI_SYSTEM),
        ("EFI-BACKUP", sets.EFI_BACKUP),
        ("BOOT", sets.BOTTLEROCKET_BOOT),
        ("ROOT", sets.BOTTLEROCKET_ROOT),
        ("HASH", sets.BOTTLEROCKET_HASH),
        ("RESERVED", sets.BOTTLEROCKET_RESERVED),
        ("PRIVATE", sets.BOTTLEROCKET_PRIVATE),
        ("DATA", sets.BOTTLEROCKET_DATA),
    ],
)
def test_every_type_guid_is_the_one_of_the_layout(role: str, constant: UUID) -> None:
    assert constant == TYPES[role]


def test_set_a_has_the_first_and_set_b_the_second_partition_of_each_type() -> None:
    found = discover(partitions(FULL_LAYOUT))
    assert found.b is not None
    assert [p.number for p in found.a.partitions] == [3, 4, 5]
    assert [p.number for p in found.b.partitions] == [8, 9, 10]
    assert (found.a.name, found.b.name) == (SetName.A, SetName.B)


def test_the_private_partition_is_found() -> None:
    private = discover(partitions(FULL_LAYOUT)).private
    assert private is not None
    assert private.number == 12


def test_a_disk_may_lack_the_private_partition() -> None:
    assert discover(partitions("BOOT ROOT HASH")).private is None


def test_a_disk_may_hold_one_set_only() -> None:
    found = discover(partitions("BOOT ROOT HASH DATA"))
    assert found.b is None
    assert found.present() == (found.a,)


def test_both_sets_are_present_with_a_first() -> None:
    found = discover(partitions(FULL_LAYOUT))
    assert found.present() == (found.a, found.b)


def test_unused_entries_between_the_sets_do_no_harm() -> None:
    found = discover(partitions("- BOOT ROOT HASH - - BOOT ROOT HASH"))
    assert found.a.boot.number == 2
    assert found.b is not None
    assert found.b.boot.number == 7


@pytest.mark.parametrize(
    ("name", "number"), [(SetName.A, 3), (SetName.B, 8)], ids=["set A", "set B"]
)
def test_a_set_is_had_by_its_name(name: SetName, number: int) -> None:
    assert discover(partitions(FULL_LAYOUT))[name].boot.number == number


def test_asking_a_single_set_disk_for_set_b_says_what_the_disk_is() -> None:
    found = discover(partitions("BOOT ROOT HASH"))
    assert found[SetName.A] is found.a
    with pytest.raises(SetError, match=r"^this is a single-set disk \(one BOOT partition\)"):
        found[SetName.B]


@pytest.mark.parametrize(
    ("number", "name"),
    [(2, None), (3, "A"), (4, "A"), (5, "A"), (6, None), (8, "B"), (10, "B"), (11, None)],
)
def test_a_partition_belongs_to_the_set_of_its_boot_root_or_hash(
    number: int, name: str | None
) -> None:
    assert discover(partitions(FULL_LAYOUT)).holding(number) == name


def test_on_a_single_set_disk_other_partitions_belong_to_no_set() -> None:
    assert discover(partitions("BOOT ROOT HASH DATA")).holding(4) is None


def test_each_set_is_the_other_of_the_other() -> None:
    assert SetName.A.other is SetName.B
    assert SetName.B.other is SetName.A


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        pytest.param(
            "BIOS-BOOT DATA",
            "no BOOT partition (type 6b636168-7420-6568-2070-6c616e657421) on this disk: "
            "it holds no A/B system",
            id="no BOOT partition",
        ),
        pytest.param("", "no BOOT partition", id="no partition at all"),
        pytest.param(
            "BOOT ROOT HASH BOOT ROOT HASH BOOT ROOT HASH",
            "3 BOOT partitions (numbers 1, 4, 7): two at most, one a set",
            id="three sets",
        ),
        pytest.param(
            "BOOT ROOT HASH BOOT ROOT HASH ROOT",
            "3 ROOT partitions (numbers 2, 5, 7): two at most, one a set",
            id="three ROOT partitions",
        ),
        pytest.param(
            "BOOT HASH",
            "set A has no ROOT partition (type 5526016a-1a97-4ea4-b39a-b7c8c6ca4502): "
            "its BOOT is partition 1",
            id="a single set without ROOT",
        ),
        pytest.param(
            "BOOT ROOT BOOT ROOT HASH",
            "set A has no HASH partition (type 598f10af-c955-4456-6a99-7720068a6cea): "
            "its BOOT is partition 1",
            id="set A without HASH",
        ),
        pytest.param(
            "BOOT ROOT HASH BOOT ROOT",
            "set B has no HASH partition (type 598f10af-c955-4456-6a99-7720068a6cea): "
            "its BOOT is partition 4",
            id="set B without HASH",
        ),
        pytest.param(
            "BOOT ROOT HASH BOOT - HASH",
            "set B has no ROOT partition (type 5526016a-1a97-4ea4-b39a-b7c8c6ca4502): "
            "its BOOT is partition 4",
            id="set B without ROOT",
        ),
        pytest.param(
            "BOOT ROOT HASH ROOT",
            "partition 4 is a ROOT without a set: 2 ROOT but 1 BOOT partitions",
            id="a ROOT too many",
        ),
        pytest.param(
            "BOOT ROOT HASH HASH",
            "partition 4 is a HASH without a set: 2 HASH but 1 BOOT partitions",
            id="a HASH too many",
        ),
        pytest.param(
            "- ROOT HASH - BOOT ROOT HASH",
            "partition 2 is a ROOT without a set: 2 ROOT but 1 BOOT partitions",
            id="BOOT of set A missing",
        ),
        pytest.param(
            "- - HASH - BOOT ROOT HASH",
            "partition 3 is a HASH without a set: 2 HASH but 1 BOOT partitions",
            id="HASH alone left of set A",
        ),
        pytest.param(
            "BOOT HASH ROOT",
            "ROOT of set A is partition 3, but must be 2: boot loaders look for it 1 after BOOT, "
            "which is partition 1",
            id="ROOT and HASH swapped",
        ),
        pytest.param(
            "BOOT ROOT HASH BOOT ROOT DATA HASH",
            "HASH of set B is partition 7, but must be 6: boot loaders look for it 2 after BOOT, "
            "which is partition 4",
            id="a foreign partition inside set B",
        ),
        pytest.param(
            "BOOT - ROOT HASH",
            "ROOT of set A is partition 3, but must be 2",
            id="an unused entry inside a set",
        ),
        pytest.param(
            "BOOT BOOT ROOT ROOT HASH HASH",
            "ROOT of set A is partition 3, but must be 2",
            id="sets interleaved",
        ),
        pytest.param(
            "ROOT HASH BOOT",
            "ROOT of set A is partition 1, but must be 4",
            id="BOOT last",
        ),
    ],
)
def test_partitions_that_form_no_sets_are_refused_by_name(roles: str, message: str) -> None:
    with pytest.raises(SetError) as caught:
        discover(partitions(roles))
    assert str(caught.value).startswith(message)
