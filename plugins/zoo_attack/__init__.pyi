from zoo.spec import Plugin
from zoo.training.perturbation import PixelModel as PixelModel
from zoo.training.perturbation import PixelTransform as PixelTransform
from zoo.training.perturbation import under_attack as under_attack
from zoo_attack.gradient import applicable as applicable
from zoo_attack.gradient import fgsm as fgsm
from zoo_attack.gradient import pgd as pgd
from zoo_attack.gradient import random_sign as random_sign
from zoo_attack.method import Method as Method
from zoo_attack.patch import Patch as Patch
from zoo_attack.patch import Ranges as Ranges
from zoo_attack.patch import apply as apply
from zoo_attack.patch import read_patch as read_patch
from zoo_attack.patch_training import success as success
from zoo_attack.patch_training import train_patch as train_patch
from zoo_attack.robustness import curve as curve

plugin: Plugin
