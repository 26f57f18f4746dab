"""Run random programs: `python tests/programs/fuzz.py 100000`; the last line says what was found."""

import argparse
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
if __name__ == "__main__":
    sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[1] / "backends")]

import numpy as np  # noqa: E402

from mixlayers import MixingError  # noqa: E402
from tests.programs import programs_parts  # noqa: E402
from tests.programs.programs_draw import program_of  # noqa: E402
from tests.programs.world import World  # noqa: E402
from tests.programs.world_judging import Difference, Over  # noqa: E402

FRAMEWORKS = ("torch", "paddle", "chainer")


def framework(name):
    """A framework as tests use it, and the parts of its nets."""
    import_module(f"mixlayers.{name}")
    fw = getattr(import_module(f"tests.support.fw_{name}"), name.title())()
    return fw, getattr(programs_parts, f"{name}_parts")(fw)


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
        if not may_refuse(world, name, arguments, error):
            raise Difference(
                f"a false alarm at {name}{arguments}: {type(error).__name__}: {error}"
            ) from error
        refused = True
    world.afterwards()
    return refused


def may_refuse(world, name, arguments, error):
    """Whether a refusal is one that the documentation names, or a limit of the framework itself."""
    text = str(error)
    if "cannot be told from" in text:
        return any(
            not made.returned or (world.fw.name == "paddle" and "reentrant" in made.kinds)
            for made in world.outputs
        )
    if (
        "the wrapped model has not run" in text
    ):  # the criterion's own, and the output is another's, that keeps it
        return any(not each.mixer._entered for each in world.all if each.implicit)
    if "no loss used the mixed target" in text:  # owed, since what was kept has no other way to tell
        return any(not made.returned and made.plan is not None and not made.used for made in world.outputs)
    if (
        "inside its own mixed forward" in text
    ):  # no_backprop_mode is what F.forget itself is in, in its forward
        return world.fw.name == "chainer" and name == "calls" and arguments[2] == "no grad"
    return world.fw.name == "paddle" and "only one pair of hooks is allowed" in text


def program(fw, parts, seed, number):
    rng = np.random.default_rng((seed, number))
    return program_of(lambda bound: int(rng.integers(bound)), parts)


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
