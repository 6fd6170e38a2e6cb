"""What signpost refuses, by who must act on it. The text of each error is meant for the user."""


class SignpostError(Exception):
    """Base of every error that signpost raises on purpose."""


class TableError(SignpostError):
    """The disk holds no partition table that may be trusted or written."""


class SetError(SignpostError):
    """The partitions of the disk do not form the sets that the command needs."""


class TransitionError(SignpostError):
    """The boot state forbids the transition; nothing was changed."""


class DiskError(SignpostError):
    """The disk cannot be found, opened, locked, read or written."""
