"""Charts: the Pareto line, places and marks."""

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from zoo_gallery import charts
from zoo_gallery.charts import Point
from zoo_gallery.markup import Markup, element, plain, web_address

POINTS = st.lists(
    st.builds(
        Point,
        x=st.integers(1, 50).map(float),
        y=st.integers(0, 100).map(float),
        label=st.text(max_size=5),
        link=st.just("models/a.html"),
        group=st.integers(0, 70),
        interval=st.none() | st.just((10.0, 90.0)),
        is_hollow=st.booleans(),
    ),
    min_size=2,
    max_size=12,
)


def test_the_line_joins_the_points_that_no_other_beats() -> None:
    points = [Point(x, y, f"{x}:{y}", "", 0) for x, y in [(1, 5), (1, 7), (2, 6), (3, 9), (3, 8), (4, 9), (5, 11)]]
    assert [(point.x, point.y) for point in charts.pareto(points)] == [(1, 7), (3, 9), (5, 11)]


@given(POINTS)
def test_every_point_is_on_the_line_or_beaten_by_one_that_is(points: list[Point]) -> None:
    line = charts.pareto(points)
    for point in points:
        beaten = [one for one in line if one.x <= point.x and one.y >= point.y]
        assert beaten
        assert point not in line or min(one.y for one in beaten) == point.y


@given(POINTS)
def test_a_chart_is_well_formed_has_a_link_for_each_point_and_draws_within_its_frame(points: list[Point]) -> None:
    drawn = charts.scatter(points, x_title="parameters", y_title="top-1, %", x_unit=str)
    root = ElementTree.fromstring(drawn)
    assert len(root.findall(".//a")) == len(points)
    (line,) = root.findall("polyline")
    places = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    assert places == sorted(places, key=lambda place: (place[0], -place[1])), "rises from left to right"
    assert all(58 <= x <= 604 and 14 <= y <= 350 for x, y in places)


def test_the_points_on_the_line_are_named_and_no_name_covers_another() -> None:
    names = ["resnet20.c10", "resnet32.c10", "resnet44.c10", "resnet56.c10", "ror3_56_sd.c10"]
    points = [Point(1e6 * (1 + 0.02 * i), 90 + 0.1 * i, f"{name}: 90%", "a.html", i) for i, name in enumerate(names)]
    beaten = Point(1.5e6, 80.0, "plain56.c10: 80%", "a.html", 0)
    root = ElementTree.fromstring(charts.scatter([*points, beaten], x_title="x", y_title="y", x_unit=str))
    (group,) = (one for one in root.findall("g") if one.attrib["class"] == "names")
    texts = group.findall("text")
    assert [text.text for text in texts] == names
    boxes = [(float(text.attrib["x"]), float(text.attrib["y"]), len(text.text or "")) for text in texts]
    for number, (x, y, length) in enumerate(boxes):
        assert x >= 58
        assert x + 5.5 * length <= 620
        for other_x, other_y, other_length in boxes[:number]:
            assert abs(y - other_y) >= 11 or x + 5.5 * length < other_x or other_x + 5.5 * other_length < x


@given(st.text())
def test_text_becomes_text_in_content_and_in_attributes(text: str) -> None:
    root = ElementTree.fromstring(element("a", text, title=text))
    shown = plain(text).replace("\n", " ")
    assert (root.text or "").replace("\n", " ") == shown
    assert root.attrib["title"].replace("\n", " ") == shown


def test_markup_is_not_escaped_again() -> None:
    assert element("b", element("i", "<"), "<") == Markup("<b><i>&lt;</i>&lt;</b>")


def test_only_addresses_of_the_web_become_links() -> None:
    assert web_address("https://arxiv.org/abs/1512.03385") == "https://arxiv.org/abs/1512.03385"
    for text in ("javascript:alert(1)", "data:text/html,x", "//example.org", "https://a b", "https://a\u202eb", ""):
        assert web_address(text) == ""
