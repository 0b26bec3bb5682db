"""`torch.compile` on a network with pathways: it breaks the graph there, results are the same."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("compiled_run.py")
PATHWAYS = runpy.run_path(str(SCRIPT))["PATHWAYS"]


@pytest.fixture(scope="module", params=["aot_eager"])
def compiled(request, tmp_path_factory):
    """What went wrong, by rule; all in one process, since starting it is most of the time.

    aot_eager traces the forward pass as eager does, and the backward pass, too.
    """
    file = tmp_path_factory.mktemp("compile") / "found.json"
    command = [sys.executable, SCRIPT, request.param, file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("name", PATHWAYS)
def test_compiled_network_gives_the_same_gradients(name, compiled):
    assert compiled[name] == ""
