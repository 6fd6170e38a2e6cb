"""What can go wrong in updog, as few kinds as callers tell apart.

Every error's text is one line that says what failed, on what, why, and what to do; whoever knows
what state is left adds it. Nothing here prints or exits: the command line alone does.
"""


class UpdogError(Exception):
    """Stop the run: the base of every expected failure of this package."""


class ConfigError(UpdogError):
    """Report settings, or facts about this machine, that cannot be used as they stand."""


class TransportError(UpdogError):
    """Report bytes that could not be fetched; trying again later may help.

    Attributes:
        url: What was fetched, without user, password, query and fragment.
        reason: Why it failed, without the address.
        status: The HTTP status that the server answered with, if it came that far. A missing file
            of a `file://` repository counts as 404.
    """

    def __init__(self, url: str, reason: str, *, status: int | None = None) -> None:
        super().__init__(f"cannot fetch {url}: {reason}")
        self.url = url
        self.reason = reason
        self.status = status


class TrustError(UpdogError):
    """Report metadata or a target that the trusted root does not vouch for."""


class ManifestError(UpdogError):
    """Report a manifest that is signed but breaks the format's rules."""


class ImageError(UpdogError):
    """Report target content that is not what was signed, or does not unpack to it."""


class PartitionError(UpdogError):
    """Report a partition that cannot hold, take or give back an image."""


class Locked(UpdogError):  # noqa: N818 -- not a failure of this run: another one is at work
    """Report that another run holds the lock.

    Attributes:
        pid: The process that holds it, if it left its number.
    """

    def __init__(self, message: str, *, pid: int | None) -> None:
        super().__init__(message)
        self.pid = pid
