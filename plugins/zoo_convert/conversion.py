"""Converts checkpoints of other frameworks to safetensors: strictly, with a report.

The only place that reads pickles, with torch's ``weights_only`` unpickler, and keeps nothing but
the tensors. Keras's and ONNX's files are read by their own libraries; neither runs code from the file. An ONNX file's
graph is run, by onnxruntime, to compare its outputs with those of the converted network.
"""

import re
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec
from torch import Tensor

from zoo import hub, loading, manifest, names, registry
from zoo.errors import IntegrityError, SpecError, TensorMismatchError, UnknownNameError, WeightsError
from zoo.evaluation import counting
from zoo.loading import safetensors_file
from zoo.manifest import Weights, writing
from zoo.registry import Found, extensions, hooks
from zoo.registry.hooks import blaming
from zoo.spec import KeyMap
from zoo.system import sandbox, storage
from zoo.trust import first_use, lock
from zoo.verify import probe
from zoo_convert import fitting, formats, onnx
from zoo_convert.arguments import open_arguments
from zoo_convert.choice import ARGUMENTS, Choice, Reading, Score, Stated, choose, require_score
from zoo_convert.fitting import Fitted
from zoo_convert.onnx import Proof, Prover

if TYPE_CHECKING:
    from zoo.evaluation import Report
    from zoo.hub.download import Progress


class Source(NamedTuple):
    """A local file with its name and address."""

    path: Path
    name: str
    address: str = ""


class ConversionReport(msgspec.Struct, frozen=True):
    """The changes to every tensor, and the manifest entry (TOML) of the file that was written.

    ``readings`` are the key maps that were tried, ``reason`` is why ``key_map`` was used; ``assumed`` lists facts that
    neither the file nor the caller stated, ``unwrapped`` the part of the file with the tensors, ``check`` the requested
    score, ``proof`` the comparison with an ONNX file's own outputs.
    """

    model: str
    weights: str
    file: str
    sha256: str
    size: int
    key_map: str
    reason: str
    readings: list[Reading]
    assumed: list[str]
    unwrapped: list[str]
    renamed: list[tuple[str, str]]
    transposed: list[str]
    reshaped: list[str]
    folded: list[str]
    added: list[str]
    dropped: list[str]
    entry: str
    check: "Report | None" = None
    proof: Proof | None = None


_HEADER = "# Written by zoo convert. As a hub, this folder adds these weights.\n"


