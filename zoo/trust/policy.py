"""``zoo-policy.toml``: the signatures that a project accepts, by names and hubs.

Under a policy, weights are used only where its first rule that fits them accepts them; what no rule
fits is refused. It is about who says what a name means, the manifest; that the bytes are those which
the manifest names is checked in any case.
"""

import os
import re
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from glob import escape
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from zoo import manifest, registry
from zoo.errors import HubError, PolicyError, SignatureError
from zoo.manifest import Text, Weights
from zoo.names import HUB
from zoo.registry import Found, resource
from zoo.system import storage, switch, toml
from zoo.trust import releases, signing
from zoo.trust.lock import full_name
from zoo.trust.signing import Publisher

NAME = "zoo-policy.toml"
VARIABLE = "ZOO_POLICY"
STRICT = "ZOO_STRICT"
PLUGIN = "plugin:"
_NO_PATHS = (PLUGIN, HUB)

Pattern = Annotated[Text, msgspec.Meta(min_length=1, max_length=1000)]
Patterns = Annotated[tuple[Pattern, ...], msgspec.Meta(min_length=1)]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which weights are accepted, by name and hub; the first rule that matches decides.

    Args:
        names: Shell patterns of names.
        hubs: Shell patterns of hubs: a directory of ``ZOO_HUB`` with a manifest, relative to the policy's folder,
            ``plugin:<distribution>`` for the manifests of an installed plugin, or ``hf-hub:OWNER/NAME`` for what a
            repository says about itself.
        publishers: One of these must have signed.
        unsigned: Accept without a signature.
    """

    names: Patterns = ("*",)
    hubs: Patterns = ("*",)
    publishers: tuple[str, ...] = ()
    unsigned: bool = False

    def __post_init__(self) -> None:
        if self.unsigned and self.publishers:
            raise ValueError("a rule has either unsigned = true or publishers, not both")


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The signatures that a project accepts.

    Args:
        version: Of the format, 1.
        publishers: By the names that rules use.
        rules: In order.
        expires: The last day of the policy; after it, nothing is accepted.
        unpinned: Whether weights without a sha256 are pinned on first use or rejected.
    """

    version: int
    publishers: dict[str, Publisher] = {}
    rules: tuple[Rule, ...] = ()
    expires: date | None = None
    unpinned: Literal["first-use", "refuse"] = "first-use"

    def __post_init__(self) -> None:
        if self.version != 1:
            raise ValueError(f"version {self.version} is not 1: it needs another version of Zoo")
        for rule in self.rules:
            for name in rule.publishers:
                if name not in self.publishers:
                    raise ValueError(f"a rule names publisher {name!r}, but there is no [publishers.{name}]")


def read(file: Path) -> Policy:
    """Reads the policy in ``file``; raises :class:`PolicyError`."""
    return toml.read(file, Policy, PolicyError, f"See docs/security.md for an example; {VARIABLE} sets another path.")


def check(match: Found, weights: Weights) -> str:
    """Returns why the project's policy accepts ``weights`` of ``match``; empty if there is no policy.

    In a repository within another project, the policies of both must accept them. Raises :class:`PolicyError` with the
    reason if one does not.
    """
    files = storage.project_files(NAME, VARIABLE)
    return "; ".join(dict.fromkeys(_accepted(file, match, weights) for file in files))


def _accepted(file: Path, match: Found, weights: Weights) -> str:
    policy = read(file)
    name = full_name(match, weights.tag)
    if policy.expires and datetime.now(UTC).date() > policy.expires:
        raise _rejected(name, file, f"the policy expired on {policy.expires}", "Ask its maintainer for a new one.")
    place = hub_of(match, weights)
    rule = _rule_for(policy, name, place, file.parent)
    if rule is None:
        raise _rejected(name, file, f"no rule matches {name} from {place}", "Add a rule with its publishers.")
    if not (rule.unsigned or rule.publishers):
        raise _rejected(name, file, f"its rule accepts no publisher for {name} from {place}")
    if rule.publishers and not weights.determines_bytes:
        raise _rejected(
            name, file, "it is not pinned, so a signature does not cover its bytes", f"zoo manifest pin {name}"
        )
    return f"accepted unsigned, from {place}" if rule.unsigned else _signed_by(policy, rule, match, weights, file)


def refuses_first_use() -> str:
    """Returns why weights may not be pinned on first use; empty if they may."""
    if switch.is_on(STRICT):
        return f"{STRICT}={os.environ[STRICT]} refuses first use"
    refusing = (file for file in storage.project_files(NAME, VARIABLE) if read(file).unpinned == "refuse")
    return next((f'{file} has unpinned = "refuse"' for file in refusing), "")


