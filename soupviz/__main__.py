"""`python -m soupviz`: the command line."""

import sys

from soupviz.cli.startup import loading


def main() -> None:
    with loading():
        try:
            from soupviz.cli.run import main as run
        except ModuleNotFoundError as error:
            if str(error.name).partition(".")[0] == "soupviz":
                raise
            told = f"soupviz: {error.name} is not installed for {sys.executable}"
            sys.stderr.write(f"{told}; activate the environment that soupviz was installed in.\n")
            sys.exit(2)
    run()


if __name__ == "__main__":
    main()
