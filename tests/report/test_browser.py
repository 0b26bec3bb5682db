"""The page in headless Chromium: images that decode, tables, nothing that overflows or runs."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurofb.report import write_report

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome")

#: asks the browser what became of the page; the page itself has no script, and allows none
PROBE = """<script>
addEventListener("load", () => {
  const images = [...document.images];
  document.body.dataset.found = JSON.stringify({
    title: document.title,
    images: images.filter(i => i.naturalWidth > 200 && i.alt).length,
    broken: images.filter(i => !i.naturalWidth).length,
    rows: document.querySelectorAll("#cells tbody tr").length,
    badges: document.querySelectorAll("#cells .badge.failed").length,
    overflow: document.documentElement.scrollWidth - innerWidth,
    scripts: document.scripts.length,
    parts: [...document.querySelectorAll("nav a")].map(a => !!document.querySelector(a.hash)),
  });
});
</script></body>"""


def browse(page: Path, tmp_path: Path, *options: str) -> str:
    """Run the browser without a network, and return what it prints."""
    command = [
        str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}",
        *options, page.as_uri(),
    ]  # fmt: skip
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def page(scan_store: Path) -> Path:
    return write_report(scan_store, scan_store.with_name("report.html"))


@pytest.mark.parametrize("width", [400, 800, 1400])
def test_figures_and_table_are_there(page: Path, tmp_path: Path, width: int) -> None:
    text = page.read_text(encoding="utf-8")
    policy = re.search(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", text)
    assert policy
    probed = tmp_path / "probed.html"
    probed.write_text(text.replace(policy.group(), "").replace("</body>", PROBE), encoding="utf-8")
    dom = browse(probed, tmp_path, f"--window-size={width},900", "--dump-dom")
    answer = re.search(r'<body data-found="([^"]*)"', dom)
    assert answer
    found = json.loads(html.unescape(answer.group(1)))
    assert found["title"] == "RF symmetry over bottleneck and rank"  # no script has changed it
    assert (found["images"], found["broken"]) == (4, 0)
    assert (found["rows"], found["badges"]) == (59, 3)
    assert found["scripts"] == 1  # the probe
    assert found["overflow"] <= 0
    assert len(found["parts"]) == 6
    assert all(found["parts"])


def test_it_is_painted(page: Path, tmp_path: Path) -> None:
    shot = tmp_path / "shot.png"
    browse(page, tmp_path, "--window-size=1200,1400", f"--screenshot={shot}")
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    done, failed = (np.abs(pixels.astype(int) - np.array(c)).max(1) < 4 for c in (
        (0x3B, 0x82, 0xB8), (0xD5, 0x5E, 0x00)))  # fmt: skip
    assert done.sum() > 20_000  # the map of status
    assert 1_000 < failed.sum() < done.sum()
    assert (pixels.min(1) > 250).mean() > 0.3  # the page around it
