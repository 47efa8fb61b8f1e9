"""`python -m sidestep_cli` is `sidestep`."""

from sidestep_cli.main import main

if __name__ == "__main__":
    main()
