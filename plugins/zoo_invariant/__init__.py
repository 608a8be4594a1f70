"""Invariance by construction: networks that turn their filters, move them, move the image, or do not learn them.

Jaderberg et al. 2015, "Spatial Transformer Networks"; Zhou et al. 2017, "Oriented Response Networks"; Dai et
al. 2017, "Deformable Convolutional Networks"; Bruna, Mallat 2013, "Invariant Scattering Convolution
Networks", and Oyallon et al. 2017, "Scaling the Scattering Transform". With them, MNIST turned and put
elsewhere (``zoo_invariant.data``), and plain networks to compare.

Faithful: ORN's networks of the authors' demonstration on MNIST and the plain network beside them, layer by
layer; rotation of filters by their cells, orientation spin, ORAlign, ORPooling. The transformer's affine,
projective and thin plate spline maps, its beginning as the identity, the paper's pixel convention
(``align_corners``); ``stn_tutorial_mnist`` is the network of PyTorch's tutorial. Deformable convolution of
the first version, with offsets of zero to begin with. Scattering with kymatio's filters, padding and order;
``scatter_linear`` and ``scatter_cnn`` are the classifiers of kymatio's examples, ``scatter_wrn12_8`` has
the layout of the authors' ``resnet12_8_scat``.

Deviates: ORN's image enters as copies in all orientations, which the counts of parameters that are quoted
for it need; with ``lift="one"``, as in the authors' PyTorch code, the first filters have one plane. Their
images are 28x28, resized to 32x32; no layer pads but the third, and a 13x13 map does not halve, so turning
such an image by 90 degrees changes the last features a little (images of 30x30, ``input_size = 30``, halve
exactly). He's initialisation is not confirmed for ORN. ``stn_cnn_mnist`` has the paper's form with widths
of our own, ``cnn_mnist_rts`` is its classifier alone. ``deform_cnn`` is not in the paper,
``scatter_cnn_small`` not among kymatio's examples: both are for slow machines.
"""

from collections.abc import Mapping
from typing import Any

from zoo.spec import CIFAR10, MNIST, Argument, DatasetSpec, Model, Paper, Plugin, Preprocess, Requirement, unscaled

JADERBERG_2015 = Paper(
    title="Spatial Transformer Networks",
    authors="Max Jaderberg, Karen Simonyan, Andrew Zisserman, Koray Kavukcuoglu",
    year=2015,
    url="https://arxiv.org/abs/1506.02025",
)
ZHOU_2017 = Paper(
    title="Oriented Response Networks",
    authors="Yanzhao Zhou, Qixiang Ye, Qiang Qiu, Jianbin Jiao",
    year=2017,
    url="https://arxiv.org/abs/1701.01833",
)
DAI_2017 = Paper(
    title="Deformable Convolutional Networks",
    authors="Jifeng Dai, Haozhi Qi, Yuwen Xiong, Yi Li, Guodong Zhang, Han Hu, Yichen Wei",
    year=2017,
    url="https://arxiv.org/abs/1703.06211",
)
BRUNA_2013 = Paper(
    title="Invariant Scattering Convolution Networks",
    authors="Joan Bruna, Stéphane Mallat",
    year=2013,
    url="https://arxiv.org/abs/1203.1513",
)
OYALLON_2017 = Paper(
    title="Scaling the Scattering Transform: Deep Hybrid Networks",
    authors="Edouard Oyallon, Eugene Belilovsky, Sergey Zagoruyko",
    year=2017,
    url="https://arxiv.org/abs/1703.08961",
)
DIGIT_32 = Preprocess(input_size=(1, 32, 32), crop_pct=1.0, mean=MNIST.mean, std=MNIST.std)
DIGIT_42 = unscaled(1, 42)
"""Black is 0, as what a transformer sees outside the image."""

KYMATIO = (Requirement("kymatio", "zoo-vision[invariant]"),)


def _row(name: str, build: str, args: Mapping[str, Any], **fields: Any) -> Model:
    fields = {"num_classes": 10, "head": ("head.fc",), **fields}
    return Model(name, build=f"zoo_invariant.{build}", args=args, **fields)


def _digits(name: str, build: str, args: Mapping[str, Any], *, stages: tuple[str, ...], **fields: Any) -> Model:
    """Returns a network for digits; ``stages`` are parts of its features."""
    places = tuple(f"features.{stage}" for stage in stages)
    return _row(name, build, args, stages=places, **{"preprocess": DIGIT_32, "stem": ("features.conv1",), **fields})


def _orn(orientations: int, encoding: str, *, params: int, macs: int) -> Model:
    return _digits(
        f"orn{orientations}_{encoding}",
        "oriented:orn",
        {"orientations": orientations, "encoding": encoding},
        stages=(*_POOLS, "encode"),
        paper=ZHOU_2017,
        params=params,
        macs=macs,
        note=f"filters in {orientations} orientations, {'ORAlign' if encoding == 'align' else 'ORPooling'}",
    )


