"""Pages in a headless Chromium: what they say on the console, what they ask for, how they are laid out."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
PHONE, DESK = 360, 1280
HEIGHT = 9000

_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
    "--allow-file-access-from-files", "--enable-logging=stderr", "--log-level=0",
)  # fmt: skip

# Hashes that Chromium's log of the network gives to what pages and frames ask for. Its own housekeeping has others.
_OF_PAGES = {101845102: "blink_resource_loader", 63171670: "navigation_url_loader"}

# The page holds no script, so another one looks at it from outside, through frames as wide as two screens.
_FRAMES = """<!DOCTYPE html><html><head><meta charset="utf-8"/></head><body style="margin:0;display:flex">
{frames}
<script>
const box = found => {{
  const at = found.getBoundingClientRect();
  return {{left: at.left, top: at.top, width: at.width, height: at.height, drawn: found.getBBox().height}};
}};
const seen = frame => {{
  const page = frame.contentDocument, width = page.documentElement.clientWidth;
  const inside = found => found.closest(".scroll") || found.getBoundingClientRect().right <= width + 1;
  return {{
    title: page.title, width: width, scroll: page.documentElement.scrollWidth,
    end: page.body.getBoundingClientRect().height, plots: [...page.querySelectorAll("svg.plot")].map(box),
    headings: [...page.querySelectorAll("tbody th")].map(found => found.getBoundingClientRect().width),
    outside: [...page.querySelectorAll("main *")].filter(found => !inside(found)).map(found => found.tagName)
  }};
}};
onload = () => {{
  const said = document.createElement("pre");
  said.id = "seen";
  said.textContent = JSON.stringify([...document.querySelectorAll("iframe")].map(seen));
  document.body.append(said);
}};
</script></body></html>
"""


@dataclass(frozen=True)
class Seen:
    """What a browser made of a page.

    Attributes:
        layouts: by width of the screen, sizes of the page and of its plots in CSS pixels.
        console: what was said there.
        requests: addresses other than those of files on this disk.
        picture: a screenshot, the phone's to the left of the desk's.
    """

    layouts: dict[int, dict[str, Any]]
    console: list[str]
    requests: list[str]
    picture: Path


def looked_at(page: Path, scratch: Path) -> Seen:
    """Open ``page`` on a phone and on a desk."""
    assert CHROMIUM is not None
    scratch.mkdir(parents=True, exist_ok=True)
    outer, log, picture = scratch / "frames.html", scratch / "net.json", scratch / "picture.png"
    style = f"border:0;flex:none;height:{HEIGHT}px"
    frames = [
        f'<iframe src="{page.resolve().as_uri()}" style="{style};width:{width}px"></iframe>' for width in (PHONE, DESK)
    ]
    outer.write_text(_FRAMES.format(frames="".join(frames)), encoding="utf-8")
    words = [CHROMIUM, *_QUIET, f"--user-data-dir={scratch / 'profile'}", f"--window-size={PHONE + DESK},{HEIGHT}"]
    words += [f"--log-net-log={log}", f"--screenshot={picture}", "--dump-dom", outer.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True)
    measured = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert measured, done.stderr
    layouts = dict(zip((PHONE, DESK), json.loads(html.unescape(measured[1])), strict=True))
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Seen(layouts, console, _requests(log.read_text(encoding="utf-8")), picture)


def _requests(log: str) -> list[str]:
    """What pages and frames asked for that is no file."""
    asked = re.findall(r'"traffic_annotation":(\d+),"url":"([^"]+)"', log)
    own = ("file:", "data:", "about:")
    return sorted({url for kind, url in asked if int(kind) in _OF_PAGES and not url.startswith(own)})
