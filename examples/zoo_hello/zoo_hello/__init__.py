"""A family of one small network. `zoo list` imports this module, so it does not import torch."""

from zoo.spec import Model, Plugin, Preprocess

plugin = Plugin(
    name="hello",
    api=2,
    models=(
        Model(
            "hello_net",
            build="zoo_hello.model:hello_net",
            preprocess=Preprocess(input_size=(1, 8, 8), crop_pct=1.0, mean=(0.305,), std=(0.376,)),
            params=5_178,
            macs=83_264,
            num_classes=10,
            head=("fc",),
            stem=("conv1",),
            stages=("conv1", "conv2"),
            note="two convolutions for 8 x 8 digits",
        ),
    ),
    weights=("zoo_hello:manifest.toml",),
    recipes="zoo_hello:recipes.toml",
)
