"""Before deep learning: local descriptors, a code of them, a classifier; and features of one layer by k-means.

Lowe 2004 (SIFT), Bay et al. 2006 (SURF), Dalal and Triggs 2005 (HOG); Csurka et al. 2004 (bags of words), Jegou et
al. 2010 (VLAD), Perronnin et al. 2010 (Fisher vectors), Lazebnik et al. 2006 (spatial pyramids); linear and kernel
SVMs, neighbours, decision trees. Coates, Lee and Ng 2011 (k-means features).

Libraries do what they do well: OpenCV, mahotas and scikit-image describe images, scikit-learn clusters and fits. All
that is learnt is tensors, and torch codes and answers. Names hold the useful combinations; any other is built by
arguments: ``zoo train sift_bovw_svm --data cifar10 --arg coding=vlad --arg words=16``.

Faithful: the descriptors' own settings; L2-Hys blocks of HOG; Fisher vectors with power and L2 normalisation; 6x6
patches, contrast normalisation, ZCA, triangle activation and sums over quadrants of Coates and Ng.

Chosen where papers differ: RootSIFT on a grid of 8 pixels with upright patches of 16 (Fisher vectors: 16 and 24);
signed roots and norm 1 for every code; one against the rest for all SVMs, of codes as they are; neighbours vote by
1 / distance.

Deviates: the input is a square of 140 pixels, stretched if the image is not square. k-means starts from random samples
and ends after 100 passes at most, that of Coates and Ng after 50, whose SVMs end after 200 iterations of L-BFGS at
most, not after the authors' 1,000 (``steps``). A kernel SVM is exp(-gamma d^2) with gamma = 1 / (features x their
variance), where bags of words have kernels of their own. A colour image becomes grey inside the network (luma), but for
HOG, which takes the strongest channel's gradient, and for k-means features. mahotas leaves out SURF's patches that
would reach over the border.
"""

from typing import Any

from zoo.spec import Argument, Model, Paper, Plugin, Requirement, unscaled

LOWE_2004 = Paper(
    title="Distinctive Image Features from Scale-Invariant Keypoints",
    authors="David G. Lowe",
    year=2004,
    url="https://doi.org/10.1023/B:VISI.0000029664.99615.94",
)
CSURKA_2004 = Paper(
    title="Visual Categorization with Bags of Keypoints",
    authors="Gabriella Csurka, Christopher R. Dance, Lixin Fan, Jutta Willamowski, Cédric Bray",
    year=2004,
    url="https://www.cs.cmu.edu/~efros/courses/LBMV07/Papers/csurka-eccv-04.pdf",
)
DALAL_2005 = Paper(
    title="Histograms of Oriented Gradients for Human Detection",
    authors="Navneet Dalal, Bill Triggs",
    year=2005,
    url="https://doi.org/10.1109/CVPR.2005.177",
)
BAY_2006 = Paper(
    title="SURF: Speeded Up Robust Features",
    authors="Herbert Bay, Tinne Tuytelaars, Luc Van Gool",
    year=2006,
    url="https://doi.org/10.1007/11744023_32",
)
LAZEBNIK_2006 = Paper(
    title="Beyond Bags of Features: Spatial Pyramid Matching for Recognizing Natural Scene Categories",
    authors="Svetlana Lazebnik, Cordelia Schmid, Jean Ponce",
    year=2006,
    url="https://doi.org/10.1109/CVPR.2006.68",
)
JEGOU_2010 = Paper(
    title="Aggregating local descriptors into a compact image representation",
    authors="Hervé Jégou, Matthijs Douze, Cordelia Schmid, Patrick Pérez",
    year=2010,
    url="https://doi.org/10.1109/CVPR.2010.5540039",
)
PERRONNIN_2010 = Paper(
    title="Improving the Fisher Kernel for Large-Scale Image Classification",
    authors="Florent Perronnin, Jorge Sánchez, Thomas Mensink",
    year=2010,
    url="https://doi.org/10.1007/978-3-642-15561-1_11",
)
COATES_2011 = Paper(
    title="An Analysis of Single-Layer Networks in Unsupervised Feature Learning",
    authors="Adam Coates, Honglak Lee, Andrew Y. Ng",
    year=2011,
    url="https://proceedings.mlr.press/v15/coates11a.html",
)
EXTRA = "zoo-vision[classical]"
LIBRARIES = {"sift": "cv2", "surf": "mahotas", "hog": "skimage"}


def _row(name: str, *, paper: Paper, params: int, note: str, **args: Any) -> Model:
    library = LIBRARIES[args.get("descriptor", "sift")]
    return Model(
        name,
        build="zoo_classical.model:classical",
        args=args,
        paper=paper,
        preprocess=unscaled(3, 140, crop_mode="squash"),  # what is at the sides of a photograph counts
        params=params,
        num_classes=102,
        head=("head",),
        stages=("coding",),
        train="zoo_classical.training:train",
        fitted=True,
        requires=(Requirement(library, EXTRA), Requirement("sklearn", EXTRA)),
        note=note,
    )


