from updog.errors import Locked, TransportError, UpdogError


def test_a_failed_fetch_names_the_address_and_the_reason() -> None:
    error = TransportError("http://h/x", "the server answered 404 Not Found", status=404)
    assert isinstance(error, UpdogError)
    assert str(error) == "cannot fetch http://h/x: the server answered 404 Not Found"
    assert (error.url, error.reason, error.status) == (
        "http://h/x",
        "the server answered 404 Not Found",
        404,
    )


def test_a_lock_that_is_held_tells_by_whom() -> None:
    error = Locked("another run is at work (pid 12)", pid=12)
    assert isinstance(error, UpdogError)
    assert error.pid == 12
