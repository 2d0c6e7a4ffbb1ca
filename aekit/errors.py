"""What goes wrong through no fault of the program: one line that says where, what is wrong and what would be right."""


class AekitError(Exception):
    """The user's or the data's fault; the command line prints it and exits 1."""


class UsageError(AekitError):
    """A wrong word on the command line or in a call, whatever the data; exits 2."""


class RankError(AekitError):
    """Another of the processes that train one model has ended; the command line of each of the others prints it."""
