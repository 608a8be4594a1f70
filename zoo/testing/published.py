"""What a manifest promises of its weights."""

import torch

import zoo
from zoo import counting, probe
from zoo.catalogue import params_of
from zoo.manifest import Weights
from zoo.testing.subject import BATCH, Subject


def weights(subject: Subject, entry: Weights) -> None:
    """The entry's arguments build a network of the size that is stated, which takes the input it declares.

    Embedded weights are loaded as well, and must pass their probe; others would need a network.
    """
    model = subject.model
    preprocess = entry.preprocess or model.preprocess
    classes = model.num_classes if entry.num_classes is None else entry.num_classes
    device = subject.shape_device
    with subject.on(device):
        module = subject.build(num_classes=classes, in_chans=preprocess.input_size[0], **entry.args)
        logits = module(subject.images(device, size=preprocess.input_size))
    counted, stated = counting.params(module), params_of(model, entry)
    assert counted == stated, f"the list says {stated:_} params, the network has {counted:_}: state params = {counted}"
    assert logits.shape == (BATCH, classes), f"the output is {tuple(logits.shape)}, expected {(BATCH, classes)}"
    if not (entry.hub.startswith("embedded:") and entry.pinned):
        return
    trained = zoo.create(f"{subject.plugin}/{entry.name}").eval()
    with torch.no_grad():
        logits = trained(subject.images(size=preprocess.input_size))
    assert logits.shape == (BATCH, classes), f"trained for {classes} classes, it gives {tuple(logits.shape)}"
    assert logits.isfinite().all(), "the trained network's logits are not finite"
    if entry.probe is not None:
        probe.check(trained, preprocess, entry.probe)
