"""`python -m soupviz`: the command line."""

from soupviz.cli.startup import loading


def main() -> None:
    with loading():
        from soupviz.cli.run import main as run
    run()


if __name__ == "__main__":
    main()
