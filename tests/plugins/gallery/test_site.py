"""The site as files: what its pages say, what they refer to, and when they are written."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from support import distributions, small_site
from support.command import ask_warm, printed, told

import zoo
from zoo import registry
from zoo.errors import DataError, SpecError, StorageError, UnknownNameError
from zoo.manifest import History
from zoo_gallery import atlas, facts
from zoo_gallery import site as gallery
from zoo_gallery.outline import Outline
from zoo_gallery.pages import Pages, explored, picture


@pytest.fixture(autouse=True)
def _needs_jinja2() -> None:
    pytest.importorskip("jinja2", reason="needs jinja2")


def text_of(file: Path) -> str:
    return " ".join(" ".join(small_site.Page(file).text).split())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


# ---- what pages refer to --------------------------------------------------------------------------------


def test_every_link_within_the_site_leads_to_a_page_and_a_place_on_it(site: Path) -> None:
    pages = small_site.pages(site)
    assert len(pages) == 5 + len(small_site.MODELS)
    for file, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), file
        for link in (*page.links, *page.loads):
            if link.startswith(("https://", "http://")):
                continue
            path, _, place = link.partition("#")
            path = path.partition("?")[0]
            target = (file.parent / path).resolve() if path else file
            assert target.is_file(), f"{file}: {link}"
            assert not place or place in pages[target].ids, f"{file}: {link}"


def test_pages_load_nothing_from_elsewhere_and_address_their_files_relatively(site: Path) -> None:
    for file, page in small_site.pages(site).items():
        assert page.loads
        for address in page.loads:
            assert ":" not in address, f"{file} loads {address}"
            assert not address.startswith("/"), f"{file} loads {address}"
        for tag, attributes in page.elements:
            assert "style" not in attributes, f"{file}: {tag} has a style, which the policy forbids"
            assert not any(name.startswith("on") for name in attributes), f"{file}: {tag} {attributes}"
    assert "url(" not in (site / "assets" / "gallery.css").read_text()


@pytest.mark.parametrize(
    ("docs", "on_the_front", "on_a_model"),
    [
        ("../index.html", "../index.html", "../../index.html"),
        ("https://zoo.test/", "https://zoo.test/", "https://zoo.test/"),
    ],
)
def test_every_page_links_to_the_documentation(tmp_path: Path, docs: str, on_the_front: str, on_a_model: str) -> None:
    gallery.build(tmp_path / "site", ["neocognitron_1980"])
    printed("gallery", "build", "neocognitron_1980", "--docs", docs, "-o", tmp_path / "site")
    for file, page in small_site.pages(tmp_path / "site").items():
        assert (on_a_model if file.parent.name == "models" else on_the_front) in page.links, file


def test_an_address_of_documentation_that_would_run_code_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="begins with https://"):
        gallery.build(tmp_path / "site", ["neocognitron_1980"], docs="javascript:alert(1)")


def test_a_policy_forbids_scripts_styles_and_requests_but_the_sites_own(site: Path) -> None:
    for file, page in small_site.pages(site).items():
        (policy,) = (
            given["content"] for tag, given in page.elements if given.get("http-equiv") == "Content-Security-Policy"
        )
        rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
        assert rules["default-src"] == "'none'", file
        assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'", file


def test_texts_of_third_parties_are_shown_and_never_markup(tmp_path: Path, pet: None) -> None:
    gallery.build(tmp_path / "site", ["pet_*", "hog_svm"])
    for file, page in small_site.pages(tmp_path / "site").items():
        scripts = ["../assets/gallery.js" if file.parent.name == "models" else "assets/gallery.js"]
        scripts += [f"assets/{file.stem}.mjs"] if file.stem in ("train", "gabor") else []
        assert [given["src"] for tag, given in page.elements if tag == "script"] == scripts
        assert not [given for tag, given in page.elements if tag == "img"]
        assert not [link for link in page.links if link.startswith("javascript:")]
        assert "\u202e" not in "".join(page.text)
        assert len(page.ids) == len(set(page.ids)), "a tag of theirs is no id of ours"
    shown = text_of(tmp_path / "site" / "models" / "pet_net.html")
    assert shown.count("<script>document.title='owned'</script>") >= 8
    assert "<script>document.title='owned'</script>" in text_of(tmp_path / "site" / "index.html")


def test_plugins_of_third_parties_are_shown_like_built_in_ones(tmp_path: Path, pet: None) -> None:
    built = gallery.build(tmp_path / "site", ["pet_*", "hog_svm"])
    assert built.pages == 3
    shown = text_of(tmp_path / "site" / "models" / "pet_net.html")
    assert "pip install zoo-pet" in shown
    assert "Linear" in shown, "the drawing's table"
    assert "pet_net.main" in text_of(tmp_path / "site" / "index.html")


def test_a_network_that_cannot_be_built_has_a_page_with_the_reason(tmp_path: Path, pet: None) -> None:
    gallery.build(tmp_path / "site", ["pet_*"])
    assert "PluginError: pet_fails: pet.model:fail" in text_of(tmp_path / "site" / "models" / "pet_fails.html")


# ---- what pages say -------------------------------------------------------------------------------------


def test_a_page_shows_hashes_licences_scores_and_the_training_record(site: Path) -> None:
    shown = text_of(site / "models" / "resnet20.html")
    about = zoo.info("resnet20.c10")["weights"][0]
    score = about["scores"]["cifar10/test"]
    for fact in (
        about["sha256"], about["license"]["code"], about["license"]["weights"], about["license"]["data"],
        about["origin"], score["command"], score["fingerprint"], "91.18 to 92.26",
        "zoo train resnet20 --data cifar10 -o runs/resnet20.c10", "Deep Residual Learning for Image Recognition",
    ):  # fmt: skip
        assert fact in shown, fact


def test_published_figures_are_those_of_the_papers_and_stand_beside_ours(site: Path) -> None:
    """He et al. 2015, table 6: 20 layers have an error of 8.75%."""
    entries = [entry for entry in registry.current().models() if entry.name in ("resnet20", "airbench94")]
    pages = {page.name: page for page in facts.pages(entries)}
    (ours,) = (one for one in pages["resnet20"].trained if one.name == "resnet20.c10")
    assert ours.published.top1 == pytest.approx(100 - 8.75)
    assert ours.main.score.top1 == pytest.approx(91.7335)
    (jordan,) = pages["airbench94"].published  # what a recipe measured here is not a figure of others
    assert (jordan.top1, jordan.protocol) == (94.01, "9.9 epochs, 1,000 runs, six views")
    assert "91.25%" in text_of(site / "models" / "resnet20.html")
    assert "164 epochs, one view" in text_of(site / "models" / "resnet20.html")


def test_several_trainings_and_the_figure_of_the_same_arguments_stand_beside_a_score() -> None:
    """Lee et al. 2014, section 3.1: errors of 1.94% by target propagation and of 1.86% by backpropagation."""
    [entry] = [entry for entry in registry.current().models() if entry.name == "dtp_mlp"]
    [page] = listed = facts.pages([entry])
    trained = {one.weights.tag: one for one in page.trained}
    assert trained["mnist_50k"].published.top1 == pytest.approx(100 - 1.94)
    assert trained["mnist_backprop"].published.top1 == pytest.approx(100 - 1.86)
    values = trained["mnist_50k"].main.score.spread.top1
    words = f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} (10)"
    pages = Pages(listed)
    for shown in (pages.front().decode(), pages.model(page, Outline()).decode()):
        assert f"98.00%; {words}" in shown


def test_a_page_draws_the_curves_of_a_training_if_the_manifest_has_them() -> None:
    [entry] = [entry for entry in registry.current().models() if entry.name == "resnet32"]
    [page] = facts.pages([entry])

    def with_history(history: History | None) -> facts.Page:
        first, *others = page.trained
        first = msgspec.structs.replace(first, weights=msgspec.structs.replace(first.weights, history=history))
        return msgspec.structs.replace(page, trained=(first, *others))

    without = with_history(None)
    assert "over the epochs" not in Pages([without]).model(without, Outline()).decode()
    page = with_history(
        History(epoch=(1, 20, 60), loss=(1.9, 0.7, 0.31), train_top1=(30.5, 77.0, 90.0), val_top1=(33.25, 80.5, 89.0))
    )
    text = Pages([page]).model(page, Outline()).decode()
    lines = re.findall(r'<polyline points="([^"]*)" class="line c(\d)"', text)
    assert [(len(points.split()), group) for points, group in lines] == [(3, "0"), (3, "0"), (3, "1")]
    (_, first_y), *_, (_, last_y) = [tuple(map(float, pair.split(","))) for pair in lines[0][0].split()]
    assert first_y < last_y, "the loss falls, and y points down"
    table = text.partition('aria-label="Table of the training')[2].partition("</table>")[0]
    cells = [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in table.partition("<tbody>")[2].split("<tr>")[1:]]
    assert cells == [
        ["1", "1.9", "30.50%", "33.25%"],
        ["20", "0.7", "77.00%", "80.50%"],
        ["60", "0.31", "90.00%", "89.00%"],
    ]


def test_the_front_page_has_a_row_for_every_set_of_weights() -> None:
    listed = registry.current().models()
    front = Pages(facts.pages(listed)).front().decode().partition('id="charts"')[0]
    names = zoo.list_models(pretrained=True)
    assert len(names) > 100
    assert [name for name in names if front.count(f">{name}</a>") != 1] == []


@pytest.mark.slow
def test_the_whole_site_is_below_40_megabytes_and_draws_every_built_in_network(tmp_path: Path) -> None:
    built = gallery.build(tmp_path / "site")
    assert built.pages == len(zoo.list_models())
    assert built.size < 40e6
    records = [json.loads(file.read_bytes()) for file in (tmp_path / "site" / "models").glob("*.json")]
    assert [record["page"]["name"] for record in records if not record["outline"]["blocks"]] == []


def test_a_plugin_that_cannot_be_used_is_named_when_the_site_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = distributions.install(tmp_path, "zoo-bad", {"bad": "bad:plugin"}, {"bad.py": "raise RuntimeError('no')"})
    monkeypatch.syspath_prepend(site)
    registry.clear()
    done = ask_warm("gallery", "build", "zfnet", "-o", tmp_path / "site")
    monkeypatch.undo()
    registry.clear()
    assert done.exit_code == 0, done.output
    assert "plugins that cannot be used (bad)" in done.stderr


# ---- when pages are written -----------------------------------------------------------------------------


def test_equal_inputs_give_equal_bytes(site: Path, tmp_path: Path) -> None:
    small_site.build(tmp_path / "site")
    assert contents(tmp_path / "site") == contents(site)


def test_only_pages_whose_inputs_changed_are_written(tmp_path: Path, latencies: Path) -> None:
    small_site.build(tmp_path / "site")
    before = contents(tmp_path / "site")
    assert small_site.build(tmp_path / "site").written == 0
    small_site.build(tmp_path / "site", latency=latencies)
    after = contents(tmp_path / "site")
    assert {name for name in after if after[name] != before[name]} == {
        "gallery.json", "index.html", "models/resnet20.html", "models/resnet20.json", "compare.json",
    }  # fmt: skip


def test_pages_of_models_that_are_gone_are_removed(tmp_path: Path) -> None:
    gallery.build(tmp_path / "site", ["hog_svm", "zfnet"])
    assert gallery.build(tmp_path / "site", ["zfnet"]).removed == 2
    assert sorted(file.name for file in (tmp_path / "site" / "models").iterdir()) == ["zfnet.html", "zfnet.json"]


def test_a_damaged_page_record_is_replaced(tmp_path: Path) -> None:
    gallery.build(tmp_path / "site", ["zfnet"])
    record = tmp_path / "site" / "models" / "zfnet.json"
    whole = record.read_bytes()
    record.write_bytes(whole[: len(whole) // 2])
    gallery.build(tmp_path / "site", ["zfnet"])
    assert record.read_bytes() == whole


def test_a_folder_with_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StorageError, match="not empty"):
        gallery.build(tmp_path, ["zfnet"])
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["models", "failures", "try", "assets"])
def test_a_folder_of_the_site_that_is_a_link_is_refused_and_what_it_leads_to_stays(name: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.html").write_text("years of work")
    site = tmp_path / "site"
    site.mkdir()
    (site / gallery.INDEX).write_text("[]")
    (site / name).symlink_to(elsewhere)
    with pytest.raises(StorageError, match="symbolic link"):
        gallery.build(site, ["zfnet"])
    assert contents(elsewhere) == {"thesis.html": b"years of work"}


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="'nothing_\\*'"):
        gallery.build(tmp_path / "site", ["nothing_*"])


def test_a_pattern_with_a_dot_chooses_weights(tmp_path: Path) -> None:
    gallery.build(tmp_path / "site", ["resnet20.c10", "resnet20.digits"])
    index = json.loads((tmp_path / "site" / "gallery.json").read_bytes())
    assert [row["name"] for row in index["weights"]] == ["resnet20.c10", "resnet20.digits"]


def test_the_example_of_a_model_loads_its_default_weights(tmp_path: Path) -> None:
    """timm's default of vgg11 is tv_in1k; the first by name is torchvision's own file."""
    gallery.build(tmp_path / "site", ["vgg11"])
    assert 'zoo.create("vgg11.tv_in1k")' in text_of(tmp_path / "site" / "models" / "vgg11.html")


def test_a_collections_models_have_pages_if_they_are_named(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="needs timm")
    gallery.build(tmp_path / "site", ["timm/resnet10t"])
    assert 'zoo.create("timm/resnet10t' in text_of(tmp_path / "site" / "models" / "timm.resnet10t.html")


# ---- latencies ------------------------------------------------------------------------------------------


@pytest.fixture
def latencies(tmp_path: Path) -> Path:
    """What ``zoo benchmark --csv`` measured for a network, at two batch sizes."""
    file = tmp_path / "latency.csv"
    words = ["benchmark", "resnet20", "--batch-size", "1,2", "--warmup", "1", "--steps", "5", "--csv", str(file)]
    printed(*words)
    return file


def test_a_benchmarks_latencies_are_shown_with_the_machine_that_they_were_measured_on(
    tmp_path: Path, latencies: Path
) -> None:
    words = ["gallery", "build", "resnet20", "-o", str(tmp_path / "site"), "--latency", str(latencies)]
    assert told(*words)["pages"] == 1
    header, first, *_ = (line.split(",") for line in latencies.read_text().splitlines())
    row = dict(zip(header, first, strict=False))
    index = json.loads((tmp_path / "site" / "gallery.json").read_bytes())
    assert {weights["latency_ms"] for weights in index["weights"]} == {float(row["latency_ms"])}
    shown = text_of(tmp_path / "site" / "index.html")
    assert f"Latency: {row['hardware']}" in shown
    assert "1 image a batch" in shown


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace("float32", "float16", 1), "2 settings"),
        (lambda text: text.replace("inference", "training"), "none of inference"),
        (lambda text: text.replace("latency_ms", "speed", 1), "latency_ms"),
    ],
)
def test_latencies_that_cannot_be_compared_or_read_are_refused(
    tmp_path: Path, change: Callable[[str], str], reason: str
) -> None:
    row = "{model},inference,cpu,a processor,1,eager,float32,True,1,3x32x32,5.0,6.0,200.0,5,0.1,0.27,0.041,0.3,2.13"
    names = "model,mode,device,hardware,threads,backend,precision,channels_last,batch_size,input_size,latency_ms,"
    names += "latency_p95_ms,images_per_s,steps,first_s,params_m,gmacs,macts_m,torch"
    text = "\n".join([names, row.format(model="resnet20"), row.format(model="zfnet")])
    (tmp_path / "latency.csv").write_text(change(text))
    with pytest.raises(DataError, match=reason):
        gallery.build(tmp_path / "site", ["resnet20"], latency=tmp_path / "latency.csv")


def test_the_first_view_of_all_models_is_small() -> None:
    """The front page with its picture, styles, script and icon, uncompressed, of every model that is installed here."""
    layers = atlas.read(Path(__file__).parents[3] / "docs" / "atlas")
    everything = Pages(facts.pages(gallery._chosen([]), facts.Findings({}, {}, explored(layers))), menu=["atlas"])
    shown, front = picture(everything, layers)
    assert len(shown) == 6
    page = everything.front(shown)
    parts = [page, front, *map(everything.asset, ("gallery.css", "gallery.js", "icon.svg"))]
    assert b"front.webp" in page
    assert sum(map(len, parts)) < 300_000
