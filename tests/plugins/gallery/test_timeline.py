"""The timeline: papers by year, and the winners of ILSVRC."""

from typing import Any
from xml.etree import ElementTree

import pytest

from zoo import registry
from zoo_gallery import charts, facts


@pytest.fixture(scope="module")
def years() -> dict[int, charts.Year]:
    pages = facts.pages(registry.current().models())
    return {year.year: year for year in charts.papers_by_year(pages)}


def test_it_begins_with_the_neocognitron_and_its_years_ascend(years: dict[int, charts.Year]) -> None:
    assert [*years] == sorted(years)
    assert min(years) == 1980
    (cited,) = years[1980].papers
    assert cited.paper.authors == "Kunihiko Fukushima"


def test_every_paper_of_a_model_is_cited_once_with_all_its_models(years: dict[int, charts.Year]) -> None:
    named = [page.name for year in years.values() for cited in year.papers for page in cited.pages]
    assert sorted(named) == sorted(entry.name for entry in registry.current().models() if entry.model.paper)


def test_winners_stand_with_the_papers_that_describe_them(years: dict[int, charts.Year]) -> None:
    """Russakovsky et al. 2015, table 5, and the results page of 2015: errors of single years' best entries."""
    winners = {
        one.year: (one.top5_error, one.layers, {page.name for page in cited.pages})
        for year in years.values()
        for cited in year.papers
        for one in cited.winners
        if "second" not in one.entry
    }
    assert winners[2012][:2] == (16.4, 8)
    assert "alexnet" in winners[2012][2]
    assert winners[2014][:2] == (6.7, 22)
    assert "googlenet" in winners[2014][2]
    assert winners[2015][:2] == (3.57, 152)
    assert "resnet152" in winners[2015][2]


def test_every_winner_is_shown_once(years: dict[int, charts.Year]) -> None:
    shown = [one for year in years.values() for cited in year.papers for one in cited.winners]
    shown += [one for year in years.values() for one in year.winners]
    assert sorted(one.entry for one in shown) == sorted(one.entry for one in charts.winners())


def test_no_label_of_its_bars_is_cut(page: Any, address: str) -> None:
    page.goto(f"{address}index.html#timeline")
    cut = page.locator("#timeline svg.bars text").evaluate_all(
        """texts => texts.filter(text => {
            const label = text.getBBox(), view = text.ownerSVGElement.viewBox.baseVal;
            return label.x < 0 || label.x + label.width > view.width;
        }).map(text => text.textContent)"""
    )
    assert page.locator("#timeline svg.bars text").count() == 2 * len(charts.winners())
    assert cut == []


def test_no_bar_pushes_its_words_out_of_the_drawing() -> None:
    """On a phone, a letter of 19 units is 0.52 of them wide on average."""
    root = ElementTree.fromstring(charts.depth_chart())
    width = float(root.attrib["viewBox"].split()[2])
    words = [text for text in root.findall("text") if "text-anchor" not in text.attrib]
    assert len(words) > 5
    assert all(float(text.attrib["x"]) + 0.52 * 19 * len(text.text or "") <= width for text in words)
