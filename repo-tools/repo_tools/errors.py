"""What repo-tools refuses, by who must act on it. The text of each error is meant for the user."""


class RepoToolsError(Exception):
    """Base of every error that repo-tools raises on purpose."""


class FileSystemError(RepoToolsError):
    """A file system inside an image cannot be read: a booting machine would panic here."""


class CommandLineError(RepoToolsError):
    """A kernel command line vouches for no root image: a booting machine would panic here."""


class VouchingError(RepoToolsError):
    """A root or hash image is not what the boot image vouches for: a machine would panic here."""


class AddressInUseError(RepoToolsError):
    """Another program listens where the server should: the caller may know another port."""
