"""Releases: an older manifest of the same publisher is as well signed as the present one, and refused all the same."""

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from support.command import ask
from support.signed import write_key, write_policy

import zoo
from zoo import manifest, registry
from zoo.errors import ManifestError, PolicyError
from zoo.system import storage
from zoo.trust import signing

pytest.importorskip("model_signing", reason="needs zoo-vision[signing]")

NAME = "resnet20.tiny"


@pytest.fixture
def hub(converted_hub: Path, inside: Path, key: Path) -> Path:
    write_policy(inside, key)
    return converted_hub


def sign(hub: Path, key: Path, *words: str) -> None:
    answer = ask("manifest", "sign", hub, "--key", key, *words)
    assert answer.exit_code == 0, answer.output


def fetch() -> Path:
    registry.clear()
    return zoo.fetch(NAME)


def kept(hub: Path, folder: Path) -> None:
    """Keeps manifest and signature of ``hub`` as they are now in ``folder``."""
    folder.mkdir()
    for name in ("manifest.toml", "manifest.toml.sig"):
        shutil.copy2(hub / name, folder / name)


def restore(hub: Path, folder: Path) -> None:
    shutil.copytree(folder, hub, dirs_exist_ok=True)


def test_an_older_release_is_refused_once_a_newer_one_was_accepted(hub: Path, key: Path, tmp_path: Path) -> None:
    sign(hub, key)
    kept(hub, tmp_path / "0")
    fetch()
    for number in (3, 4):
        sign(hub, key, "--release", str(number))
        kept(hub, tmp_path / f"{number}")
        fetch()
        fetch()
    restore(hub, tmp_path / "3")
    with pytest.raises(PolicyError, match="is release 3, but release 4 was accepted before"):
        fetch()
    restore(hub, tmp_path / "0")
    with pytest.raises(PolicyError, match=r"has no \[release\], but a release of its publisher was accepted before"):
        fetch()
    assert ask("manifest", "verify-signature", hub, "--key", key.with_suffix(".pub")).exit_code == 1
    restore(hub, tmp_path / "4")
    fetch()
    assert ask("manifest", "verify-signature", hub, "--key", key.with_suffix(".pub")).exit_code == 0


def test_the_place_of_hub_and_key_does_not_matter_but_publisher_and_name_do(
    hub: Path, key: Path, inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(hub, key, "--release", "2")
    fetch()
    shutil.copy2(key.with_suffix(".pub"), tmp_path / "copy.pub")
    write_policy(inside, tmp_path / "copy.pem")
    hub = hub.rename(tmp_path / "elsewhere")
    monkeypatch.setenv("ZOO_HUB", str(hub))
    text = (hub / "manifest.toml").read_text()
    (hub / "manifest.toml").write_text(text.replace("number = 2", "number = 1"))
    signing.sign(hub / "manifest.toml", key)
    with pytest.raises(PolicyError, match="is release 1, but release 2"):
        fetch()
    (hub / "manifest.toml").write_text(text.replace("number = 2", 'number = 1\nname = "another"'))
    signing.sign(hub / "manifest.toml", key)
    fetch()
    other = write_key(tmp_path / "other.pem")
    write_policy(inside, other)
    (hub / "manifest.toml").write_text(text.replace("number = 2", "number = 1"))
    signing.sign(hub / "manifest.toml", other)
    fetch()


def test_a_release_is_accepted_on_its_last_day_and_not_after_it(hub: Path, key: Path) -> None:
    today = datetime.now(UTC).date()
    sign(hub, key, "--release", "1", "--expires", str(today))
    fetch()
    sign(hub, key, "--release", "2", "--expires", str(today - timedelta(days=1)))
    with pytest.raises(PolicyError, match=f"expired on {today - timedelta(days=1)}"):
        fetch()


def test_where_nothing_can_be_remembered_the_present_release_is_accepted(
    hub: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZOO_CONFIG", str(tmp_path / "file" / "zoo"))
    sign(hub, key, "--release", "1")
    fetch()


def test_signing_writes_the_release_and_leaves_the_entries(hub: Path, key: Path) -> None:
    file = hub / "manifest.toml"
    before = manifest.read(file)
    sign(hub, key, "--release", "7", "--expires", "2030-01-31")
    assert manifest.release_of(file.read_text()) == manifest.Release(7, date(2030, 1, 31))
    sign(hub, key, "--release", "8")
    assert manifest.release_of(file.read_text()) == manifest.Release(8)
    assert manifest.read(file) == before
    assert "8 would be older" not in ask("manifest", "sign", hub, "--key", key, "--release", "8").output
    older = ask("manifest", "sign", hub, "--key", key, "--release", "7")
    assert older.exit_code == 1
    assert "is release 8; 7 would be older" in older.output
    assert ask("manifest", "sign", hub, "--key", key, "--expires", "2030-01-31").exit_code == 2
    assert storage.is_part(file) is False


@pytest.mark.parametrize("table", ["number = 0", 'number = "1"', "", "number = 1\nnamed = 2", "[release.x]\nfile = 1"])
def test_a_release_that_is_none_is_an_error(table: str) -> None:
    with pytest.raises(ManifestError, match=r"<manifest>:\d: \[release\]"):
        manifest.release_of(f"[release]\n{table}\n")
