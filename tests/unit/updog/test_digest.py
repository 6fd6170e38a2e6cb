"""Digests from another thread are those of the whole stream, in its order."""

import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from updog.digest import BackgroundDigests


def pieces(*lengths: int) -> list[bytes]:
    source = random.Random(1)
    return [source.randbytes(length) for length in lengths]


class TestBackgroundDigests:
    @pytest.mark.parametrize(
        "lengths",
        [(), (0,), (1,), (65_535, 65_536, 1), (1 << 20,) * 8, (3, 1 << 20, 5, 1 << 20, 0, 7)],
        ids=str,
    )
    def test_they_are_those_of_the_joined_pieces(self, lengths: tuple[int, ...]) -> None:
        stream = pieces(*lengths)
        with BackgroundDigests(["sha256", "sha512"]) as digests:
            for piece in stream:
                digests.update(piece)
            found = digests.hexdigests()

        assert found == {
            "sha256": hashlib.sha256(b"".join(stream)).hexdigest(),
            "sha512": hashlib.sha512(b"".join(stream)).hexdigest(),
        }

    def test_they_can_be_asked_for_in_between(self) -> None:
        first, second = pieces(1 << 20, 1 << 20)
        with BackgroundDigests(["sha256"]) as digests:
            digests.update(first)
            assert digests.hexdigests() == {"sha256": hashlib.sha256(first).hexdigest()}
            digests.update(second)
            assert digests.hexdigests() == {"sha256": hashlib.sha256(first + second).hexdigest()}

    def test_no_thread_outlives_them(self) -> None:
        before = threading.active_count()
        with BackgroundDigests(["sha256"]) as digests:
            digests.update(bytes(1 << 20))

        assert threading.active_count() == before

    def test_without_a_thread_it_is_memory_that_lacks(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_args: object) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
        with BackgroundDigests(["sha256"]) as digests, pytest.raises(MemoryError):
            digests.update(bytes(1 << 20))
