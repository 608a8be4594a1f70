"""The pages in headless Chromium: what it requests, keyboard, sorting, accessibility."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support import browser, small_site

import zoo
from zoo.names import natural
from zoo_gallery import atlas
from zoo_gallery import site as gallery

pytestmark = [pytest.mark.slow, pytest.mark.may_skip]  # the browser is a package of the system

KINDS = ("index.html", "models.html", "models/resnet20.html", "models/hog_svm.html", "train.html", "gabor.html")
KINDS += ("compare.html",)
KINDS += ("atlas.html", "atlas/resnet20.digits/act1/index.html", "atlas/resnet20.digits/act1/1.html")
PHONE = {"width": 390, "height": 800}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A site with an atlas, below a path, as a static host may have it."""
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    root = tmp_path_factory.mktemp("host")
    channels = tmp_path_factory.mktemp("atlas")
    atlas.compute("resnet20.digits", channels, layers=["act1"], channels=3, limit=40, steps=2)
    small_site.build(root / "some" / "path", channels=channels)
    with browser.served(root) as top:
        yield f"{top}some/path/"


def names(page: Any, table: str = "#table-weights") -> list[str]:
    """Returns the first cells of the rows that are shown."""
    found: list[str] = page.locator(f"{table} tbody tr:visible th").all_inner_texts()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_requests_nothing_from_elsewhere_and_logs_no_error(page: Any, address: str, kind: str) -> None:
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("response", lambda response: complaints.extend([response.url] if response.status >= 400 else []))
    page.goto(address + kind, wait_until="networkidle")
    assert len(asked) >= 3
    assert [url for url in asked if not url.startswith(address)] == []
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_no_violation(chromium: Any, address: str, kind: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    for viewport in ({"width": 1280, "height": 900}, PHONE):
        # The policy of the page keeps axe's own script out.
        context = chromium.new_context(color_scheme=scheme, viewport=viewport, bypass_csp=True)
        page = context.new_page()
        page.goto(address + kind)
        page.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = true))")
        violations = axe.Axe().run(page).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in violations] == []
        context.close()


