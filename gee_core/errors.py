"""What a user can mend."""


class InputError(ValueError):
    """Bad input from outside: a value, file or folder. The message names what, where and the remedy, on one line."""


class DivergedError(InputError):
    """The parameters are valid, but with them a training came to values that are not finite."""
