"""Functions of the page's scripts, run by node, for tests of what needs no browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from typing import Any

import pytest


def of_node(name: str, expression: str, given: Any = None) -> Any:
    """Return the value of an expression over a module of the page.

    Args:
        name: of the module, below render/static.
        expression: JavaScript; its value has to be JSON-able.
        given: what it is of, as `given`.
    """
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; the page's code is run by it")
    script = files("heatmap_pipeline.render").joinpath("static", *name.split("/")).read_text(encoding="utf-8")
    ask = 'import { readFileSync } from "node:fs";\nconst given = JSON.parse(readFileSync(0, "utf8"));\n'
    ran = subprocess.run(
        [node, "--input-type=module", "-e", f"{script}\n{ask}console.log(JSON.stringify({expression}));"],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(ran.stdout)
