"""Run random programs: `python tests/programs/fuzz.py 100000`; the last line says what was found."""

import argparse
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
if __name__ == "__main__":
    folders = [HERE, *(HERE.parent / name for name in ("frameworks", "torch", "paddle", "chainer"))]
    sys.path[:0] = [str(folder) for folder in (*folders, HERE.parents[1], HERE.parents[1] / "backends")]

import numpy as np  # noqa: E402
import programs_nets as nets  # noqa: E402
from programs_draw import operations_of, world_of  # noqa: E402
from world import Difference, Over, World  # noqa: E402

from mixlayers import MixingError  # noqa: E402

FRAMEWORKS = ("torch", "paddle", "chainer")


def framework(name):
    """A framework as tests use it, and the parts of its nets."""
    import_module(f"mixlayers.{name}")
    fw = getattr(import_module(f"fw_{name}"), name.title())()
    return fw, getattr(nets, f"{name}_parts")(fw)


def run(fw, parts, settings, operations):
    """Run a program; returns whether it was refused somewhere.

    Raises:
        Difference: If the library was silent and wrong, or refused what is right.
    """
    world = World(fw, parts, **settings)
    refused = False
    try:
        for name, arguments in operations:
            getattr(world, name)(*arguments)
    except Over:
        refused = True
    except (MixingError, ValueError, RuntimeError, OSError) as error:
        if not may_refuse(world, name, error):
            raise Difference(
                f"a false alarm at {name}{arguments}: {type(error).__name__}: {error}"
            ) from error
        refused = True
    world.afterwards()
    return refused


def may_refuse(world, name, error):
    """Whether a refusal is one that the documentation names, or a limit of the framework itself."""
    text = str(error)
    if world.fw.name == "paddle":
        return "only one pair of hooks is allowed" in text or (
            "cannot be told from" in text and any(made.how == "reentrant" for made in world.outputs)
        )
    return False


def program(fw, parts, seed, number):
    rng = np.random.default_rng((seed, number))
    settings = world_of(rng, parts)
    return settings, operations_of(rng, parts, settings)


def listing(settings, operations):
    return "\n".join([f"  World({settings})", *(f"  .{name}{arguments}" for name, arguments in operations)])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=1000)
    parser.add_argument("--framework", choices=[*FRAMEWORKS, "all"], default="all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replay", metavar="SEED:NUMBER", help="one program, with its traceback")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    names = FRAMEWORKS if options.framework == "all" else [options.framework]
    if options.replay:
        seed, number = map(int, options.replay.split(":"))
        for name in names:
            fw, parts = framework(name)
            made = program(fw, parts, seed, number)
            print(name, listing(*made), sep="\n")
            print("refused:", run(fw, parts, *made))
        return 0
    programs = refusals = differences = 0
    for name in names:
        fw, parts = framework(name)
        begun = time.perf_counter()
        share = options.count // len(names) + (name == names[0]) * (options.count % len(names))
        for number in range(share):
            made = program(fw, parts, options.seed, number)
            programs += 1
            try:
                refusals += run(fw, parts, *made)
            except Exception as error:
                differences += 1
                if differences <= 10:
                    print(f"{name} {options.seed}:{number}: {type(error).__name__}: {str(error)[:400]}")
                    print(listing(*made), flush=True)
        print(f"{name}: {share / (time.perf_counter() - begun):.0f} programs a second", flush=True)
    print(f"{programs} programs, {refusals} refusals, {differences} silent differences")
    return int(differences > 0)


if __name__ == "__main__":
    sys.exit(main())
