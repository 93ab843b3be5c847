"""The one error a user of the factory is meant to read."""

from __future__ import annotations


class BadInput(ValueError):
    """Something given to the factory is wrong, and the person who gave it can mend it.

    The command line prints it as one line and exits with 2; a flow run fails with it as its message.

    Args:
        where: what holds the bad value: a file, a recipe key, a command's option.
        value: the value found there.
        expected: what would have been accepted.
    """

    def __init__(self, where: object, value: object, expected: str) -> None:
        self.where, self.value, self.expected = str(where), value, expected
        super().__init__(where, value, expected)

    def __str__(self) -> str:
        shown = self.value if isinstance(self.value, str) else repr(self.value)
        return f"{self.where}: got {shown!s}; expected {self.expected}".replace("\n", " ")
