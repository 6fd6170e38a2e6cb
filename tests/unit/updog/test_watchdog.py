import socket
import threading
from collections.abc import Iterator

import pytest

from tests.helpers.dripping_server import LONG
from updog.watchdog import Watchdog


@pytest.fixture
def dog() -> Iterator[Watchdog]:
    dog = Watchdog()
    yield dog
    dog.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        for end in (here, there):
            end.settimeout(LONG)
        yield here, there


Pair = tuple[socket.socket, socket.socket]


def test_a_wait_that_lasts_too_long_ends(dog: Watchdog, pair: Pair) -> None:
    dog.hold(pair[0])
    dog.arm(0.01)
    assert pair[0].recv(1) == b""
    assert dog.disarm()


def test_one_that_ends_in_time_leaves_the_connection_as_it_is(dog: Watchdog, pair: Pair) -> None:
    dog.hold(pair[0])
    dog.arm(LONG)
    assert not dog.disarm()
    pair[1].send(b"x")
    assert pair[0].recv(1) == b"x"


def test_each_wait_is_judged_by_itself(dog: Watchdog, pair: Pair) -> None:
    dog.hold(pair[0])
    dog.arm(0)
    assert pair[0].recv(1) == b""
    assert dog.disarm()
    dog.arm(LONG)
    assert not dog.disarm()


def test_a_shorter_wait_after_a_longer_one_is_noticed(dog: Watchdog, pair: Pair) -> None:
    dog.hold(pair[0])
    dog.arm(1000)
    dog.disarm()
    dog.arm(0.01)
    assert pair[0].recv(1) == b""


def test_a_connection_that_stands_too_late_is_shut_down_at_once(dog: Watchdog, pair: Pair) -> None:
    first = socket.socketpair()
    with first[0], first[1]:
        dog.hold(first[0])
        dog.arm(0)
        assert first[0].recv(1) == b""
    dog.hold(pair[0])
    assert pair[0].recv(1) == b""


def test_after_its_release_a_connection_is_closed_when_its_owner_closes_it(
    dog: Watchdog, pair: Pair
) -> None:
    dog.hold(pair[0])
    dog.release(dog.line)
    pair[0].close()
    assert pair[1].recv(1) == b""


def test_who_held_a_former_connection_releases_nothing(dog: Watchdog, pair: Pair) -> None:
    dog.hold(pair[0])
    former = dog.line
    dog.hold(pair[1])
    dog.release(former)
    assert dog.line is not None


def test_closing_it_ends_its_thread(dog: Watchdog) -> None:
    before = threading.active_count()
    dog.arm(1000)
    assert threading.active_count() == before + 1
    dog.close()
    assert threading.active_count() == before