plugin = Plugin(
    name="classical",
    api=2,
    models=(
        _row("sift_bovw_svm", paper=CSURKA_2004, params=40_902, note="dense SIFT, 400 words, linear SVM"),
        _row(
            "sift_spm_svm",
            paper=LAZEBNIK_2006,
            params=428_502,
            pyramid=(1, 2, 4),
            words=200,
            note="dense SIFT, 200 words in a spatial pyramid, linear SVM",
        ),
        _row(
            "sift_bovw_rbf",
            paper=CSURKA_2004,
            params=156_162,
            classifier="rbf_svm",
            held=1530,
            note="dense SIFT, 400 words, SVM with a Gaussian kernel",
        ),
        _row(
            "sift_bovw_knn",
            paper=CSURKA_2004,
            params=156_060,
            words=100,
            pyramid=(1, 2),
            classifier="knn",
            neighbours=10,
            held=1530,
            note="dense SIFT, 100 words in the whole and in quadrants, 10 neighbours",
        ),
        _row(
            "sift_bovw_tree",
            paper=CSURKA_2004,
            params=102,
            words=100,
            pyramid=(1, 2),
            classifier="tree",
            leaf=3,
            note="dense SIFT, 100 words in the whole and in quadrants, a decision tree",
        ),
        _row(
            "sift_keypoint_bovw_svm",
            paper=LOWE_2004,
            params=40_902,
            sampling="keypoints",
            note="SIFT at its keypoints, 400 words, linear SVM",
        ),
        _row(
            "sift_vlad_svm",
            paper=JEGOU_2010,
            params=417_894,
            coding="vlad",
            words=32,
            note="dense SIFT, VLAD with 32 words, linear SVM",
        ),
        _row(
            "sift_fisher_svm",
            paper=PERRONNIN_2010,
            params=783_462,
            sides=(16, 24),
            coding="fisher",
            words=16,
            components=48,
            pyramid=(1, 2),
            note="dense SIFT, Fisher vectors of 16 Gaussians of the whole and of quadrants, linear SVM",
        ),
        _row(
            "surf_bovw_svm",
            paper=BAY_2006,
            params=40_902,
            descriptor="surf",
            sampling="keypoints",
            note="SURF at its keypoints, 400 words, linear SVM",
        ),
        _row(
            "hog_svm",
            paper=DALAL_2005,
            params=940_134,
            descriptor="hog",
            coding="none",
            features=9216,
            note="HOG of the whole image, linear SVM",
        ),
        _row(
            "hog_rbf",
            paper=DALAL_2005,
            params=156_162,
            descriptor="hog",
            coding="none",
            features=9216,
            classifier="rbf_svm",
            held=1530,
            note="HOG of the whole image, SVM with a Gaussian kernel",
        ),
        Model(
            "kmeans_svm",
            build="zoo_classical.kmeans:KMeansNet",
            paper=COATES_2011,
            preprocess=unscaled(3, 32),
            params=236_810,
            macs=134_538_256,
            num_classes=10,
            head=("fc",),
            stem=("triangle",),
            stages=("triangle",),
            train="zoo_classical.training:train",
            fitted=True,
            requires=(Requirement("sklearn", EXTRA),),
            note="1,600 k-means features of 6x6 patches, linear SVM",
        ),
    ),
    weights=("weights_manifest:classical.toml",),
    recipes="zoo_classical:recipes.toml",
    hook_args="zoo_classical.constants:Constants",
    file_args={
        "descriptor": Argument(("sift", "surf", "hog")),
        "sampling": Argument(("grid", "keypoints")),
        "sides": Argument(least=4, most=256, longest=8),
        "step": Argument(least=1, most=256),
        "coding": Argument(("bovw", "vlad", "fisher", "none")),
        "words": Argument(least=1, most=10_000),
        "components": Argument(least=0, most=512),
        "pyramid": Argument(least=1, most=8, longest=4),
        "power": Argument(least=0.0, most=1.0),
        "classifier": Argument(("linear_svm", "rbf_svm", "knn", "tree")),
        "neighbours": Argument(least=1, most=1000),
        "depth": Argument(least=0, most=1000),
        "leaf": Argument(least=1, most=1000),
        "held": Argument(least=1, most=100_000),
        "samples": Argument(least=1, most=10_000_000),
        "features": Argument(least=0, most=100_000),
        "centroids": Argument(least=1, most=10_000),
        "passes": Argument(least=1, most=1000),
        "steps": Argument(least=1, most=100_000),
    },
)
