"""The error that a user can cause and can put right."""


class FacegenError(ValueError):
    """One clear line: what is wrong, where, and what to do. The command line prints it without a traceback."""