def convert(
    source: str | Path,
    name: str,
    out: Path,
    *,
    key_map: str | None = None,
    stated: Stated | None = None,
    state: str = "",
    sha256: str = "",
    score: Score | None = None,
    at_least: float | None = None,
    overwrite: bool = False,
    progress: "Progress | None" = None,
) -> ConversionReport:
    """Writes the tensors of ``source`` as weights of the model ``name`` to ``out``.

    ``manifest.toml`` beside ``out`` gets their entry, so that the folder is a hub:
    ``ZOO_HUB=FOLDER zoo evaluate arch.tag``.

    Args:
        source: A file or its ``https://`` address: torch's ``.pth``, ``.pt``, ``.th``, safetensors, Keras's
            ``.h5``, ``.onnx``.
        name: The model. A tag in it names the weights; without one, the name of ``out`` does
            (``arch.tag.safetensors``).
        out: The safetensors file to write.
        key_map: The family's key map to use. By default all are tried, a file that describes itself excepted;
            every tensor must fit.
        stated: What is known of the checkpoint and the file does not say.
        state: The part of torch's checkpoint that holds the weights, of several.
        sha256: Of the file, whole or its first digits; needed at an address whose name does not end in it.
        score: Scores a network; of several readings that fit, the one that scores best is taken.
        at_least: The top-1, in per cent, below which a score is refused. By default halfway from chance to 100.
        overwrite: Replace ``out``, and the entry of another file under the same name.
        progress: Called with (bytes done, bytes in all) of a download.

    Raises:
        TensorMismatchError: No key map accounts for every tensor, and matched in order they do not fit, either, or
            nothing can tell whether they are right; or an ONNX file computes something else.
        MissingExtraError: The tensors of an ONNX file must be matched in order, and onnxruntime is not installed.
        WeightsError: Key maps that compute different functions fit, the score is too low, or something would be
            overwritten.
        FileFormatError: ``source`` is damaged, hostile or of no known format.
    """
    stated = stated or Stated()
    parsed = names.parse(name)
    match = registry.current().find(str(parsed._replace(tag="")))
    tag = parsed.tag or _tag_of(out, match.model.name) or names.as_part(out.stem)
    fitting.maps_of(match, key_map)  # an unknown one is an error before a long download
    _check_place(out, f"{match.model.name}.{tag}", overwrite)
    if isinstance(source, str) and is_address(source):
        place = download(source, sha256=sha256, progress=progress)
    else:
        place = Source(Path(source), Path(source).name)
    checkpoint, choice = read(place, match, stated, key_map=key_map, state=state, score=score)
    require_score(choice, place.name, at_least)
    fitted = choice.fitted
    origin = _origin(place, choice, stated, sha256)
    about = {"origin": origin, **checkpoint.about, **describe(choice)}
    if not match.row.is_builtin:  # whose files must not change with the version of Zoo
        about |= registry.current().distribution_of(match.model)
    hooks.args_of_file(match.model, fitted.args, out.name)  # or nobody could load what is written
    digest = safetensors_file.write(fitted.tensors, out, about)
    if (proof := fitted.proof) is not None:  # not in the file, whose bytes must not depend on the machine
        about = {**about, "origin": f"{origin}; {proof}"}
    entry = _enter(out, match, tag, digest, about)
    is_proven = proof is not None and not proof.problem
    return ConversionReport(
        model=match.model.name,
        weights=entry.name,
        file=str(out),
        sha256=digest,
        size=out.stat().st_size,
        key_map=fitted.key_map.name,
        reason=choice.reason,
        readings=choice.readings,
        assumed=[line for line in choice.assumed if not (is_proven and line.startswith(ARGUMENTS))],
        unwrapped=checkpoint.unwrapped,
        renamed=fitted.renamed,
        transposed=fitted.transposed,
        reshaped=fitted.reshaped,
        folded=fitted.folded,
        added=fitted.added,
        dropped=[*checkpoint.dropped, *fitted.dropped],
        entry=manifest.render(entry),
        check=choice.score,
        proof=proof,
    )


def read(
    place: Source,
    match: Found,
    stated: Stated,
    *,
    key_map: str | None = None,
    state: str = "",
    score: Score | None = None,
) -> tuple[formats.Checkpoint, Choice]:
    """Reads the checkpoint at ``place``, and how its tensors become those of ``match``; raises as :func:`convert`."""
    maps = fitting.maps_of(match, key_map)
    tool = extensions.format_of(place.name, "converters")
    suffix = Path(place.name).suffix
    checkpoint = (
        formats.read(place.path, suffix, state=state)
        if tool is None or tool.is_builtin
        else _read_by(tool.address, place, match)
    )
    loading.require_finite(checkpoint.tensors, place.name)
    about = checkpoint.about
    if key_map is None and about.get("model"):
        maps = [fitting.AS_IS]
    build = registry.hook(match.model.build, match.model.requires)
    hooks.check_args(match.model, build, stated.args.keys() - hooks.settings_in(build, stated.args).keys())
    args = {**hooks.args_of_file(match.model, about.get("args", {}), place.name), **stated.args}
    _drop(checkpoint, stated.drop, place.name)
    tried = _read(checkpoint, maps, match, args, place.name, stated.trunk)
    _find_features(tried, checkpoint)
    prove = None
    if checkpoint.graph is not None:
        prove = Prover(place.path, checkpoint.graph, is_scored=score is not None).prove
        if (size := onnx.input_size(checkpoint.graph)) is not None:
            stated = msgspec.structs.replace(stated, preprocess={"input_size": size, **stated.preprocess})
    try:
        choice = choose(tried, match, about, stated, place.name, score, prove, is_stated=key_map is not None)
    except TensorMismatchError as error:
        if about.get("model"):
            raise
        arranged: list[Fitted] = []
        try:
            changes = [] if key_map is not None else _changes(match, args, stated.trunk)
            arranged = fitting.read_in_order(checkpoint, maps, match, args, trunk=stated.trunk, changes=changes)
            _find_features(arranged, checkpoint)
            if prove is None and score is None:
                raise TensorMismatchError(
                    "They fit, which alone proves nothing.",
                    hint="--check DATA (score) accepts that order if the network then scores on DATA.",
                )
            every = [*tried, *arranged]
            choice = choose(every, match, about, stated, place.name, score, prove, is_stated=key_map is not None)
        except TensorMismatchError as problem:
            raise (_both(error, problem) if prove or arranged else error) from None
    loading.require_finite(choice.fitted.tensors, place.name)
    return checkpoint, choice


