"""The two ways in which work ends early; every other exception is a defect of ours."""


class MergeError(Exception):
    """Bad input that the user can mend; the text is one clear sentence, shown as it stands."""


class Cancelled(Exception):
    """The user pressed Stop; raised between two steps of the work, never inside one."""
