"""An object of the bus with a stream, in Python."""

from typing import Iterator

import rantai


@rantai.object("numbers")
class Numbers:
    """Numbers, one by one."""

    def count(self, to: int) -> Iterator[int]:
        """The numbers below `to`."""
        yield from range(to)
