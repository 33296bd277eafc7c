"""The pure parts of the page's script, by their own tests in `static/`; .ci/run runs them too, with lint and types."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = sorted((Path(__file__).parent / "static").glob("*.test.js"))


@pytest.mark.skipif(shutil.which("node") is None, reason="no node to run them; install Debian's package nodejs")
def test_the_parts_of_the_script_do_what_their_tests_say() -> None:
    assert len(TESTS) >= 6
    ran = subprocess.run(["node", "--test", *TESTS], check=False, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout
