"""What goes wrong with bodies: a file that cannot be used, two bodies that do not mix."""


class BodyFileError(ValueError):
    """A body file, or a file that belongs to a body, that cannot be used; says why."""


class BodyIdentityError(ValueError):
    """Parameters, meshes or regressors of one body given to another."""

    def __init__(self, what: str, got: str, expected: str) -> None:
        super().__init__(
            f"{what}: got body {got}; expected {expected}; betas, vertex ids and regressors mean "
            "nothing on another body: use the one they were made with, or make them anew"
        )
