"""What goes wrong with files of others."""


class DataFileError(ValueError):
    """A file that is damaged, too large, of another kind, or with other content; says which."""


class PickleFileError(DataFileError):
    """A pickle that is damaged, is none, or asks for more than data; says which."""
