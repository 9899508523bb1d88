"""The two ways in which work ends early; every other exception is a defect of ours."""


class MergeError(Exception):
    """Bad input that the user can mend; the text is one clear sentence, shown as it stands."""


class FileError(MergeError):
    """A file that cannot be read or written; ``system`` is what the operating system says."""

    def __init__(self, text: str, system: OSError) -> None:
        super().__init__(text)
        self.system = system


class Cancelled(Exception):
    """The user pressed Stop; raised between two steps of the work, never inside one."""
