"""``zoo attest``: measures weights as a witness and signs the result."""

import shlex
from pathlib import Path
from typing import Any

import click

from zoo.cli import options
from zoo.cli.output import echo, note, print_facts, print_json, show_progress, stdout_to_stderr


@click.command(epilog="Example: zoo attest resnet20.digits --data digits --key lab.pem --to ./hub")
@options.several(options.name, options.data, options.split)
@click.option("--key", type=options.FILE, required=True, help="Private key (PEM); ZOO_KEY_PASSWORD decrypts it.")
@click.option(
    "--to", metavar="HUB", help="Store it beside the weights there: a directory, s3://BUCKET, hf://OWNER/REPO."
)
@options.output("Add it to FILE.", required=False)
@options.several(options.batch_size(256), options.device, options.json)
@click.pass_context
def attest(
    context: click.Context,
    /,
    name: str,
    data: str | None,
    split: str,
    key: Path,
    to: str | None,
    output: Path | None,
    as_json: bool,
    **keywords: Any,
) -> None:
    """Measure weights as a witness and sign the result.

    The attestation is an in-toto statement: the sha256 of the weights, the fingerprint of the images, how many were
    classified correctly, command, versions and processor. Without --to and -o it is printed. zoo info shows the
    attestations of weights; zoo-policy.toml may demand some.
    """
    from zoo.evaluation.attesting import measure_as_witness
    from zoo.system import storage
    from zoo.trust import attestation, dsse
    from zoo_publish import attestations

    dsse.private_key(key)  # before minutes of measuring
    words = ["zoo", "evaluate", name, *(["--data", data] if data else []), *(["--split", split] * (split != "test"))]
    with stdout_to_stderr(), show_progress(f"evaluating {name}") as progress:
        measured, weights, _ = measure_as_witness(
            name, data, split, progress=progress, command=shlex.join(words), **keywords
        )
    line = attestation.sign(measured, weights, key)
    places = [attestations.add(line, weights, to)] if to else []
    if output:
        with storage.explained(output, len(line)):
            storage.append(output, line)
        places.append(str(output))
    if as_json:
        import msgspec

        return print_json({"measured": msgspec.to_builtins(measured), "attestation": line.decode(), "files": places})
    if not places:
        return echo(line.decode().rstrip())
    claim = weights.scores.get(measured.where)
    low, high = measured.interval
    agreed = claim is not None and attestation.confirms(measured, claim)
    verdict = "" if claim is None else "confirms the score" if agreed else "disagrees with the score"
    echo(measured.weights)
    print_facts([("measured", f"{measured}; 95% interval {low:.3f} to {high:.3f}"), ("manifest", verdict)])
    for place in places:
        note(f"The attestation is in {place}.")
    return None
