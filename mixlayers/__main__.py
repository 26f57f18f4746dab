"""`python -m mixlayers`: the same as the command `mixlayers`."""

from mixlayers.cli import main

if __name__ == "__main__":
    main()
