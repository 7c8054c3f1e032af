"""Says what pip-audit found: `audit_verdict.py FILE`, its JSON. Exit code 1 when a version has a known hole.

pip-audit itself says "no known vulnerabilities" also when it could look none of the versions up.
"""

import json
import sys
from pathlib import Path
from typing import Any


def verdict(dependencies: list[dict[str, Any]]) -> tuple[list[str], bool]:
    """Lines to print, and whether there is a hole."""
    looked_up = [one for one in dependencies if "skip_reason" not in one]
    holes = [
        f"{one['name']} {one['version']}: {hole['id']},"
        f" mended in {', '.join(hole['fix_versions']) or 'no version yet'}"
        for one in looked_up
        for hole in one["vulns"]
    ]
    if not looked_up:
        return ["skipped: none of the versions could be looked up"], False
    return [*holes, f"{len(looked_up)} of {len(dependencies)} looked up, {len(holes)} known holes"], bool(
        holes
    )


if __name__ == "__main__":
    lines, found = verdict(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["dependencies"])
    print("\n".join(lines))
    sys.exit(found)
