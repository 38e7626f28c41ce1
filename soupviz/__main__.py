"""`python -m soupviz`: the command line."""

import sys

from soupviz.cli.startup import loading


def main() -> None:
    with loading():
        try:
            from soupviz.cli.run import main as run
        except ModuleNotFoundError as error:
            raise SystemExit(
                f"soupviz: {error.name} is not installed for {sys.executable}. Activate the environment that soupviz "
                f"was installed in, or install it here: {sys.executable} -m pip install {error.name}"
            ) from None
    run()


if __name__ == "__main__":
    main()
