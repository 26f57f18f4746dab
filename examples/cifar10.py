"""Studies on CIFAR-10
===================

The articles' tables repeated, and questions that users ask. Without arguments it lists the studies and says which have
been run. With a name and your copy of CIFAR-10 it runs one, in seconds and without meaning; `--full` is what
docs/evidence reports of one processor core, `--gpu` the same with larger networks on a graphics card. A run that the
record has is not made again: stop it when you like, and give the same command to go on.

::

    python examples/cifar10.py
    python examples/cifar10.py methods --data cifar10:PATH
    python examples/cifar10.py methods --full --data cifar10:PATH \\
        --record docs/evidence/cifar_methods.json

PATH is the python version of https://www.cs.toronto.edu/~kriz/cifar.html (archive or folder), a folder of images
(`train/CLASS/*.png`, `test/CLASS/*.png`), or a packed cifar10_jpeg.npz.
"""

import sys

from evidence import main
from evidence.cifar.studies import STUDIES
from evidence.pages import listing

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in STUDIES:
        main(STUDIES[name].study(), sys.argv[2:])
    elif name:
        sys.exit(f"There is no study {name!r}: it is one of {', '.join(STUDIES)}.")
    else:
        print(listing())
