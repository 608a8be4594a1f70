from zoo_transfer.classifiers import *
