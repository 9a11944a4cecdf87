"""The one exception for mistakes that the user can mend."""


class UserError(Exception):
    """Says in one sentence what is wrong and what to do next; shown without a traceback."""

    exit_code = 2
    """Of the command line that ends with it."""
