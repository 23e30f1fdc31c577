"""Every difference is documented, and every documented difference exists."""

import pathlib
import re

from differences import DIFFERENCES

HERE = pathlib.Path(__file__).parent
TABLE = HERE.parents[1] / "docs" / "peers.md"


def rows():
    return re.findall(r"^\| `([^`]+)` \| .+ \| .+ \| .+ \|$", TABLE.read_text(encoding="utf-8"), re.M)


def test_the_table_lists_every_difference_once():
    listed = rows()
    assert sorted(listed) == sorted(DIFFERENCES), "docs/peers.md and differences.py"
    assert len(set(listed)) == len(listed)


def test_every_difference_is_used_by_a_test():
    text = "".join(path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py") if path != pathlib.Path(__file__))
    for identifier in DIFFERENCES:
        # Some are put together, as f"connack-{…}-{version}".
        stem = re.sub(r"-[0-9]$", "", identifier)
        parts = [identifier, stem, stem.rsplit("-", 1)[0]]
        assert any(f'"{part}' in text for part in parts), f"{identifier} is expected by no test"