def _stn(name: str, design: str, warp: str, preprocess: Preprocess, *, params: int, macs: int, note: str) -> Model:
    stem = () if warp == "none" else ("transformer.localisation.conv1",)
    return _digits(
        name,
        "transformer:stn_cnn",
        {"design": design, "warp": warp},
        stages=("act2",),
        preprocess=preprocess,
        paper=JADERBERG_2015,
        params=params,
        macs=macs,
        note=note,
        stem=(*stem, "features.conv1"),
        train="zoo_invariant.training:train",
    )


def _scattering(name: str, build: str, args: Mapping[str, Any], *, note: str, **fields: Any) -> Model:
    fields = {"paper": BRUNA_2013, "preprocess": CIFAR10, "requires": KYMATIO, **fields}
    return _row(name, f"hybrid:{build}", args, note=f"two orders of scattering, {note}", **fields)


_POOLS = ("pool1", "pool2", "pool3")
_PLACED = "affine transformer before a network of two convolutions, for 42x42 images"
_ALONE = "the classifier of stn_cnn_mnist alone"
_TUTORIAL = "the network of PyTorch's tutorial"

plugin = Plugin(
    name="invariant",
    api=2,
    models=(
        _digits(
            "mnist_cnn",
            "oriented:mnist_cnn",
            {},
            stages=(*_POOLS, "act4"),
            paper=ZHOU_2017,
            params=3_087_754,
            macs=39_214_400,
            note="the plain network that ORN is compared with",
        ),
        _orn(4, "pool", params=245_354, macs=10_863_360),
        _orn(4, "align", params=491_114, macs=11_109_120),
        _orn(8, "pool", params=397_514, macs=43_176_960),
        _orn(8, "align", params=970_954, macs=43_750_400),
        _stn("stn_cnn_mnist", "rts", "affine", DIGIT_42, params=290_744, macs=12_266_728, note=_PLACED),
        _stn("cnn_mnist_rts", "rts", "none", DIGIT_42, params=260_458, macs=9_275_008, note=_ALONE),
        _stn("stn_tutorial_mnist", "tutorial", "affine", MNIST, params=27_360, macs=771_300, note=_TUTORIAL),
        _digits(
            "deform_cnn",
            "deformable:deform_cnn",
            {"deformable": 2},
            stages=("act1", "act2", "act3", "act4"),
            preprocess=MNIST,
            paper=DAI_2017,
            params=76_638,
            note="the last two of four convolutions deformable",
        ),
        _scattering(
            "scatter_linear",
            "scatter_linear",
            {},
            stem=("features.norm", "head"),
            stages=("features.norm",),
            params=156_016,
            note="one linear layer",
        ),
        _scattering(
            "scatter_cnn",
            "scatter_cnn",
            {},
            stem=("features.norm", "features.block1"),
            stages=("features.block3", "features.block8"),
            params=21_848_048,
            note="eight convolutions",
        ),
        _scattering(
            "scatter_cnn_small",
            "scatter_cnn",
            {"widths": ((128, 128), (256, 256))},
            stem=("features.norm", "features.block1"),
            stages=("features.block2", "features.block4"),
            params=1_325_168,
            note="four convolutions",
        ),
        _scattering(
            "scatter_wrn12_8",
            "scatter_wrn",
            {"widen": 8},
            stem=("features.stem",),
            stages=("features.stage1", "features.act_last"),
            paper=OYALLON_2017,
            params=10_777_226,
            note="a wide residual network of two stages",
        ),
    ),
    weights=("weights_manifest:invariant.toml",),
    recipes="zoo_invariant:recipes.toml",
    datasets=(
        DatasetSpec(
            "mnist_rot",
            load="zoo_invariant.data:load_rotated",
            source="MNIST, each digit turned by an angle uniform in [0, 360) degrees",
            images=60_000,
        ),
        DatasetSpec(
            "mnist_r",
            load="zoo_invariant.data:load_half_rotated",
            source="MNIST, each digit turned by an angle uniform in [-90, 90) degrees",
            images=60_000,
        ),
        DatasetSpec(
            "mnist_rts",
            load="zoo_invariant.data:load_placed",
            source="MNIST, each digit turned by -45 to 45 degrees, magnified by 0.7 to 1.2, somewhere in 42x42 pixels",
            images=60_000,
        ),
    ),
    file_args={
        "warp": Argument(("affine", "projective", "tps", "none")),
        "localisation_lr": Argument(least=0.0, most=10.0),
        "drop_rate": Argument((None,), least=0.0, most=1.0),
        "width": Argument(least=1, most=512),
        "deformable": Argument(least=0, most=4),
        "orientations": Argument(least=1, most=16),
        "encoding": Argument(("align", "pool")),
        "lift": Argument(("copies", "one")),
        "J": Argument(least=1, most=4),
        "side": Argument(least=8, most=256),
        "widen": Argument(least=1, most=16),
        "blocks": Argument(least=1, most=8),
    },
)