@pytest.mark.parametrize("kind", KINDS)
def test_no_page_is_wider_than_a_phone(chromium: Any, address: str, kind: str) -> None:
    for width in (320, PHONE["width"]):
        context = chromium.new_context(viewport=PHONE | {"width": width})
        page = context.new_page()
        page.goto(address + kind, wait_until="networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        context.close()


def test_texts_of_third_parties_run_no_script(page: Any, tmp_path: Path, pet: None) -> None:
    gallery.build(tmp_path / "site", ["pet_*"])
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    with browser.served(tmp_path / "site") as address:
        for name in ("index.html", "models/pet_net.html", "models/pet_fails.html"):
            page.goto(address + name, wait_until="networkidle")
            assert page.title() != "owned"
            assert page.locator("img, image").count() == 0
    assert dialogs == []


def test_a_column_sorts_by_number_in_both_directions_with_empty_cells_last(page: Any, address: str) -> None:
    page.goto(address)
    head = page.locator("#table-weights th", has_text="Top-1, measured here")

    def values() -> list[float | None]:
        cells = page.locator("#table-weights tbody tr td:nth-child(3)").all_inner_texts()
        return [float(text.rstrip("%")) if text else None for text in cells]

    falling = [value for value in values() if value is not None]
    assert head.get_attribute("aria-sort") == "descending", "the most accurate first, before anyone sorts"
    assert falling == sorted(falling, reverse=True)
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    rising = values()
    assert rising[: len(falling)] == sorted(falling)
    assert rising[len(falling) :] == [None] * (len(rising) - len(falling))


def test_filters_narrow_the_table_together_and_say_how_many_are_left(page: Any, address: str) -> None:
    page.goto(address)
    every = names(page)
    page.get_by_label("Data set").select_option("cifar10")
    page.get_by_label("Name").fill("PLAIN")
    plain = zoo.list_models("plain20.*")  # all are of CIFAR-10
    assert names(page) == plain
    assert page.get_by_role("status").inner_text() == f"{len(plain)} of {len(every)} weights"
    page.get_by_role("button", name="Show all").click()
    page.get_by_role("status").get_by_text(f"{len(every)} of {len(every)} weights").wait_for()
    page.get_by_label("To year").fill("2010")
    assert names(page) == ["hog_svm.c10"]


def test_the_address_holds_filters_and_order_and_an_empty_table_says_why(page: Any, address: str) -> None:
    page.goto(address)
    page.get_by_label("Data set").select_option("cifar10")
    page.get_by_label("Name").fill("20")
    page.locator("#table-weights th", has_text="Parameters").get_by_role("button").click()
    page.locator("#table-weights th", has_text="Weights").get_by_role("button").click()
    shown, url = names(page), page.url
    assert shown == sorted(shown, key=natural)
    assert len(shown) > 2
    page.goto("about:blank")
    page.goto(url)
    assert names(page) == shown
    assert page.get_by_label("Name").input_value() == "20"
    page.get_by_label("Name").fill("nothing has this name")
    assert names(page) == []
    assert "fits all of these at once" in page.get_by_role("status").inner_text()
    page.get_by_role("button", name="Show all").click()
    page.get_by_role("status").get_by_text(" weights").wait_for()
    assert "data=" not in page.url


def test_the_legend_hides_the_points_of_a_family_and_the_keys_pass_over_them(page: Any, address: str) -> None:
    page.goto(address)
    figure = page.locator("figure:has(.points)").first
    points = figure.locator(".points a:visible")
    every = points.count()
    button = page.locator(".legend button", has_text="classical").first
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert 0 < points.count() < every
    assert "hog_svm" not in " ".join(one.get_attribute("aria-label") for one in points.all())
    assert figure.locator(".points a:visible[tabindex='0']").count() == 1
    points.first.focus()
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.checkVisibility()")
    button.click()
    assert points.count() == every


def test_the_line_is_that_of_the_points_that_are_shown(page: Any, address: str) -> None:
    page.goto(address)
    figure = page.locator("figure:has(.points)").first
    line, listed = figure.locator(".pareto"), figure.locator(".frontier")
    before = line.get_attribute("points"), listed.inner_text()
    winner = listed.locator("a").last.inner_text()
    family = figure.locator(f".points a[aria-label^='{winner}:']").get_attribute("data-group")
    button = page.locator(f".legend [data-group='{family}'] button").first
    button.click()
    shown = [
        (*map(float, point.get_attribute("data-place").split()), point.get_attribute("aria-label").split(":")[0])
        for point in figure.locator(".points a:visible").all()
    ]
    best = [
        (x, y, name)
        for x, y, name in sorted(shown)
        if not any(right <= x and down <= y and other != name for right, down, other in shown)
    ]
    assert line.get_attribute("points") == " ".join(f"{x:g},{y:g}" for x, y, _ in best)
    assert listed.locator("a").all_inner_texts() == [name for *_, name in best]
    assert winner not in listed.inner_text()
    button.click()
    assert (line.get_attribute("points"), listed.inner_text()) == before


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_clicked_is_large_enough_for_a_finger(page: Any, address: str, kind: str) -> None:
    """Links within sentences are as high as these."""
    page.set_viewport_size(PHONE)
    page.goto(address + kind, wait_until="networkidle")
    page.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = true))")
    small = page.evaluate("""() => [...document.querySelectorAll(
        "header nav a, .path a, .panel a, tbody th a, button, input, select, summary"
    )].filter((part) => part.checkVisibility()).map(
        (part) => [part.outerHTML.slice(0, 80), part.getBoundingClientRect()]
    ).filter(([, box]) => box.height < 24 || box.width < 24).map(([html]) => html)""")
    assert small == []