def convert_entry(file: Path, match: Found) -> tuple[dict[str, Tensor], Weights]:
    """Reads ``file`` as its entry ``match.weights`` says; the plugin's converter, which the cache calls.

    Returns the tensors, and the entry with what the file and its key map state. Raises as :func:`convert`.
    """
    entry = match.weights
    assert entry is not None  # that of the file
    stated = Stated(args=entry.args, trunk=entry.num_classes == 0)
    _, choice = read(Source(file, entry.file), match, stated, key_map=entry.key_map or None)
    return choice.fitted.tensors, msgspec.structs.replace(
        entry,
        key_map=choice.fitted.key_map.name,
        args=choice.fitted.args,
        preprocess=choice.info.preprocess,
        classes=choice.info.classes,
        num_classes=choice.num_classes,
    )


_LONGEST = 12
"""Lines of the problems by name, where those of the tensors in order follow."""


def _both(by_name: TensorMismatchError, in_order: TensorMismatchError) -> TensorMismatchError:
    lines = by_name.message.splitlines()
    more = [] if len(lines) <= _LONGEST else [f"  ... and {len(lines) - _LONGEST} more"]
    message = "\n".join([*lines[:_LONGEST], *more, f"Tensors in order by shape: {in_order.message}"])
    return TensorMismatchError(message, hint=by_name.hint or in_order.hint)


def describe(choice: Choice) -> dict[str, Any]:
    """Returns what a converted file says about its network."""
    return {
        "model": choice.info.model.name,
        "args": choice.fitted.args,
        "preprocess": msgspec.to_builtins(choice.info.preprocess),
        "classes": choice.info.classes,
        "num_classes": choice.num_classes,
        "in_chans": choice.in_chans,
    }


def _read_by(address: str, place: Source, match: Found) -> formats.Checkpoint:
    """Returns a checkpoint in a format of another plugin, whose converter names tensors as the network does."""
    if sandbox.layers() is not None:
        return _read_by_here(address, place, match)
    arguments = {"address": address, "name": place.name, "model": match.model.name}
    return formats.apart(f"{__name__}:write_by_here", place.path, arguments)


def write_by_here(*, file: str, folder: str, address: str, name: str, model: str) -> dict[str, Any]:
    """Writes what the converter at ``address`` makes of ``file``, for :func:`zoo_convert.formats.apart`."""
    match = registry.current().find(model)
    return formats.write(_read_by_here(address, Source(Path(file), name), match), Path(folder))


def _read_by_here(address: str, place: Source, match: Found) -> formats.Checkpoint:
    entry = Weights(place.name, arch=match.model.name, tag="converted", pinned=False)
    with blaming(address, place.name):
        tensors, entry = registry.hook(address, role=hooks.CONVERT)(place.path, match._replace(weights=entry))
    about = {"model": match.model.name, "args": dict(entry.args), "classes": entry.classes}
    preprocess = {"preprocess": msgspec.to_builtins(entry.preprocess)} if entry.preprocess else {}
    return formats.Checkpoint(dict(tensors), about | preprocess)


