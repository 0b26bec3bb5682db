"""The SLURM example of docs/scans.md, as far as it goes without SLURM: its job script."""

import re
from pathlib import Path

import pytest

pytest.importorskip("dask_jobqueue")
PAGE = Path(__file__).parents[2] / "docs" / "scans.md"


@pytest.fixture
def script(tmp_path, monkeypatch, capsys):
    """Execute the block of the page that makes the cluster; return what it prints."""
    text = PAGE.read_text(encoding="utf-8")
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", text, re.S) if "SLURMCluster(" in b]
    assert 'interface="ib0"' in block
    block = block.replace(
        'interface="ib0"', 'interface="lo"'
    )  # the only one that all machines have
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(block, str(PAGE), "exec"), names)
    link = names["cluster"].dashboard_link
    names["cluster"].close()
    assert link.startswith("http://127.0.0.1:")
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    return capsys.readouterr().out


def test_the_job_script_asks_for_what_the_page_says(script):
    directives = re.findall(r"^#SBATCH (.*)$", script, re.M)
    assert "-p gpu" in directives
    assert "--gres=gpu:1" in directives
    assert "-t 04:00:00" in directives
    assert "--cpus-per-task=1" in directives
    assert "--mem=15G" in directives  # 16 GB are 14.9 GiB


def test_the_worker_of_the_script_has_one_thread_a_lifetime_and_tls(script):
    (command,) = [line for line in script.splitlines() if "distributed.cli.dask_worker" in line]
    assert " tls://127.0.0.1:" in command
    assert " --nthreads 1 " in command
    assert " --lifetime 225m --lifetime-stagger 10m" in command
    assert " --death-timeout 120" in command
    assert " --local-directory $TMPDIR" in command
    assert " --interface lo" in command
    assert " --dashboard-address 127.0.0.1:0" in command
    for option in ("--tls-ca-file", "--tls-cert", "--tls-key"):
        assert f" {option} " in command


def test_the_lifetime_fits_into_the_walltime(script):
    (hours, minutes) = re.findall(r"^#SBATCH -t (\d+):(\d+):", script, re.M)[0]
    lifetime, stagger = re.findall(r"--lifetime (\d+)m --lifetime-stagger (\d+)m", script)[0]
    assert int(lifetime) + int(stagger) < 60 * int(hours) + int(minutes)
