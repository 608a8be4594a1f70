"""A distribution of weights alone, as a wheel: what ``twine`` uploads to a package index and ``pip install`` brings.

Its entry point of the group ``zoo.weights`` names the manifest beside the weights. There is no code in it.
"""

import base64
import hashlib
import io
import re
import zipfile
from pathlib import Path

import msgspec
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.version import InvalidVersion, Version

from zoo import manifest, names
from zoo.errors import HubError, SpecError
from zoo.manifest import Weights
from zoo.registry import DATA_GROUP, DISTRIBUTION
from zoo.spec import Model
from zoo.system import machine, storage
from zoo_publish.destination import WEIGHTS, Held

PREFIX = "wheel"
VERSION = "1.0"
LIMIT = 100 * 2**20
"""Bytes of a file that the public package index takes without being asked for more."""

CONTENTS = (WEIGHTS, "manifest.toml", "LICENSE")
"""The files of which the card tells."""


class Wheel(msgspec.Struct):
    """The wheel in ``folder`` of the distribution ``zoo-weights-PART``, whose weights lie in its one package."""

    part: str
    version: str
    folder: Path
    repo: str = ""
    file: str = WEIGHTS
    has_card: bool = True
    is_local: bool = True

    @property
    def distribution(self) -> str:
        """The name that pip installs."""
        return f"zoo-weights-{self.part.replace('_', '-')}"

    @property
    def package(self) -> str:
        return f"zoo_weights_{self.part}"

    @property
    def hub(self) -> str:
        return f"embedded:{self.package}"

    @property
    def path(self) -> Path:
        return self.folder / f"{self.package}-{self.version}-py3-none-any.whl"

    @property
    def name(self) -> str:
        return str(self.path)

    def held(self) -> Held | None:
        """Returns the weights in the wheel that is there."""
        try:
            with storage.open_regular(self.path) as raw, zipfile.ZipFile(raw) as archive:
                return Held(hashlib.sha256(archive.read(f"{self.package}/{self.file}")).hexdigest())
        except FileNotFoundError:
            return None
        except (OSError, KeyError, ValueError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            hint = "Remove it, or build in another folder."
            raise HubError(f"{self.path} cannot be read: {error}", hint=hint) from None

    def put(self, weights: Path, files: dict[str, bytes], message: str) -> str:
        """Writes the wheel; of the same bytes it may be there already, others are never replaced."""
        content = self._packed({f"{self.package}/{self.file}": weights.read_bytes(), **files})
        if len(content) > LIMIT:
            raise _too_large(len(content))
        is_new = storage.create(self.path, content)
        if not is_new and storage.sha256_of(self.path) != hashlib.sha256(content).hexdigest():
            raise HubError(
                f"{self.path} has the same weights with another card, other scores or licences. Nothing was changed.",
                hint="Build another release: --version NUMBER; or remove the file, if nobody has it.",
            )
        return ""

    def members(self, entry: Weights, model: Model, card: str) -> dict[str, bytes]:
        """Returns all files of the wheel but the weights and the list of its files; ``card`` is its description."""
        info = f"{self.package}-{self.version}.dist-info"
        package = f'"""The weights {entry.name} for Zoo, in manifest.toml. There is no code: Zoo reads the files."""\n'
        texts = {
            f"{self.package}/__init__.py": package,
            f"{self.package}/manifest.toml": manifest.render(entry),
            f"{info}/METADATA": self._metadata(entry, model, card),
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: zoo publish\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/entry_points.txt": f"[{DATA_GROUP}]\n{self.part} = {self.package}:manifest.toml\n",
            f"{info}/licenses/LICENSE": license_text(entry),
        }
        return {path: text.encode() for path, text in texts.items()}

    def _metadata(self, entry: Weights, model: Model, card: str) -> str:
        of = f", {entry.num_classes} classes of {entry.classes}" if entry.classes and entry.num_classes else ""
        versions = {DISTRIBUTION: machine.version_of(DISTRIBUTION), entry.distribution: entry.distribution_version}
        needed = [names.requirement(name, version) for name, version in versions.items()]
        needed += [library.install for library in model.requires]
        fields = [
            ("Metadata-Version", "2.4"),
            ("Name", self.distribution),
            ("Version", self.version),
            ("Summary", f"The weights {entry.name} for Zoo{of}"[:500]),
            ("Keywords", "zoo-vision,pretrained weights,safetensors"),
            ("License-Expression", expression(entry.license.weights)),
            ("License-File", "LICENSE"),
            *(("Requires-Dist", text) for text in dict.fromkeys(needed) if text),
            ("Description-Content-Type", "text/markdown; charset=UTF-8"),
        ]
        head = "".join(f"{key}: {' '.join(value.split())}\n" for key, value in fields)
        return f"{head}\n{card}"

    def _packed(self, files: dict[str, bytes]) -> bytes:
        """Returns the archive: the same bytes for the same files, whenever and wherever it is built."""
        record = f"{self.package}-{self.version}.dist-info/RECORD"
        rows = []
        for path, content in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            rows.append(f"{path},sha256={digest},{len(content)}\n")
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for path, content in {**files, record: f"{''.join(rows)}{record},,\n".encode()}.items():
                member = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
                member.create_system, member.external_attr = 3, 0o100644 << 16
                archive.writestr(member, content)
        return stream.getvalue()


def at(text: str, name: str, version: str) -> Wheel:
    """Returns the wheel at ``wheel`` or ``wheel:DIR`` for the weights ``name``; raises :class:`SpecError` for a version
    that a package index does not take.
    """
    try:
        release = Version(version)
    except InvalidVersion:
        release = None
    if release is None or release.local:
        raise SpecError(f"{version!r} is not the version of a release.", hint="Versions look like 1.0 or 1.1.")
    folder = text.removeprefix(PREFIX).removeprefix(":") or "dist"
    return Wheel(names.as_part(name), str(release), Path(folder).expanduser())


def is_wheel(text: str) -> bool:
    """Returns whether ``text`` names this destination."""
    return text == PREFIX or text.startswith(f"{PREFIX}:")


def refuse_size(weights: Path) -> None:
    """Raises :class:`SpecError` if no package index would take the file."""
    if (size := weights.stat().st_size) > LIMIT:
        raise _too_large(size)


def _too_large(size: int) -> SpecError:
    return SpecError(
        f"These weights have {size:,} bytes; a package index takes files of up to {LIMIT:,}.",
        hint="--dtype float16 halves them; --to hf://OWNER/REPO and directories have no limit.",
    )


def expression(license: str) -> str:
    """Returns the licence as an SPDX expression; one that SPDX does not list is ``LicenseRef-`` and its name."""
    try:
        return str(canonicalize_license_expression(license))
    except InvalidLicenseExpression:
        return f"LicenseRef-{re.sub('[^A-Za-z0-9.]+', '-', license).strip('-') or 'other'}"


def license_text(entry: Weights) -> str:
    """Returns what is licensed how, in words."""
    lines = [f"{entry.name}, for Zoo.\n"]
    for what, license in (
        ("The weights", entry.license.weights),
        ("The images that they were trained on, not in this distribution", entry.license.data),
        ("The code of the network, not in this distribution", entry.license.code),
    ):
        known = expression(license)
        is_listed = re.fullmatch(r"[A-Za-z0-9.+-]+", known) and not known.startswith("LicenseRef-")
        link = f" (https://spdx.org/licenses/{known}.html)" if is_listed and license != "unknown" else ""
        lines.append(f"{what}: {' '.join(license.split())}{link}\n")
    return "".join(lines)