def _drop(checkpoint: formats.Checkpoint, patterns: Collection[str], source: str) -> None:
    """Leaves out the tensors whose names match; raises :class:`UnknownNameError` for a pattern that none does."""
    for pattern in patterns:
        names = [name for name in checkpoint.tensors if fnmatchcase(name, pattern)]
        if not names and not any(fnmatchcase(name, pattern) for name in checkpoint.dropped):
            error = UnknownNameError.of("tensor", pattern, checkpoint.tensors)
            shown = ", ".join([*checkpoint.tensors][:5])
            raise UnknownNameError(f"{source} has no tensor {pattern!r}.", hint=error.hint or f"It has {shown}, ...")
        for name in names:
            del checkpoint.tensors[name]
            checkpoint.dropped.append(name)


def _find_features(tried: list[Fitted], checkpoint: formats.Checkpoint) -> None:
    """Notes what may be the features in an ONNX file with a head that was left out."""
    for fitted in tried:
        if fitted.is_trunk and checkpoint.graph is not None:
            fitted.features = onnx.values_before(checkpoint.graph, {*fitted.dropped, *checkpoint.dropped})


def _read(
    checkpoint: formats.Checkpoint, maps: list[KeyMap], match: Found, args: Mapping[str, Any], source: str, trunk: bool
) -> list[Fitted]:
    """Returns the tensors under each of ``maps``, without prefixes that wrappers add to every key.

    If none fits, arguments that the tensors may show are tried, one at a time.
    """
    tensors = checkpoint.tensors
    prefix = formats.prefix_of(tensors)
    if prefix and fitting.read_by(fitting.AS_IS, tensors, match, args, source, trunk=trunk).problem is None:
        prefix = ""
    read_by = partial(fitting.read_by, state=tensors, match=match, args=args, source=source, prefix=prefix, trunk=trunk)
    tried = [read_by(known) for known in maps]
    if all(fitted.problem is not None for fitted in tried) and not checkpoint.about.get("model"):
        near = [fitted.key_map for fitted in tried if str(fitted.problem).count("\n") < len(tensors)]
        others = [read_by(known, changed=change) for change in _changes(match, args, trunk) for known in near]
        fits = [fitted for fitted in others if fitted.problem is None]
        nearest = sorted(others, key=lambda fitted: str(fitted.problem).count("\n"))[:1]
        tried += fits or [fitted for fitted in nearest if fitted.is_compared]
    return tried


def _changes(match: Found, args: Mapping[str, Any], trunk: bool) -> list[dict[str, Any]]:
    """Returns arguments to try, one at a time; for a trunk, also those that the model's name states."""
    arguments = open_arguments(match, args, named=trunk)
    return [{argument.name: value} for argument in arguments if argument.is_settable for value in argument.values]


def _check_place(out: Path, name: str, overwrite: bool) -> None:
    """Raises :class:`WeightsError` if the name is not a .safetensors file, or if a file would be lost."""
    if out.suffix != ".safetensors":
        raise WeightsError(f"{out}: the output must be a .safetensors file.", hint="Use -o NAME.safetensors.")
    if overwrite:
        return
    if out.exists():
        raise WeightsError(f"{out} already exists.", hint="--overwrite (overwrite=True) replaces the file.")
    listing = out.parent / "manifest.toml"
    for entry in manifest.read(listing) if listing.exists() else ():
        if entry.name == name and entry.path != out.name:
            raise WeightsError(
                f"{listing} already has {name} as {entry.path}, not {out.name}.",
                hint="Use another tag (MODEL.TAG), or --overwrite (overwrite=True) to replace the entry.",
            )


