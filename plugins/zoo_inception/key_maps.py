"""Key maps: the checkpoints of other lineages as this family's. Free of torch."""

from zoo.spec import KeyMap

TORCHVISION_GOOGLENET = KeyMap(
    "torchvision_googlenet",
    drop=(r"^aux[12]\.",),
    classes="imagenet-1k",
    origin="pytorch/vision, googlenet_tv; its files hold auxiliary classifiers, which were not trained",
)
CADENE = KeyMap(
    "cadene",
    rename=(
        (r"^conv1_7x7_s2", "conv1"),
        (r"^conv2_3x3_reduce", "conv2"),
        (r"^conv2_3x3", "conv3"),
        (r"^inception_(\d\w)_", r"inception\1."),
        (r"\.1x1", ".branch1"),
        (r"\.double_3x3_reduce", ".branch3.0"),
        (r"\.double_3x3_(\d)", r".branch3.\1"),
        (r"\.3x3_reduce", ".branch2.0"),
        (r"\.3x3", ".branch2.1"),
        (r"\.pool_proj", ".branch4.1"),
        (r"(?<!_bn)(?<!^last_linear)\.(weight|bias)$", r".conv.\1"),
        (r"_bn\.", ".bn."),
        (r"^last_linear\.", "fc."),
    ),
    shows_args=True,
    classes="imagenet-1k",
    origin="Cadene/pretrained-models.pytorch, bn_inception: Caffe's weights, of BGR images in [0, 255]",
)

TORCHVISION_V3 = KeyMap(
    "torchvision_v3",
    drop=(r"^AuxLogits\.",),
    preprocess={"crop_pct": 0.874, "interpolation": "bilinear"},  # 342 and 299
    classes="imagenet-1k",
    origin="pytorch/vision; its files hold the auxiliary classifier too",
)

_DOUBLE_3X3 = tuple(f"branch3x3dbl_{n}" for n in (1, 2, 3))
_C = (
    "branch1x1",
    *(f"branch7x7_{n}" for n in (1, 2, 3)),
    *(f"branch7x7dbl_{n}" for n in (1, 2, 3, 4, 5)),
    "branch_pool",
)
_E = (
    *("branch1x1", "branch3x3_1", "branch3x3_2a", "branch3x3_2b"),
    *("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3a", "branch3x3dbl_3b", "branch_pool"),
)
_UNITS_V3 = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
    *(
        f"Mixed_5{m}.{u}"
        for m in "bcd"
        for u in ("branch1x1", "branch5x5_1", "branch5x5_2", *_DOUBLE_3X3, "branch_pool")
    ),
    *(f"Mixed_6a.{u}" for u in ("branch3x3", *_DOUBLE_3X3)),
    *(f"Mixed_6{m}.{u}" for m in "bcde" for u in _C),
    *(f"Mixed_7a.{u}" for u in ("branch3x3_1", "branch3x3_2", *(f"branch7x7x3_{n}" for n in (1, 2, 3, 4)))),
    *(f"Mixed_7{m}.{u}" for m in "bc" for u in _E),
)


def _keras_v3(name: str, first: int) -> KeyMap:
    """Keras numbers layers of a kind in the order in which a process made them: the network's from ``first`` on."""
    layers = (f"_{n}" if n else "" for n in range(first, first + len(_UNITS_V3)))
    return KeyMap(
        name,
        rename=(
            *((rf"^(?:conv2d|batch_normalization){n}\.", f"{u}.") for n, u in zip(layers, _UNITS_V3, strict=True)),
            (r"^predictions\.kernel$", "fc.weight"),
            (r"^predictions\.", "fc."),
            (r"\.kernel$", ".conv.weight"),
            (r"\.beta$", ".bn.bias"),
            (r"\.moving_mean$", ".bn.running_mean"),
            (r"\.moving_variance$", ".bn.running_var"),
        ),
        transpose=((r"\.conv\.weight$", (), (3, 2, 0, 1)), (r"^fc\.weight$", (), (1, 0))),
        ones=(r"\.bn\.weight$",),
        args={"count_include_pad": False},
        shows_args=True,
        classes="imagenet-1k",
        origin=f"keras.applications, InceptionV3, whose layers are numbered from {first}: no scale in its "
        "normalisations, means that do not count the padding",
    )


KEY_MAPS = (
    TORCHVISION_GOOGLENET,
    CADENE,
    TORCHVISION_V3,
    _keras_v3("keras_v3", 1),  # as in the file that Keras publishes
    _keras_v3("keras_v3_from_0", 0),  # as in one that a new process saves
)
