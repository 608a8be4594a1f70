"""Which model and which weights a name means in this project."""

from pathlib import Path

from zoo import registry
from zoo.errors import SpecError, UnknownNameError, UnpinnedError, WeightsError
from zoo.manifest import Weights
from zoo.registry import Found, listing
from zoo.trust import lock, policy, project


def model_named(name: str, weights: str | Path | None) -> Found:
    """What ``name`` stands for; if nobody knows it, the file ``weights`` may say which distribution does."""
    try:
        return registry.current().find(name)
    except UnknownNameError as error:
        if weights is None:
            raise
        from zoo.loading import safetensors_file

        try:
            about = safetensors_file.metadata(Path(weights))
        except WeightsError:
            raise error from None
        return registry.current().find(name, distribution=str(about.get("distribution", "")))


def with_tag(found: Found, pretrained: bool | str) -> Found:
    """``found`` with the weights whose tag ``pretrained`` is; as it is for True and False."""
    if isinstance(pretrained, bool):
        return found
    if not isinstance(pretrained, str):
        raise SpecError(f"pretrained={pretrained!r}: expected True, False or a tag of {found.model.name}'s weights.")
    if found.weights is not None and found.weights.tag != pretrained:
        raise WeightsError(
            f"{found.weights.name} and pretrained={pretrained!r} both name weights.", hint="Give one of them."
        )
    return registry.current().tagged(found, pretrained)


def weights_for(found: Found, *, allow_unpinned: bool = False) -> Weights:
    """The weights that a name means in this project: of its tag or by default, as its lock and policy have them.

    Raises :class:`zoo.LockError` where their bytes are not those that were locked,
    :class:`zoo.PolicyError` where nobody vouches for them whom the project accepts.
    """
    lock_file = project.find(lock.NAME, lock.VARIABLE)
    locked = lock.read(lock_file) if lock_file else None
    default = lock.default_of(locked, found) if locked and not found.weights else None
    entry = found.weights or default or default_weights(found, allow_unpinned=allow_unpinned)
    if project.find(policy.NAME, policy.VARIABLE):
        policy.check(found, entry)
    return lock.follow(locked, found, entry) if locked else entry


def default_weights(found: Found, *, allow_unpinned: bool = False) -> Weights:
    """The first pinned weights of a model; raises an error that lists what exists instead."""
    every = registry.current().weights_of(found.row, found.model)
    for weights in every:
        if weights.pinned or allow_unpinned:
            return weights
    arch = found.model.name
    if every:
        raise UnpinnedError(
            f"{arch} has no pinned weights: nobody knows the sha256 of {', '.join(w.name for w in every)}.",
            hint=f"zoo fetch {every[0].name} --allow-unpinned takes what the hub has, unverified. "
            f"After that, say {every[0].name} in place of {arch}.",
        )
    having = listing.list_models(pretrained=True, family=found.row.name)
    more = f" and {len(having) - 10} more: zoo list --pretrained --family {found.row.name}" if len(having) > 10 else ""
    raise WeightsError(f"{arch} has no weights.", hint=f"Its family has {', '.join(having[:10]) or 'none'}{more}.")
