"""Names of files that stand in files."""

from pathlib import Path, PurePosixPath, PureWindowsPath

from flowhmr.files.errors import DataFileError


def path_inside(folder: Path, name: str) -> Path:
    """The path of a file that a data file names, below ``folder``.

    Links in the folder are followed: data sets are often put together from them.

    Raises:
        DataFileError: an absolute name, or one that leads out of the folder.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    windows = PureWindowsPath(name)
    absolute = windows.drive or windows.root or name.startswith("/")
    if not parts or absolute or ".." in parts or "\0" in name:
        raise DataFileError(
            f"got the file name {name!r}; expected one below {folder}; leave out, or replace, the "
            "part of the name that leads elsewhere"
        )
    return folder.joinpath(*parts)
