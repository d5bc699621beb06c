"""The report in a browser.

Clicked through with the mouse and with the keyboard, wide and narrow, light and dark, without a
network.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from browser import Page


def heading(page: Page) -> str:
    return page.ask("document.querySelector('#behind h2').textContent")


def test_it_is_seen_at_all(page: Page, first: Path) -> None:
    assert (first / "report.html").stat().st_size < 5_000_000
    page.open((first / "report.html").resolve().as_uri(), 1280, 900)
    assert page.ask("document.querySelector('h1').getBoundingClientRect().height") > 20
    assert page.ask(
        "[...document.querySelectorAll('figure svg')].every((each) => "
        "each.getBoundingClientRect().height > 100)"
    )
    # And the plan's, which the report draws itself: what was used is another in every run.
    drawn = len(json.loads((first / "figures" / "index.json").read_text())) + 1
    assert page.ask("document.querySelectorAll('figure svg').length") == drawn


def test_a_click_on_a_score_walks_to_the_bytes_at_the_beginning(page: Page, first: Path) -> None:
    page.open((first / "report.html").resolve().as_uri(), 1280, 900)
    page.click("table.grid [data-score]")
    assert page.comes("document.getElementById('behind').open") and "stderr" in page.ask(
        "document.querySelector('#behind dl').textContent"
    )
    shown = page.ask("document.querySelector('table.grid [data-score]').textContent")
    value = float(page.ask("document.querySelector('#behind dd').textContent"))
    assert f"{value:.3f}" == shown
    walked = []
    while page.ask("document.querySelectorAll('#behind .step').length"):
        assert len(walked) < 20, walked
        # Towards the text: what was trained on rather than what was asked.
        kinds = page.ask(
            "[...document.querySelectorAll('#behind .step .kind')].map((each) => each.textContent)"
        )
        kind_order = ("scores", "model", "checkpoint", "tokens", "source")
        page.click(
            "#behind .step",
            next(
                (
                    index
                    for kind in kind_order
                    for index, other in enumerate(kinds)
                    if other == kind
                ),
                0,
            ),
        )
        walked.append(heading(page))
    assert [name.split()[0] for name in walked][:2] == ["scores", "model"] and walked[
        -1
    ].startswith("source")
    ends = page.ask("document.querySelector('#behind .body').textContent")
    lock = (Path(__file__).parents[2] / "config" / "packages.lock.csv").read_text()
    assert any(line.split(",")[-1] in ends for line in lock.splitlines()[1:]), (
        f"no package's sha256 in: {ends}"
    )
    page.click("#behind .back")
    assert heading(page) == walked[-2]
    page.click("#behind .close")
    assert page.comes("!document.getElementById('behind').open")


@pytest.mark.parametrize(
    ("cell", "behind"),
    [
        ("#lineage [data-artifact]", "token_index"),
        ("#comparisons td [data-score]", ""),
        ("#contamination [data-artifact]", "contamination"),
        ("#texts [data-artifact]", "samples"),
        ("#cost [data-artifact]", "checkpoint"),
        ("#cost [data-rule=evaluate]", "rule evaluate"),
        ("#software [data-rule=convert]", "rule convert"),
    ],
)
def test_cells_of_other_tables_open_what_they_come_from(
    page: Page, first: Path, cell: str, behind: str
) -> None:
    page.open((first / "report.html").resolve().as_uri(), 1280, 900)
    page.ask("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.click(cell)
    assert page.comes("document.getElementById('behind').open")
    assert heading(page).startswith(behind)
    steps = "document.querySelectorAll('#behind .step').length"
    assert page.ask(steps), "there is nothing to walk on to"
    page.click("#behind .step")
    assert heading(page).split()[0] != "rule"
    assert (
        page.ask("document.querySelector('#behind dl').textContent").count("sha256 of the manifest")
        == 1
    )


def test_the_keyboard_is_enough(page: Page, first: Path) -> None:
    page.open((first / "report.html").resolve().as_uri(), 1280, 900)
    page.press("Tab")
    assert page.ask("document.activeElement.className") == "skip"
    for _ in range(400):
        page.press("Tab")
        if page.ask("document.activeElement.matches('[data-score]')"):
            break
    assert page.ask("document.activeElement.matches('[data-score]')"), (
        "no score is reached with Tab"
    )
    page.press("Enter")
    assert page.comes("document.getElementById('behind').open")
    page.press("Tab")
    assert page.ask("document.getElementById('behind').contains(document.activeElement)"), (
        "the focus stays in the dialog"
    )
    page.press("Escape")
    assert page.comes("!document.getElementById('behind').open")
    assert page.ask("document.activeElement.matches('[data-score]')"), (
        "and goes back to where it was"
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)], ids=["desktop", "phone"])
def test_wide_and_narrow_light_and_dark(
    page: Page, first: Path, tmp_path: Path, width: int, height: int, dark: bool
) -> None:
    page.open((first / "report.html").resolve().as_uri(), width, height, dark)
    assert page.ask("document.documentElement.scrollWidth <= window.innerWidth"), (
        "the page scrolls sideways"
    )
    paper, ink = (
        page.ask(
            f"getComputedStyle(document.body).{part}.match(/\\d+/g).slice(0, 3).reduce((sum, "
            "each) => sum + Number(each), 0)"
        )
        for part in ("backgroundColor", "color")
    )
    assert (paper < ink) == dark and abs(paper - ink) > 300
    # Every section of the page can be reached from its list.
    for index in range(page.ask("document.querySelectorAll('nav a').length")):
        page.click("nav a", index)
        target = page.ask(f"document.querySelectorAll('nav a')[{index}].getAttribute('href')")
        assert page.comes(f"location.hash === '{target}'"), f"{target}: {page.ask('location.hash')}"
        assert page.ask(f"document.querySelector('{target}') !== null")
    for index in range(page.ask("document.querySelectorAll('details').length")):
        page.ask(f"document.querySelectorAll('details')[{index}].open = true")
    assert page.ask("document.documentElement.scrollWidth <= window.innerWidth"), (
        "with everything open it scrolls sideways"
    )
    page.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000, "an empty picture"


def test_nothing_was_asked_of_a_network_and_no_script_failed(page: Page) -> None:
    assert page.errors == []
    assert page.requests and all(url.startswith("file://") for url in page.requests)
