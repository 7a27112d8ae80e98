"""The report in a real browser, without a network: no error, nothing fetched, all of it visible."""

import html
import json
import re
import shutil
import subprocess

import pytest
from test_study_report import SECTIONS

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="chromium is not installed"),
    pytest.mark.timeout(180),
]

LISTEN = """<script>
const errors = [];
addEventListener("error", (event) => errors.push(String(event.message)), true);
addEventListener("securitypolicyviolation", (event) => errors.push(event.blockedURI));
</script>"""

LOOK = """<script>
addEventListener("load", () => {
  const size = (part) => {
    const box = part.getBoundingClientRect();
    return [box.width, box.height];
  };
  const pictures = ".many svg, figure .wide svg";
  const over = (part) => part.dispatchEvent(new PointerEvent("pointermove", {bubbles: true}));
  const dot = document.querySelector("#history svg [data-t='4']");
  over(dot);
  const tip = document.querySelector("#tip");
  const lit = document.querySelectorAll(".on").length;
  const said = tip.hidden ? "" : tip.textContent;
  over(document.body);
  const heads = [...document.querySelectorAll("#trials .sortable th[scope=col]")];
  const column = () => [...document.querySelectorAll("#trials .sortable tbody tr")]
    .map((row) => row.cells[1].textContent);
  heads[1].click();
  const falling = column();
  heads[1].click();
  const found = {
    errors, lit, said, falling, rising: column(), gone: tip.hidden,
    pictures: [...document.querySelectorAll(pictures)].map(size),
    sections: [...document.querySelectorAll("section")].map((part) => [part.id, ...size(part)]),
    fetched: performance.getEntriesByType("resource").map((entry) => entry.name),
    page: [document.documentElement.scrollWidth, innerWidth],
    ground: getComputedStyle(document.body).backgroundColor,
  };
  const answer = document.createElement("pre");
  answer.id = "found";
  answer.textContent = JSON.stringify(found);
  document.body.append(answer);
});
</script>"""


def looked_at(page, folder, *options):
    """Open a copy of the page that also tells what the browser made of it."""
    text = page.read_text(encoding="utf-8")
    copy = folder / "looked at.html"
    copy.write_text(
        text.replace("<head>", f"<head>{LISTEN}", 1).replace("</body>", f"{LOOK}</body>", 1),
        encoding="utf-8",
    )
    ended = subprocess.run(
        [
            BROWSER,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}"),
            *("--dump-dom", *options, copy.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', ended.stdout)[1]))


@pytest.fixture(scope="module")
def found(reported, tmp_path_factory):
    return looked_at(reported[1], tmp_path_factory.mktemp("browser"), "--window-size=1200,900")


def test_it_opens_without_an_error_and_fetches_nothing(found):
    assert found["errors"] == []
    assert found["fetched"] == []


def test_every_section_and_every_picture_has_a_size(found):
    assert [name for name, *_ in found["sections"]] == SECTIONS
    assert all(width > 300 and height > 60 for _, width, height in found["sections"])
    assert len(found["pictures"]) == 9  # six wide ones and three slices
    assert all(width > 150 and height > 90 for width, height in found["pictures"])


def test_a_mark_says_whose_it_is_and_lights_its_trial_everywhere(found):
    assert found["said"].startswith("trial 4\nH: ")
    assert "alpha: " in found["said"]
    assert found["lit"] == 1 + 1 + 3 + 1 + 1  # history, parallel, slices, curves, the table's row
    assert found["gone"]


def test_the_table_sorts_both_ways(found):
    scores = [float(text) for text in found["falling"] if text != "–"]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 22
    assert [float(text) for text in found["rising"] if text != "–"] == scores[::-1]


def test_a_phone_needs_no_scrolling_sideways(reported, tmp_path):
    width, window = looked_at(reported[1], tmp_path, "--window-size=500,900")["page"]
    assert width <= window


def test_it_is_dark_where_the_reader_wants_it_dark(reported, found, tmp_path):
    dark = looked_at(reported[1], tmp_path, "--blink-settings=preferredColorScheme=0")
    assert found["ground"] == "rgb(253, 253, 252)"
    assert dark["ground"] == "rgb(20, 23, 26)"
