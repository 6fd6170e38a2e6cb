import gzip

from repo_tools.stage1.cpio import File, archive, compress


def entries(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Read a newc archive by its description: mode and content of each name."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        header = data[at : at + 110]
        assert header[:6] == b"070701"
        field = [int(header[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
        name = data[at + 110 : at + 110 + field[11] - 1].decode()
        at += -(-(110 + field[11]) // 4) * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (field[1], data[at : at + field[6]])
        at += -(-field[6] // 4) * 4


def test_files_come_out_as_they_went_in_with_their_parents_before_them() -> None:
    made = entries(
        archive({"a/b/c": File(data=b"12345"), "init": File(data=b"#!", is_executable=True)})
    )
    assert list(made) == ["a", "a/b", "dev", "dev/console", "a/b/c", "init"]
    assert made["a/b/c"] == (0o100644, b"12345")
    assert made["init"] == (0o100755, b"#!")
    assert made["a/b"] == (0o040755, b"")
    assert made["dev/console"] == (0o020600, b"")


def test_the_same_files_give_the_same_bytes_in_any_order() -> None:
    one, two = File(data=b"1"), File(data=b"2")
    assert compress(archive({"x": one, "y": two})) == compress(archive({"y": two, "x": one}))


def test_what_was_compressed_is_what_is_unpacked() -> None:
    data = archive({"x": File(data=bytes(5000))})
    assert gzip.decompress(compress(data)) == data
