"""What can go wrong with a database, each told in one line."""


class LutError(Exception):
    """A database that cannot be used as asked."""


class NotADatabase(LutError):
    """The file is something else."""


class SchemaError(LutError):
    """The database was written by another version of this program."""


class StoreUnavailable(LutError):
    """The database cannot be read or written now: locked, read-only, disk full."""


class ExchangeError(LutError):
    """A file to import that cannot be understood; nothing of it was imported."""
