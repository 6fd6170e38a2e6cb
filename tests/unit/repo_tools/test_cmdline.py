import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_tools.cmdline import VerityTable, format_command_line, parse_command_line
from repo_tools.errors import CommandLineError

tables = st.builds(
    VerityTable,
    data_blocks=st.integers(1, 1 << 40),
    root_digest=st.binary(min_size=32, max_size=32),
    salt=st.binary(max_size=256),
)


def a_table() -> VerityTable:
    return VerityTable(data_blocks=3, root_digest=bytes(31) + b"\x01", salt=b"\xab")


@given(tables)
def test_what_was_written_is_read_back(table: VerityTable) -> None:
    assert parse_command_line(format_command_line(table)) == table


def test_the_kernel_finds_root_and_hash_by_their_distance_from_boot() -> None:
    assert format_command_line(a_table()) == (
        "console=ttyS0 panic=1 root=/dev/dm-0 rootwait ro "
        'dm-mod.create="root,,,ro,0 24 verity 1 PARTUUID=%U/PARTNROFF=1 PARTUUID=%U/PARTNROFF=2 '
        f'4096 4096 3 1 sha256 {"00" * 31}01 ab 1 panic_on_corruption"'
    )


def test_other_arguments_around_the_table_do_not_matter() -> None:
    line = f"quiet {format_command_line(a_table())} loglevel=3\n"
    assert parse_command_line(line) == a_table()


@pytest.mark.parametrize(
    "line", ["", "root=/dev/vda2 ro", format_command_line(a_table()).replace("sha256", "md5")]
)
def test_a_line_that_vouches_for_no_root_is_refused(line: str) -> None:
    with pytest.raises(CommandLineError, match=r"has no dm-mod\.create"):
        parse_command_line(line)


def test_a_table_that_contradicts_itself_is_refused() -> None:
    line = format_command_line(a_table()).replace(",0 24 verity", ",0 32 verity")
    with pytest.raises(CommandLineError, match="maps 32 sectors onto 3 blocks"):
        parse_command_line(line)