def test_markers_that_lie_together_are_listed_at_a_click(page: Any, address: str) -> None:
    page.goto(address)
    together = """[...document.querySelectorAll("figure:has(.points)")].map((figure) => {
        const places = [...figure.querySelectorAll(".points a")].map((point) => {
            const { x, y } = point.querySelector("path:last-of-type").getBoundingClientRect();
            return [x, y, point.getAttribute("aria-label").split(",")[0]];
        });
        return places.map(([x, y, name], i) => [i, places.filter(([right, down]) => Math.hypot(right - x, down - y) < 8)
            .map(([, , other]) => other)]).filter(([, names]) => names.length > 1);
    })"""
    found = page.evaluate(together)
    number, (point, names_there) = next((number, points[-1]) for number, points in enumerate(found) if points)
    figure = page.locator("figure:has(.points)").nth(number)
    # The last of them lies on top.
    figure.locator(".points a").nth(point).locator("path").last.click(force=True)
    links = figure.locator(".readout a")
    assert set(names_there) <= set(links.all_inner_texts())
    target = links.first.get_attribute("href")
    links.first.click()
    page.wait_for_url(f"**/{target}")


def test_points_of_a_chart_are_one_stop_of_the_tab_key_and_arrows_move_between_them(page: Any, address: str) -> None:
    page.goto(address)
    points = page.locator("figure").first.locator(".points a")
    assert points.count() >= 4
    assert page.locator("figure").first.locator(".points a[tabindex='0']").count() == 1
    points.first.focus()
    page.keyboard.press("ArrowRight")
    readout = page.locator("figure .readout").first
    assert readout.inner_text() == points.nth(1).get_attribute("aria-label")
    page.keyboard.press("End")
    target = points.last.get_attribute("href")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{target}")


def test_the_tab_key_reaches_every_control_and_shows_where_it_is(page: Any, address: str) -> None:
    page.goto(address)
    controls = """[...document.querySelectorAll("a, button, input, select, summary, [tabindex='0']")]
        .filter((one) => one.tabIndex >= 0 && one.checkVisibility())"""
    expected = page.evaluate(f"{controls}.length")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    reached = 1
    while True:
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body") or reached > expected:
            break
        reached += 1
        assert page.evaluate("document.activeElement.matches(':focus-visible')")
    assert reached == expected


def test_a_slider_shows_the_pictures_and_predictions_of_each_epsilon(page: Any, address: str) -> None:
    page.goto(f"{address}models/resnet20.html")
    series = page.locator(".series")
    slider = series.get_by_label("Epsilon")
    heads = series.locator("thead th").all_text_contents()[1:]
    views = set()
    for column, head in enumerate(heads):
        if column:
            slider.press("ArrowRight")
        assert slider.get_attribute("aria-valuetext") == head
        cells = [row.locator("td").nth(column) for row in series.locator("tbody tr").all()]
        shown = series.locator(".pictures li span").all_text_contents()
        assert shown == [cell.text_content() for cell in cells]
        assert f": {sum(text.startswith('✓') for text in shown)} of {len(shown)} right" in head
        views.add(series.locator(".pictures svg").first.get_attribute("viewBox"))
    assert len(views) == len(heads) > 3
    assert not series.locator("details").evaluate("(one) => one.open")


def test_without_scripts_the_table_of_epsilons_is_open_and_the_slider_hidden(chromium: Any, address: str) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}models/resnet20.html")
    assert page.locator(".series table").is_visible()
    assert page.locator(".series input").is_hidden()
    context.close()


def test_pictures_of_the_atlas_are_cut_out_of_their_files(page: Any, address: str) -> None:
    """The policy of the page allows them, and they are as large as they say."""
    page.goto(f"{address}atlas/resnet20.digits/act1/index.html", wait_until="networkidle")
    sizes = page.evaluate(
        """Promise.all([...document.querySelectorAll(".channels image")].map(async (one) => {
            const picture = new Image();
            picture.src = one.href.baseVal;
            await picture.decode();
            return [picture.naturalWidth, picture.naturalHeight, one.width.baseVal.value, one.height.baseVal.value];
        }))"""
    )
    assert len(sizes) == 3
    assert all((width, height) == (shown, tall) for width, height, shown, tall in sizes)
    page.locator('a[href="2.html"]').click()
    page.get_by_role("heading", name="Channel 2").wait_for()
    page.get_by_role("link", name="← Channel 1").click()
    page.get_by_role("heading", name="Channel 1").wait_for()