def hub_of(match: Found, weights: Weights) -> str:
    """Returns the origin of the weights' entry: ``plugin:<distribution>``, ``hf-hub:OWNER/NAME``, or a directory."""
    if match.description:
        return f"{HUB}{weights.repo}"
    if match.bringer is not None:
        return f"{PLUGIN}{match.bringer.distribution}"
    if weights in match.row.weights.get(match.model.name, ()):
        return f"{PLUGIN}{match.row.distribution}"
    return registry.current().folder_of(weights)  # whatever hub the manifest there names


def manifest_of(match: Found, weights: Weights) -> Path | None:
    """Returns the manifest that ``weights`` were read from, None if they come from a plugin's code or a repository."""
    if match.description:
        return None
    if not hub_of(match, weights).startswith(PLUGIN):
        return Path(hub_of(match, weights)).expanduser() / "manifest.toml"
    plugin = match.source.bare
    files = [resource(text) for text in plugin.weights] if plugin is not None else []
    name = (weights.arch.rpartition("/")[2], weights.tag) if match.bringer else (weights.arch, weights.tag)
    for file in files:
        for entry in manifest.read(file):
            if (entry.arch.rpartition("/")[2] if match.bringer else entry.arch, entry.tag) == name:
                return file
    return None


def _rule_for(policy: Policy, name: str, hub: str, folder: Path) -> Rule | None:
    place = hub if hub.startswith(_NO_PATHS) else str(Path(hub).expanduser().resolve())

    def is_at(pattern: str) -> bool:
        is_path = pattern != "*" and not pattern.startswith(_NO_PATHS)
        return fnmatchcase(place, _absolute(pattern, folder) if is_path else pattern)

    for rule in policy.rules:
        if any(fnmatchcase(name, pattern) for pattern in rule.names) and any(map(is_at, rule.hubs)):
            return rule
    return None


def _absolute(pattern: str, folder: Path) -> str:
    """Returns ``pattern`` as a pattern of absolute paths; special characters in ``folder`` itself are escaped."""
    parts = Path(pattern).parts
    literal = [*takewhile(lambda part: not re.search(r"[*?\[]", part), parts)]
    try:
        base = (folder / Path(*literal).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise PolicyError(f"{folder / NAME}: hubs has {pattern!r}, which is not a path: {error}") from None
    return str(Path(escape(str(base)), *parts[len(literal) :]))


def _signed_by(policy: Policy, rule: Rule, match: Found, weights: Weights, file: Path) -> str:
    """Returns the publisher who signed the manifest of ``weights``."""
    name, wanted = full_name(match, weights.tag), " or ".join(rule.publishers)
    source = manifest_of(match, weights)
    if source is None:
        raise _rejected(name, file, f"it is in no manifest that {wanted} could have signed")
    signature = signing.signature_of(source)
    if not signature.exists():
        raise _rejected(
            name,
            file,
            f"{source} is not signed, expected a signature by {wanted}",
            f"zoo manifest sign {source} --key FILE",
        )
    reasons = []
    try:
        content, mark = signing.read(source), signing.read(signature)
    except SignatureError as error:
        raise _rejected(name, file, error.message) from None
    for publisher in rule.publishers:
        try:
            signing.verify(content, mark, policy.publishers[publisher].beside(file.parent), str(source))
        except (SignatureError, HubError) as error:
            reasons.append(f"{publisher}: {error.message}")
            continue
        text = content.decode()
        if reason := releases.refusal(policy.publishers[publisher].beside(file.parent), text, str(source)):
            raise _rejected(name, file, reason, "Ask the publisher for the present manifest.")
        signed = manifest.parse(text, str(source))
        if not any(_as_read(one, weights, match) == weights for one in signed):
            raise _rejected(name, file, f"{source} has changed since it was read", "Try again.")
        return f"signed by {publisher}"
    raise _rejected(name, file, "\n  ".join(["it is not signed by any accepted publisher:", *reasons]))


def _as_read(signed: Weights, weights: Weights, match: Found) -> Weights:
    """Returns an entry as ``weights`` would be if they were read from it.

    The hub of a directory's entry is that directory if it has the file, whatever its manifest states; what a plugin
    brings for a model of another one has a full name, and a place within its package.
    """
    changes = {"hub": weights.hub}
    if match.bringer is not None and signed.arch.rpartition("/")[2] == weights.arch.rpartition("/")[2]:
        changes["arch"] = weights.arch
        if weights.key_map == f"{match.bringer.name}/{signed.key_map}":
            changes["key_map"] = weights.key_map
    if signed.is_relative:
        changes["repo"] = weights.repo
    return msgspec.structs.replace(signed, **changes)


def _rejected(name: str, file: Path, reason: str, hint: str = "") -> PolicyError:
    return PolicyError(f"{name} is rejected by {file}: {reason}.", hint=hint)
