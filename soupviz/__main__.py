"""`python -m soupviz`: the command line."""

from soupviz.startup import loading


def main() -> None:
    with loading():
        from soupviz import cli
    cli.main()


if __name__ == "__main__":
    main()
