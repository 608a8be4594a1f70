"""The page that compares weights: its numbers are those of zoo.evaluation, and its address holds the choice."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import browser, small_site

import zoo
from zoo_gallery import site as gallery

_DOCS = small_site.ROBUSTNESS.parent
_TIMES = """\
model,mode,hardware,device,threads,precision,backend,torch,batch_size,latency_ms
resnet20.c10,inference,A machine,cpu,2,fp32,eager,2.12,4,8
"""

PAIR = ("resnet20.c10", "plain20.c10")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("jinja2", "pyarrow"):
        pytest.importorskip(module, reason=f"needs {module}")
    folder = tmp_path_factory.mktemp("compare") / "site"
    timed = folder.with_name("latency.csv")
    timed.write_text(_TIMES)
    models = ["resnet20", "resnet32", "plain20", "hog_svm", "sift_bovw_knn", "hmax", "alexnet_small"]
    gallery.build(folder, models, latency=timed, failures=[small_site.ROBUSTNESS, _DOCS / "patch.json"])
    return folder


@pytest.fixture(scope="module")
def compared_address(compared: Path) -> Iterator[str]:
    with browser.served(compared) as address:
        yield address


def test_the_counts_are_those_of_each_pairs_answers(compared: Path) -> None:
    sets = json.loads((compared / "compare.json").read_bytes())["sets"]
    assert [one["data"] for one in sets] == ["cifar10/test", "caltech101:15:0/test", "digits/test"]
    (cifar10, *_) = sets
    names = [one["name"] for one in cifar10["weights"]]
    correct = {name: zoo.info(name)["weights"][0]["scores"]["cifar10/test"]["correct"] for name in names}
    assert names == sorted(names, key=lambda name: -correct[name])
    numbers = tuple(map(names.index, PAIR))
    (pair,) = (one for one in cifar10["pairs"] if tuple(one[:2]) == numbers)
    expected = zoo.evaluation.compare(*PAIR)
    assert pair[2:5] == [expected.only_first, expected.only_second, pytest.approx(expected.p)]
    low, high = pair[5]
    assert low < 100 * (expected.only_first - expected.only_second) / expected.n < high
    for weights in cifar10["weights"]:
        assert sum(weights["right"]) == correct[weights["name"]]
    assert sum(cifar10["images"]) == cifar10["n"] == 9980


def test_without_two_weights_of_one_data_set_there_is_no_page(compared: Path, tmp_path: Path) -> None:
    gallery.build(tmp_path / "site", ["resnet32", "hmax"])
    assert not (tmp_path / "site" / "compare.html").exists()
    assert "compare.html" not in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    links = (compared / "models" / "resnet32.html").read_text(encoding="utf-8")
    assert 'href="../compare.html?weights=resnet32.c10"' in links
    assert "compare.html?" not in (tmp_path / "site" / "models" / "resnet32.html").read_text(encoding="utf-8")


@pytest.mark.may_skip
def test_the_page_shows_the_pairs_of_its_address_and_puts_the_choice_there(page: Any, compared_address: str) -> None:
    page.goto(f"{compared_address}compare.html?weights={PAIR[0]}&weights={PAIR[1]}")
    rows = page.get_by_role("region", name="Pairs").locator("tbody tr")
    rows.first.wait_for()
    cells = rows.locator("th, td").all_inner_texts()
    expected = zoo.evaluation.compare(*PAIR)
    difference = 100 * (expected.only_first - expected.only_second) / expected.n
    assert cells[0] == f"{PAIR[0]} and {PAIR[1]}"
    assert cells[1] == f"{difference:.2f}"
    assert cells[3:6] == [str(expected.only_first), str(expected.only_second), f"{expected.p:.3f}"]
    assert cells[6] == f"{PAIR[0]} is better"
    page.get_by_label("resnet32.c10").check()
    pairs = zoo.evaluation.compare_each("resnet32.c10", *PAIR)
    rows.nth(len(pairs) - 1).wait_for()
    shown = [row.locator("td").nth(4).inner_text() for row in rows.all()]
    assert shown == ["< 0.001" if pair.corrected < 0.001 else f"{pair.corrected:.3f}" for pair in pairs]
    assert "weights=resnet32.c10" in page.url
    url = page.url
    page.goto("about:blank")
    page.goto(url)
    rows.first.wait_for()
    assert rows.count() == 3


@pytest.mark.may_skip
def test_two_to_five_can_be_chosen_and_another_data_set(page: Any, compared_address: str) -> None:
    page.goto(f"{compared_address}compare.html?weights=resnet20.digits")
    page.get_by_text("Choose two to five weights.").wait_for()
    assert page.locator("#results figure").count() == 0
    page.get_by_label("Test images").select_option("cifar10/test")
    boxes = page.locator("#choice input")
    assert boxes.count() > 5
    for number in range(2, 5):
        boxes.nth(number).check()
    assert boxes.nth(5).is_disabled()
    boxes.nth(0).uncheck()
    assert boxes.nth(5).is_enabled()
    assert page.get_by_role("region", name="Pairs").locator("tbody tr").count() == 6


@pytest.mark.may_skip
def test_of_many_classes_those_are_drawn_that_differ_most_and_all_are_in_the_table(
    page: Any, compared_address: str
) -> None:
    page.goto(f"{compared_address}compare.html?weights=hmax.caltech101&weights=sift_bovw_knn.caltech101")
    page.get_by_text("The 12 classes on which they differ most, of 102.").wait_for()
    page.locator("summary").click()
    rows = page.get_by_role("region", name="Classes").locator("tbody tr")
    assert rows.count() == 102
    shares = [[float(text.rstrip("%")) for text in row.split("\t")[2:]] for row in rows.all_inner_texts()]
    names = rows.locator("th").all_inner_texts()
    difference = {name: abs(one - other) for name, (one, other) in zip(names, shares, strict=True)}
    drawn = page.locator("#results svg.chart").nth(1).locator("text[text-anchor=end]").all_text_contents()
    assert len(drawn) == 12
    assert min(difference[name] for name in drawn) == sorted(difference.values())[-12]


@pytest.mark.may_skip
def test_curves_under_attack_are_those_of_the_file_and_what_was_not_measured_is_said(
    page: Any, compared_address: str
) -> None:
    names = ["resnet20.c10", "alexnet_small.c10", "plain20.c10"]
    page.goto(f"{compared_address}compare.html?" + "&".join(f"weights={name}" for name in names))
    page.get_by_text("Table of Attack pgd").click()
    measured = {
        one["weights"]: one["points"]
        for one in json.loads(small_site.ROBUSTNESS.read_bytes())
        if one["method"]["name"] == "pgd"
    }
    region = page.get_by_role("region", name="Attack pgd")
    heads = region.locator("thead th").all_inner_texts()[1:]
    assert sorted(heads) == sorted(measured)
    rows = [row.split("\t") for row in region.locator("tbody tr").all_inner_texts()]
    for number, name in enumerate(heads):
        expected = [(255 * point["epsilon"], point["accuracy"], *point["interval"]) for point in measured[name]]
        shown = [(float(row[0]), *map(float, re.findall(r"[0-9.]+", row[1 + number]))) for row in rows]
        assert shown == [pytest.approx(point, abs=0.006) for point in expected]
    drawn = page.locator("figure", has=page.locator('svg[aria-label*="Attack pgd"]')).locator("polyline")
    assert drawn.count() == 2
    for line, name in zip(drawn.all(), heads, strict=True):
        heights = [float(place.split(",")[1]) for place in line.get_attribute("points").split()]
        falls = [point["accuracy"] for point in measured[name]]
        assert (heights[-1] - heights[0]) / (falls[0] - falls[-1]) == pytest.approx((248 - 10) / 100)
    page.get_by_text("Not measured under attack or transformation: plain20.c10.").wait_for()
    patch = json.loads((_DOCS / "patch.json").read_bytes())
    page.get_by_text(f"makes resnet20.c10 answer {patch['target_name']} for {patch['rate']:.2f}%").wait_for()


@pytest.mark.may_skip
def test_speed_has_its_machine_and_what_was_not_timed_is_said(page: Any, compared_address: str) -> None:
    page.goto(f"{compared_address}compare.html?weights={PAIR[0]}&weights={PAIR[1]}")
    rows = page.get_by_role("region", name="Size and speed").locator("tbody tr")
    rows.first.wait_for()
    facts = [zoo.info(name)["weights"][0] for name in PAIR]
    timed, untimed = (row.locator("th, td").all_inner_texts() for row in rows.all())
    assert [timed[0], untimed[0]] == [*PAIR]
    assert timed[3:] == ["8.0", "500"]  # batches of 4 in 8 ms
    assert untimed[3:] == ["", ""]
    assert int(timed[1].replace(",", "")) == 269_722 == facts[0].get("params", 269_722)
    page.get_by_text("Latency on A machine, cpu, 2 threads, fp32, 4 images a batch, torch 2.12 eager.").wait_for()
    page.get_by_text(f"Latency not measured for this site: {PAIR[1]}.").wait_for()
