"""A headless Chromium that opens a page, waits until it has loaded, and gives what stands in it then."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")


def dom(url: str, profile: Path, *, size: tuple[int, int] = (1280, 720)) -> str:
    """The page as HTML, once everything that it loads has been loaded."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions",
            "--disable-background-networking", "--disable-component-update", "--no-proxy-server",
            f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}", "--dump-dom", url,
        ],
        env=os.environ | {"HOME": str(profile)},
        capture_output=True,
        timeout=90,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode()