def test_code_is_copied(chromium: Any, address: str) -> None:
    context = chromium.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{address}models/resnet20.html")
    page.get_by_role("button", name="Copy: Python").click()
    page.get_by_text("Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert 'zoo.create("resnet20.c10").eval()' in copied
    assert "Copy" not in copied
    context.close()


def test_without_scripts_everything_is_readable_and_no_control_is_shown(chromium: Any, address: str) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("#table-weights tbody tr").count() > 5
    assert page.locator("form.filters").first.is_hidden()
    assert page.get_by_role("button").count() == 0
    context.close()


def channels_shown(page: Any) -> list[str]:
    """Returns where the channels lead that a search has left."""
    return [link.get_attribute("href") for link in page.locator("#units li:visible a").all()]


@pytest.mark.parametrize(
    ("kind", "folder"), [("atlas.html", "atlas/resnet20.digits/act1/"), ("atlas/resnet20.digits/act1/index.html", "")]
)
def test_channels_are_found_by_what_they_prefer(page: Any, address: str, kind: str, folder: str) -> None:
    """Uses the keyboard alone. The three channels' measurements are replaced, as any may prefer anything."""
    page.goto(address + kind)
    known = ["cat, diagonal stripes 45°, high frequency", "Faces easy, grey", "cat, yellow and blue"]
    page.evaluate(
        "(words) => document.querySelectorAll('.prefers').forEach((part, i) => (part.textContent = words[i]))", known
    )
    field = page.get_by_label("What a channel prefers")
    while not field.evaluate("field => field === document.activeElement"):
        page.keyboard.press("Tab")
    found = {}
    for asked in ("cat", "45 degrees", "45°", "Blue CAT", "face", "4", "1", "frequency grey"):
        page.keyboard.press("Control+A")
        page.keyboard.type(asked)
        found[asked] = [int(link.removeprefix(folder).removesuffix(".html")) for link in channels_shown(page)]
    assert found == {
        "cat": [0, 2], "45 degrees": [0], "45°": [0], "Blue CAT": [2], "face": [1], "4": [], "1": [],
        "frequency grey": [],
    }  # fmt: skip
    assert "None of the 3 channels" in page.get_by_role("status").inner_text()
    page.keyboard.press("Control+A")
    page.keyboard.type("high")
    assert page.get_by_role("status").inner_text() == "1 of 3 channels"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{address}atlas/resnet20.digits/act1/0.html")
    page.go_back()
    assert "text=high" in page.url
    assert page.get_by_label("What a channel prefers").input_value() == "high"


def test_the_atlas_names_words_that_find_channels(page: Any, address: str) -> None:
    page.goto(address + "atlas.html")
    links = page.locator("main a[href*='text=']")
    words = links.all_inner_texts()
    assert words
    links.first.click()
    page.wait_for_url("**text=**")
    assert all(words[0] in text for text in page.locator("#units li:visible .prefers").all_inner_texts())
    assert page.locator("#units li:visible").count() > 0


@pytest.mark.parametrize("window", [{"width": 1440, "height": 900}, {"width": 390, "height": 844}])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_page_begins_with_a_picture(
    chromium: Any, tmp_path: Path, window: dict[str, int], scheme: str
) -> None:
    gallery.build(tmp_path / "site", ["resnet20.c10"], channels=Path(__file__).parents[3] / "docs" / "atlas")
    with browser.served(tmp_path / "site") as top:
        context = chromium.new_context(viewport=window, color_scheme=scheme)
        page = context.new_page()
        page.goto(top + "index.html", wait_until="networkidle")
        box = page.locator(".glimpse ul").bounding_box()
        assert box["y"] + box["height"] <= window["height"], "no need to scroll"
        colors = page.locator(".glimpse .crop").first.screenshot()
        assert len(Image.open(io.BytesIO(colors)).convert("RGB").getcolors(1 << 20)) > 100, "it is there"
        page.locator(".glimpse li a").first.click()
        assert "Prefers airplane" in page.locator("main").inner_text()
        context.close()
