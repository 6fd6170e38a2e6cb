"""Why a set is not entered. The texts end up on the console of a machine that did not boot."""

from signpost.errors import SignpostError


class LoadError(SignpostError):
    """The set's BOOT holds nothing that the kernel takes; another set may."""
