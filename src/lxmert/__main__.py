"""Run the command line as `python -m lxmert`, which `torchrun -m lxmert` needs."""

from lxmert.cli.main import main

if __name__ == "__main__":
    main()