def _origin(place: Source, choice: Choice, stated: Stated, sha256: str) -> str:
    """Returns the origin of the file. A key map describes its format, not its author."""
    digest = storage.sha256_of(place.path)
    if sha256 and not digest.startswith(sha256.lower()):
        raise IntegrityError(f"{place.name} has sha256 {digest}, expected {sha256}.")
    key_map = choice.fitted.key_map
    at = f" at {place.address}" if place.address else ""
    form = f" (in the format of {key_map.origin})" if key_map.origin else ""
    text = f"converted from {place.name}{at} (sha256 {digest}), key map {key_map.name}{form}"
    whose = f"{stated.origin}; " if stated.origin else ""
    # Of an ONNX file, the proof follows, or why there is none: the bytes must not depend on what is installed.
    has_proof = choice.fitted.proof is not None
    lines = [line for line in choice.assumed if not (has_proof and line.startswith(ARGUMENTS))]
    assumed = [line.replace(" (no tensor shows them):", "") if ARGUMENTS in line else line.split()[0] for line in lines]
    return f"{whose}{text}" + (f"; assumed: {', '.join(assumed)}" if assumed else "")


def _tag_of(out: Path, arch: str) -> str:
    arch = arch.rpartition("/")[2]
    tag = out.name.removesuffix(".safetensors").removeprefix(f"{arch}.")
    return tag if out.name.startswith(f"{arch}.") and names.is_part(tag) else ""


def _enter(out: Path, match: Found, tag: str, sha256: str, about: Mapping[str, Any]) -> Weights:
    """Writes the entry of ``out`` into the manifest beside it, with a probe of the loaded network."""
    module, info = loading.build_from(out, match.model)
    entry = Weights(
        file=out.name,
        arch=match.model.name,
        tag=tag,
        sha256=sha256,
        size=out.stat().st_size,
        origin=str(about["origin"]),
        classes=info.classes,
        num_classes=about["num_classes"],
        **counting.differing(module, match.model, info.preprocess.input_size),
        preprocess=info.preprocess,
        args=about["args"],
        probe=probe.take(module, info.preprocess),
        **registry.current().distribution_of(match.model),
    )
    file = out.parent / "manifest.toml"
    with storage.alone(file):
        text = file.read_text(encoding="utf-8") if file.exists() else _HEADER
        storage.replace(file, writing.with_entry(text, entry, str(file)).encode())
    return entry


def is_address(text: str) -> bool:
    return re.match(r"https?://", text, re.IGNORECASE) is not None


def download(address: str, *, sha256: str = "", progress: "Progress | None" = None) -> Source:
    """Fetches the checkpoint at ``address``, through the cache; its sha256 is pinned on first use.

    torchvision's names end in the first digits of the file's sha256, ``resnet18-f37072fd.pth``; another
    needs ``sha256``, whole or its beginning. Raises :class:`SpecError` if neither says what to expect,
    :class:`IntegrityError` if the bytes differ.
    """
    parts = urlsplit(address)
    folder, _, name = unquote(parts.path).rpartition("/")
    digits = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    prefix = sha256.lower() or (digits[1] if digits else "")
    if not re.fullmatch("[0-9a-f]{8,64}", prefix):
        raise SpecError(
            f"The sha256 of {name or address!r} is unknown.",
            hint="Use --sha256 HEX (8 digits or more), or a name that contains it, such as resnet18-f37072fd.pth.",
        )
    entry = Weights(
        file=name,
        arch="checkpoint",
        tag=prefix,
        hub=f"{parts.scheme}://{parts.netloc}{folder}",
        sha256=prefix if len(prefix) == 64 else "",
        sha256_prefix="" if len(prefix) == 64 else prefix,
        pinned=len(prefix) == 64,
    )
    if parts.query:
        raise WeightsError(f"{name} has a query in its address: download it by other means, then convert the file.")
    pin = None if entry.sha256 else first_use.pins().get(entry.name)
    if pin and pin.source == hub.name_of(entry.hub):  # another address may have other bytes that begin alike
        entry = lock.pinned(entry, pin)
    if entry.sha256:
        path = hub.fetch(entry, source=entry.hub, progress=progress)
    else:
        received = hub.fetch_unpinned(entry, source=entry.hub, progress=progress)
        first_use.pin(entry.name, received)
        path = received.path
    public = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return Source(path, name, public)
