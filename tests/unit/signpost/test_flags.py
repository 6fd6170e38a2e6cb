"""The boot flags inside a BOOT partition's attribute bits."""

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signpost.flags import CLEARED, HAS_BOOT_EVER_SUCCEEDED, BootFlags
from tests.helpers.gpt_builder import Flags
from tests.helpers.gpt_readers import can_boot

# Bits 48 to 56, counted by hand: a mask taken from the code under test would prove nothing.
OWN_BITS = sum(2**bit for bit in range(48, 57))

attribute_bits = st.integers(min_value=0, max_value=2**64 - 1)
boot_flags = st.builds(
    BootFlags,
    priority=st.integers(min_value=0, max_value=15),
    tries=st.integers(min_value=0, max_value=15),
    successful=st.booleans(),
)


@settings(deadline=None)
@given(attributes=attribute_bits, flags=boot_flags)
def test_flags_survive_being_written_into_any_attributes(attributes: int, flags: BootFlags) -> None:
    assert BootFlags.from_attributes(flags.written_into(attributes)) == flags


@settings(deadline=None)
@given(attributes=attribute_bits, flags=boot_flags)
def test_bits_that_are_no_boot_flags_survive_a_write(attributes: int, flags: BootFlags) -> None:
    assert flags.written_into(attributes) & ~OWN_BITS == attributes & ~OWN_BITS


@settings(deadline=None)
@given(attributes=attribute_bits)
def test_writing_back_what_was_read_changes_no_bit(attributes: int) -> None:
    assert BootFlags.from_attributes(attributes).written_into(attributes) == attributes


@pytest.mark.parametrize("bit", range(64))
def test_every_bit_belongs_to_the_flag_that_the_format_says(bit: int) -> None:
    flags = BootFlags.from_attributes(1 << bit)
    assert flags == BootFlags(
        priority=2 ** (bit - 48) if 48 <= bit < 52 else 0,
        tries=2 ** (bit - 52) if 52 <= bit < 56 else 0,
        successful=bit == 56,
    )


@pytest.mark.parametrize(
    ("attributes", "priority", "tries", "successful"),
    [
        (0x0000_0000_0000_0000, 0, 0, False),
        (0x0101_0000_0000_0000, 1, 0, True),
        (0x0012_0000_0000_0000, 2, 1, False),
        (0x00F0_0000_0000_0000, 0, 15, False),
        (0x000F_0000_0000_0000, 15, 0, False),
        (0xFFFF_FFFF_FFFF_FFFF, 15, 15, True),
        (0xFE00_FFFF_FFFF_FFFF, 0, 0, False),
    ],
)
def test_attributes_as_other_tools_show_them_are_read(
    attributes: int, priority: int, tries: int, successful: bool
) -> None:
    flags = BootFlags.from_attributes(attributes)
    assert flags == BootFlags(priority=priority, tries=tries, successful=successful)


def test_full_flags_fill_exactly_their_nine_bits() -> None:
    full = BootFlags(priority=15, tries=15, successful=True)
    assert full.written_into(0) == 0x01FF_0000_0000_0000


def test_cleared_flags_empty_exactly_their_nine_bits() -> None:
    assert CLEARED.written_into(2**64 - 1) == 0xFE00_FFFF_FFFF_FFFF


@pytest.mark.parametrize("value", [-1, 16])
@pytest.mark.parametrize("name", ["priority", "tries"])
def test_a_value_that_does_not_fit_four_bits_is_refused(name: str, value: int) -> None:
    values = {"priority": 1, "tries": 1, name: value}
    with pytest.raises(ValueError, match=rf"^{name} must be 0 to 15, not {value}$"):
        BootFlags(successful=False, **values)


@pytest.mark.parametrize("value", [0, 15])
@pytest.mark.parametrize("name", ["priority", "tries"])
def test_the_outermost_values_fit(name: str, value: int) -> None:
    values = {"priority": 1, "tries": 1, name: value}
    flags = BootFlags(successful=False, **values)
    assert getattr(flags, name) == value


def test_whether_a_set_will_boot_is_what_gptprio_decides_for_every_possible_value() -> None:
    for priority, tries, successful in itertools.product(range(16), range(16), (False, True)):
        flags = BootFlags(priority=priority, tries=tries, successful=successful)
        assert flags.will_boot == can_boot(Flags(priority, tries, successful)), flags


def test_flags_are_shown_as_priority_tries_and_success() -> None:
    assert str(BootFlags(priority=15, tries=0, successful=True)) == "15/0/1"
    assert str(CLEARED) == "0/0/0"


def test_flags_are_facts_that_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CLEARED.priority = 1  # type: ignore[misc]


def test_the_mark_on_private_is_bit_57_and_no_boot_flag() -> None:
    assert HAS_BOOT_EVER_SUCCEEDED == 2**57
    assert BootFlags.from_attributes(HAS_BOOT_EVER_SUCCEEDED) == CLEARED
