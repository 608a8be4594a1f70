"""HMAX: Gabor filters, maxima, prototypes cut out of images, maxima again, and a linear SVM.

Serre, Wolf, Bileschi, Riesenhuber, Poggio 2007, "Robust Object Recognition with Cortex-Like Mechanisms".

Faithful: 16 scales and 4 orientations of S1 with the sizes, deviations and wavelengths of table 1; C1's
eight bands, windows and steps; 250 prototypes of each of four sizes, cut out of C1's maps of training images,
all orientations at once, at random; C2's maximum over all bands and positions; one-vs-all linear SVMs on
standardised features, folded into the linear layer ``fc``.

Chosen where we know no better: each S1 response is over the norm of the square patch it sees; cells that reach over the
border are silent; a prototype's band is drawn at random from all eight, where the authors' release takes band 2; a map
smaller than a prototype is continued by silence. beta = 4 for the smallest prototypes, less for larger ones in inverse
proportion to their area: found on held-out training images.

Deviates: the input is a square of 140 pixels, resized and cut out of the centre as for all models here, where
the paper keeps the whole width of an image 140 pixels high. The network takes any size from 37 pixels on. No
gentleBoost. A colour image becomes grey inside the network (luma; the mean where there are not three channels).
"""

from zoo.spec import Argument, Model, Paper, Plugin, Requirement, unscaled

SERRE_2007 = Paper(
    title="Robust Object Recognition with Cortex-Like Mechanisms",
    authors="Thomas Serre, Lior Wolf, Stanley Bileschi, Maximilian Riesenhuber, Tomaso Poggio",
    year=2007,
    url="https://doi.org/10.1109/TPAMI.2007.56",
)

plugin = Plugin(
    name="hmax",
    api=2,
    models=(
        Model(
            "hmax",
            build="zoo_hmax.model:HMAX",
            paper=SERRE_2007,
            # Black is 0: what is divided by a patch's norm must not depend on a mean.
            preprocess=unscaled(1, 140),
            params=102_102,
            macs=950_078_064,
            num_classes=102,
            head=("fc",),
            stages=tuple(f"c1.{band}" for band in range(8)),
            train="zoo_hmax.training:train",
            fitted=True,
            requires=(Requirement("sklearn", "zoo-vision[data]"),),
            note="for Caltech-101; learns by cutting out prototypes and fitting a linear SVM",
        ),
    ),
    weights=("weights_manifest:hmax.toml",),
    recipes="zoo_hmax:recipes.toml",
    file_args={
        "prototypes": Argument(least=1, most=10_000),
        "beta": Argument(least=0.0, most=100.0),
        "scale_by_size": Argument((True, False)),
    },
)
