from zoo_attack import *
